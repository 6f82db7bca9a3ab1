use manman_common::spec::{FileEntry, FileFormat, FileValue};

use proptest::prelude::*;

use super::*;

mod race;

const FORMATS: [FileFormat; 7] =
    [FileFormat::Properties, FileFormat::Ini, FileFormat::Json, FileFormat::Yaml, FileFormat::Toml, FileFormat::Xml, FileFormat::Line];

fn file(path: &str, format: FileFormat, create: bool, set: &[(&str, FileValue)]) -> FileSpec {
    let set = set.iter().map(|(key, value)| FileEntry { key: (*key).to_owned(), value: value.clone() }).collect();
    FileSpec { path: path.to_owned(), format, set, create }
}

fn text(text: &str) -> FileValue {
    FileValue::Text(text.to_owned())
}

#[test]
fn files_are_made_changed_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server.properties"), "#c\nserver-port=1\n").unwrap();
    let files = [
        file(
            "server.properties",
            FileFormat::Properties,
            false,
            &[("server-port", FileValue::Integer(25565)), ("pvp", FileValue::Truth(true))],
        ),
        file("Saved/Game.ini", FileFormat::Ini, true, &[("[Rcon].Password", text("p"))]),
        file("none/later.cfg", FileFormat::Line, false, &[("a", text("a b"))]),
        file("later.cfg", FileFormat::Line, false, &[("a", text("a b"))]),
    ];
    let outcomes = |files: &[FileSpec]| -> Vec<Outcome> {
        write(dir.path(), files, None).unwrap().into_iter().map(|written| written.outcome).collect()
    };
    assert_eq!(outcomes(&files), [Outcome::Changed, Outcome::Created, Outcome::Absent, Outcome::Absent]);
    assert_eq!(std::fs::read_to_string(dir.path().join("server.properties")).unwrap(), "#c\nserver-port=25565\npvp=true\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("Saved/Game.ini")).unwrap(), "[Rcon]\nPassword=p\n");
    assert!(!dir.path().join("none").exists());
    let ino = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.path().join(name)).unwrap());
    let before = ino("server.properties");
    assert_eq!(outcomes(&files), [Outcome::Unchanged, Outcome::Unchanged, Outcome::Absent, Outcome::Absent]);
    assert_eq!(ino("server.properties"), before, "nothing was written");
}

#[test]
fn an_error_names_file_and_key_and_never_the_value() {
    let dir = tempfile::tempdir().unwrap();
    let files = [file("a.cfg", FileFormat::Line, true, &[("password", text("password hunter2\nquit"))])];
    let error = write(dir.path(), &files, None).unwrap_err();
    assert_eq!(error.to_string(), "could not write `password` into the configuration file `a.cfg`");
    assert_eq!(error.cause.to_string(), "the value can not stand in this format: it has a line break");
    assert_eq!(error.hint(), "give the variable another value");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(!dir.path().join("a.cfg").exists());
}

#[test]
fn every_format_writes_a_new_file_and_reads_its_own_writing() {
    let dir = tempfile::tempdir().unwrap();
    let made = [
        (FileFormat::Properties, "server-port", "server-port=1\n"),
        (FileFormat::Ini, "[/Script/Engine.GameSession].MaxPlayers", "[/Script/Engine.GameSession]\nMaxPlayers=1\n"),
        (FileFormat::Json, "a2s.port", "{\n  \"a2s\": {\n    \"port\": 1\n  }\n}\n"),
        (FileFormat::Yaml, "settings.port", "settings:\n  port: 1\n"),
        (FileFormat::Toml, "server.port", "[server]\nport = 1\n"),
        (FileFormat::Xml, "/root/@port", "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<root port=\"1\"/>\n"),
        (FileFormat::Line, "sv_lan", "1\n"),
    ];
    for (format, key, content) in made {
        let files = [file(&format!("{format:?}"), format, true, &[(key, FileValue::Integer(1))])];
        assert_eq!(write(dir.path(), &files, None).unwrap()[0].outcome, Outcome::Created);
        assert_eq!(std::fs::read_to_string(dir.path().join(format!("{format:?}"))).unwrap(), content);
        assert_eq!(write(dir.path(), &files, None).unwrap()[0].outcome, Outcome::Unchanged);
    }
}

/// Every file that a definition of the catalogue names, made, and then found as it should be.
#[test]
fn the_catalogues_files_can_be_written() {
    #[derive(serde::Deserialize)]
    struct Definition {
        #[serde(default)]
        files: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        path: String,
        format: FileFormat,
        set: std::collections::BTreeMap<String, FileValue>,
    }
    // A template becomes a word that could be any variable's.
    let filled = |text: &str| -> String {
        let mut parts = text.split("{{");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |filled, part| filled + "1" + part.split_once("}}").map_or("", |(_, rest)| rest))
    };
    let games = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manman-host/games");
    let mut written = 0;
    for game in std::fs::read_dir(games).unwrap().map(|entry| entry.unwrap().path()) {
        if game.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let definition: Definition = serde_saphyr::from_str(&std::fs::read_to_string(&game).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<FileSpec> = definition
            .files
            .into_iter()
            .map(|Entry { path, format, set }| {
                let set = set.into_iter().map(|(key, value)| match value {
                    FileValue::Text(text) => FileEntry { key, value: FileValue::Text(filled(&text)) },
                    other => FileEntry { key, value: other },
                });
                FileSpec { path: filled(&path), format, set: set.collect(), create: true }
            })
            .collect();
        for outcome in [Outcome::Created, Outcome::Unchanged] {
            let done = write(dir.path(), &files, None).unwrap_or_else(|error| panic!("{}: {error}: {}", game.display(), error.cause));
            assert!(done.iter().all(|one| one.outcome == outcome), "{}: {done:?}", game.display());
            written += done.len();
        }
    }
    assert!(written >= 50, "the catalogue names few files: {written}");
}

/// What Unreal saves once a name in it is not plain.
#[test]
fn a_file_in_utf16_stays_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("GameUserSettings.ini");
    let bytes = |text: &str| -> Vec<u8> { "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect() };
    std::fs::write(&path, bytes("[SessionSettings]\r\nSessionName=Zo\u{eb}\r\n")).unwrap();
    let files = [file("GameUserSettings.ini", FileFormat::Ini, false, &[("[SessionSettings].SessionName", text("\u{1f600}"))])];
    assert_eq!(write(dir.path(), &files, None).unwrap()[0].outcome, Outcome::Changed);
    assert_eq!(std::fs::read(&path).unwrap(), bytes("[SessionSettings]\r\nSessionName=\u{1f600}\r\n"));
}

/// On a file system of its own, with room for less than the new file.
#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("none", dir.path(), "tmpfs", flags, Some(c"size=64k")).is_err() {
        eprintln!("not run: this user can mount nothing");
        return;
    }
    let path = dir.path().join("server.properties");
    let old = format!("a=1\n#{}\n", "x".repeat(40_000));
    std::fs::write(&path, &old).unwrap();
    let error = write(dir.path(), &[file("server.properties", FileFormat::Properties, true, &[("a", text("2"))])], None).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(error.hint(), "make room on the disk; the old file is whole");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), old);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half is left");
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]
    /// Whatever is in the file, and whatever is asked of it: a change that can be made again without
    /// effect, or an error and the same bytes.
    #[test]
    fn hostile_files_and_values_change_nothing_or_what_they_should(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            "[\\[\\]{}()<>/!?=:;,.#'\"\\\\&*|~%@ \t\r\na-c0-2\u{e4}-]{0,80}".prop_map(String::into_bytes),
        ],
        key in prop_oneof!["\\PC{0,10}", "[ab0./@\\[\\]()='-]{1,10}"],
        value in prop_oneof![
            any::<String>().prop_map(FileValue::Text), any::<i64>().prop_map(FileValue::Integer), any::<bool>().prop_map(FileValue::Truth)
        ],
        format in prop::sample::select(FORMATS.to_vec()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.properties");
        std::fs::write(&path, &bytes).unwrap();
        let files = [file("f.properties", format, true, &[(&key, value)])];
        match write(dir.path(), &files, None) {
            Ok(_) => {
                let once = std::fs::read(&path).unwrap();
                prop_assert_eq!(write(dir.path(), &files, None).unwrap()[0].outcome, Outcome::Unchanged, "{:?}", String::from_utf8_lossy(&once));
            }
            Err(_) => prop_assert_eq!(std::fs::read(&path).unwrap(), bytes),
        }
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
