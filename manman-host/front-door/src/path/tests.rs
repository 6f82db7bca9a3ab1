use proptest::prelude::*;

use super::*;

fn forwarded(path: &str) -> String {
    let normal = normalise(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(!normal.internal, "{path} is internal");
    normal.path.into_owned()
}

#[test]
fn w07_dot_segments_and_doubled_slashes_are_resolved() {
    for (path, wanted) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("//", "/"),
        ("/a//b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/a/.", "/a/"),
        ("/a/...", "/a/..."),
        ("/.hidden", "/.hidden"),
        ("/a%2fb", "/a%2fb"),
        ("/a%20b", "/a%20b"),
        ("/100%25", "/100%25"),
        ("/b%C3%BCcher", "/b%C3%BCcher"),
        ("/x/my__internal", "/x/my__internal"),
        ("/x/a;v=1/b", "/x/a;v=1/b"),
        ("/x/_internal", "/x/_internal"),
    ] {
        assert_eq!(forwarded(path), wanted, "{path}");
    }
}

#[test]
fn w07_no_disguise_of_internal_passes() {
    for path in [
        "/x/__internal/health",
        "/x/__internal",
        "/x/__internalfoo",
        "/x/__InTernal/health",
        "/x/%5f%5finternal",
        "/x/_%5Finternal",
        "/x/%255f%255finternal",
        "/x/%25255f_internal",
        "/x/%5f%5f%69%6e%74%65%72%6e%61%6c",
        "/x/a/../__internal",
        "/x/a/%2e%2e/__internal",
        "/x//__internal",
        "//__internal",
        "/x/./__internal",
        "/x/a\\__internal",
        "/x/a%5c__internal",
        "/x/a%2f__internal",
        "/x/a%252f__internal",
        "/x/__internal;v=1",
        "/x/__internal%3bv",
        "/x/%20__internal",
        "/x/__internal/../__internal",
        "/x/\u{ff3f}\u{ff3f}internal",
        "/x/%EF%BC%BF%EF%BC%BFinternal",
        "/x/%EF%BC%BF_%EF%BD%89nternal",
    ] {
        match normalise(path) {
            Ok(normal) => assert!(normal.internal, "{path} passes as {}", normal.path),
            Err(error) => panic!("{path} is refused, and not for being internal: {error}"),
        }
    }
}

#[test]
fn w07_what_has_two_readings_is_refused() {
    for (path, wanted) in [
        ("x", PathError::NoSlash),
        ("", PathError::NoSlash),
        ("*", PathError::NoSlash),
        ("/x/%", PathError::Escape),
        ("/x/%5", PathError::Escape),
        ("/x/%u005f", PathError::Escape),
        ("/x/%252525252525255f", PathError::TooDeep),
        ("/x/%00", PathError::Control),
        ("/x/%250a", PathError::Control),
        ("/x/%c0%af__internal", PathError::Overlong),
        ("/x/%e0%80%af__internal", PathError::Overlong),
        ("/x/..;/y", PathError::Ambiguous),
        ("/x/%252e%252e/y", PathError::Ambiguous),
        ("/x/..%2fy", PathError::Ambiguous),
        ("/x/..\\y", PathError::Ambiguous),
    ] {
        assert_eq!(normalise(path), Err(wanted), "{path}");
    }
}

/// The most lenient server that there may be: it does everything that any would.
fn lenient_segments(path: &str) -> Vec<String> {
    let mut text = path.as_bytes().to_vec();
    loop {
        let again = decode_leniently(&text);
        if again == text {
            break;
        }
        text = again;
    }
    let text = String::from_utf8_lossy(&text).to_lowercase().replace('\\', "/");
    let mut kept: Vec<String> = Vec::new();
    for segment in text.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        match name {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name.to_owned()),
        }
    }
    kept
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/".to_owned()),
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just("%2e".to_owned()),
        Just("%2f".to_owned()),
        Just("%5c".to_owned()),
        Just("\\".to_owned()),
        Just(";".to_owned()),
        Just("__internal".to_owned()),
        Just("__".to_owned()),
        Just("_".to_owned()),
        Just("%5f".to_owned()),
        Just("%255f".to_owned()),
        Just("%25".to_owned()),
        Just("INTERNAL".to_owned()),
        Just("x".to_owned()),
        "[ -~]{1,3}",
        "%[0-9a-fA-F]{2}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn w07_what_passes_is_not_internal_to_the_most_lenient_server(pieces in prop::collection::vec(piece(), 0..12)) {
        let path = format!("/{}", pieces.concat());
        if let Ok(normal) = normalise(&path)
            && !normal.internal
        {
            for segment in lenient_segments(&normal.path) {
                prop_assert!(!segment.trim().starts_with("__internal"), "{path} is forwarded as {}", normal.path);
            }
        }
    }

    #[test]
    fn w07_what_is_forwarded_is_normal_already(pieces in prop::collection::vec(piece(), 0..12)) {
        let path = format!("/{}", pieces.concat());
        if let Ok(normal) = normalise(&path) {
            let again = normalise(&normal.path).expect("what was normal once is so again");
            prop_assert_eq!(&again.path, &normal.path);
            prop_assert_eq!(again.internal, normal.internal);
            prop_assert!(normal.path.starts_with('/') && !normal.path.contains("//"));
        }
    }
}
