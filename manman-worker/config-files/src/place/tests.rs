use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;

fn root(dir: &Path) -> Root {
    Root::open(dir, None).unwrap()
}

fn write(dir: &Path, path: &str, bytes: &[u8]) -> Result<(), Cause> {
    root(dir).place(path, true)?.ok_or(Cause::Path)?.replace(bytes)
}

#[test]
fn a_file_keeps_its_mode_and_a_hard_link_its_own_content() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("a.cfg"), dir.path().join("base.cfg"));
    std::fs::write(&file, "old").unwrap();
    std::fs::hard_link(&file, &link).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    write(dir.path(), "a.cfg", b"new").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    assert_eq!(std::fs::read(&link).unwrap(), b"old", "the shared install is not written through");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn new_files_and_folders_are_the_owners() {
    let dir = tempfile::tempdir().unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let root = Root::open(dir.path(), Some((1234, 1235))).unwrap();
    root.place("a/b/c.cfg", true).unwrap().unwrap().replace(b"x").unwrap();
    for (path, mode) in [("a", 0o755), ("a/b", 0o755), ("a/b/c.cfg", 0o600)] {
        let meta = std::fs::metadata(dir.path().join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1234, 1235, mode), "{path}");
    }
    std::os::unix::fs::chown(dir.path().join("a/b/c.cfg"), Some(77), Some(78)).unwrap();
    root.place("a/b/c.cfg", true).unwrap().unwrap().replace(b"y").unwrap();
    let meta = std::fs::metadata(dir.path().join("a/b/c.cfg")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (77, 78), "whose it was stays whose it is");
}

#[test]
fn links_are_followed_within_and_never_out() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("server");
    std::fs::create_dir_all(dir.join("real")).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    symlink("real", dir.join("within")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink(outer.path(), dir.join("absolute")).unwrap();
    symlink("../secret", dir.join("file")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("/proc/self/root", dir.join("magic")).unwrap();
    write(&dir, "within/a", b"x").unwrap();
    assert_eq!(std::fs::read(dir.join("real/a")).unwrap(), b"x");
    for path in ["up/secret", "absolute/secret", "file", "dangling/a", "dangling", "magic/a", "within/../../secret"] {
        assert!(matches!(write(&dir, path, b"x"), Err(Cause::Link | Cause::Path)), "{path}");
        if let Ok(Some(place)) = root(&dir).place(path, false) {
            assert!(matches!(place.read(), Err(Cause::Link)), "{path}");
        }
    }
    for (way, errno) in [("up", Errno::LOOP), ("within", Errno::LOOP), ("none", Errno::NOENT), ("file/x", Errno::LOOP)] {
        assert_eq!(open_step_by_step(root(&dir).dir.as_fd(), Path::new(way)).unwrap_err(), errno, "{way}, on an old kernel");
    }
    assert!(open_step_by_step(root(&dir).dir.as_fd(), Path::new("real")).is_ok());
    assert_eq!(std::fs::read(outer.path().join("secret")).unwrap(), b"s");
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2);
}

#[test]
fn only_a_regular_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    fs::mknodat(fs::CWD, dir.path().join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for name in ["folder", "fifo"] {
        let place = root(dir.path()).place(name, true).unwrap().unwrap();
        assert!(matches!(place.read(), Err(Cause::NotAFile)), "{name}");
        assert!(matches!(place.replace(b""), Err(Cause::NotAFile)), "{name}");
        assert!(matches!(root(dir.path()).place("fifo/x", true), Err(Cause::NotAFile)));
    }
    let large = std::fs::File::create(dir.path().join("large")).unwrap();
    large.set_len(MAX_FILE + 1).unwrap();
    assert!(matches!(root(dir.path()).place("large", true).unwrap().unwrap().read(), Err(Cause::TooLarge)));
}

#[test]
fn what_a_crash_left_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(NEW), "half").unwrap();
    write(dir.path(), "a", b"whole").unwrap();
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"whole");
    assert!(!dir.path().join(NEW).exists());
    symlink("/etc/passwd", dir.path().join(NEW)).unwrap();
    write(dir.path(), "a", b"again").unwrap();
    assert!(!dir.path().join(NEW).exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_path_escapes(path in "(/|\\.\\.|\\.|a|up|abs|in|\u{0}|\u{1f600}|b\\\\c| ){1,8}") {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("server");
        std::fs::create_dir_all(dir.join("a")).unwrap();
        symlink("..", dir.join("up")).unwrap();
        symlink(outer.path(), dir.join("abs")).unwrap();
        symlink("a", dir.join("in")).unwrap();
        symlink("../..", dir.join("a/up")).unwrap();
        let (Ok(()) | Err(_)) = write(&dir, &path, b"x");
        let names: Vec<_> = std::fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(names, vec![std::ffi::OsString::from("server")]);
    }
}
