use manman_common::spec::{FileEntry, FileFormat, FileValue};

use super::*;

pub(crate) fn file(path: &str, format: FileFormat, create: bool, set: &[(&str, FileValue)]) -> FileSpec {
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
