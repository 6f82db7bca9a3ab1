#![no_main]
use libfuzzer_sys::fuzz_target;
use manman_fuzz::path::normalise;

fuzz_target!(|path: &str| {
    let Ok(normal) = normalise(path) else { return };
    assert!(normal.path.starts_with('/'), "{normal:?}");
    let segments: Vec<&str> = normal.path.split('/').skip(1).collect();
    for (number, segment) in segments.iter().enumerate() {
        let last = number + 1 == segments.len();
        assert!(!matches!(*segment, "." | ".."), "{normal:?}");
        assert!(!segment.is_empty() || last, "{normal:?}");
        let internal = segment.to_ascii_lowercase().starts_with("__internal");
        assert!(!internal || normal.internal, "{normal:?}");
    }
    let again = normalise(&normal.path).expect("what is normal can be normalised");
    assert_eq!((&again.path, again.internal), (&normal.path, normal.internal), "once is enough");
});
