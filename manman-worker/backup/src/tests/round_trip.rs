//! Whatever was in the save folder is in it again, and nothing else; whatever is beside it stays.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::{House, tree};

#[derive(Clone, Debug)]
enum Op {
    File(Vec<usize>, Vec<u8>),
    Sparse(Vec<usize>, u32, Vec<u8>),
    Dir(Vec<usize>),
    Link(Vec<usize>, usize),
    Twin(Vec<usize>, Vec<usize>),
    Remove(Vec<usize>),
    Mode(Vec<usize>, u32),
    Time(Vec<usize>, i32, u32),
}

/// Names that hurt: long, of blanks, of no known encoding, like an option, like one of ours.
const NAMES: [&[u8]; 8] =
    [b"a", b"r.0.0.mca", "w\u{f6}rld".as_bytes(), b"\xff\xfe", b"-rf", b" x\ny ", b"manman-backup.json", &[b'l'; 200]];
const TARGETS: [&str; 6] = ["a", "../a", "/etc/hostname", "nowhere/at/all", "../../../../../../etc/passwd", "."];

fn path() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..NAMES.len(), 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..2000);
    prop_oneof![
        4 => (path(), bytes()).prop_map(|(path, bytes)| Op::File(path, bytes)),
        1 => (path(), 300_000..3_000_000_u32, bytes()).prop_map(|(path, size, bytes)| Op::Sparse(path, size, bytes)),
        1 => path().prop_map(Op::Dir),
        2 => (path(), 0..TARGETS.len()).prop_map(|(path, target)| Op::Link(path, target)),
        1 => (path(), path()).prop_map(|(path, other)| Op::Twin(path, other)),
        1 => path().prop_map(Op::Remove),
        1 => (path(), prop::sample::select(vec![0o600, 0o755, 0o400, 0, 0o777, 0o711])).prop_map(|(path, mode)| Op::Mode(path, mode)),
        1 => (path(), any::<i32>(), 0..1_000_000_000_u32).prop_map(|(path, seconds, nanos)| Op::Time(path, seconds, nanos)),
    ]
}

/// What can not be done (a file where a folder is wanted) is not done.
fn apply(save: &Path, ops: &[Op]) {
    let at = |names: &[usize]| names.iter().fold(save.to_owned(), |path: PathBuf, name| path.join(OsStr::from_bytes(NAMES[*name])));
    let above = |path: &Path| fs::create_dir_all(path.parent().unwrap()).is_ok();
    let there = |path: &Path| path.symlink_metadata().is_ok();
    let plain = |path: &Path| path.symlink_metadata().is_ok_and(|meta| !meta.is_symlink());
    // Nothing is made or changed through a link that an earlier step made.
    let inside = |path: &Path| path.ancestors().skip(1).take_while(|above| *above != save).all(|above| !above.is_symlink());
    for op in ops {
        let (Op::File(names, _)
        | Op::Sparse(names, ..)
        | Op::Dir(names)
        | Op::Link(names, _)
        | Op::Twin(names, _)
        | Op::Remove(names)
        | Op::Mode(names, _)
        | Op::Time(names, ..)) = op;
        let path = at(names);
        if !inside(&path) {
            continue;
        }
        let _ = match op {
            Op::File(_, bytes) if above(&path) && (plain(&path) || !there(&path)) => fs::write(&path, bytes),
            Op::Sparse(_, size, bytes) if above(&path) && !there(&path) => fs::write(&path, bytes)
                .and_then(|()| fs::OpenOptions::new().write(true).open(&path))
                .and_then(|file| file.set_len(u64::from(*size))),
            Op::Dir(_) => fs::create_dir_all(&path),
            Op::Link(_, target) if above(&path) => symlink(TARGETS[*target], &path),
            Op::Twin(_, other) if plain(&at(other)) && inside(&at(other)) && above(&path) => fs::hard_link(at(other), &path),
            Op::Remove(_) => fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)),
            Op::Mode(_, mode) if plain(&path) => fs::set_permissions(&path, fs::Permissions::from_mode(*mode)),
            Op::Time(_, seconds, nanos) => {
                let time = Timespec { tv_sec: i64::from(*seconds), tv_nsec: i64::from(*nanos) };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
            }
            _ => Ok(()),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn what_was_saved_is_there_again(first in prop::collection::vec(op(), 1..40), second in prop::collection::vec(op(), 0..40)) {
        let house = House::new();
        house.put("save/always", "there");
        house.put("saved/other", "not kept");
        let save = house.root().join("save");
        apply(&save, &first);
        let was = tree::of(&house.root(), "save");
        let made = house.create(&["save/**"]).unwrap();
        prop_assert_eq!(&made.changed, &[]);
        crate::verify(&made.path, &super::NEVER).unwrap();

        apply(&save, &second);
        apply(&house.root().join("saved"), &second);
        let now = tree::of(&house.root(), "save");
        let other = tree::of(&house.root(), "saved");
        let restored = house.restore(&made.path).unwrap();
        prop_assert_eq!(tree::of(&house.root(), "save"), was);
        prop_assert_eq!(tree::of(&house.root(), "saved"), other);
        prop_assert_eq!(tree::of(&restored.before.unwrap(), "save"), now);
    }

    #[test]
    fn each_file_can_be_a_unit_of_its_own(first in prop::collection::vec(op(), 1..30), second in prop::collection::vec(op(), 0..30)) {
        let house = House::new();
        house.put("save/always", "there");
        let save = house.root().join("save");
        apply(&save, &first);
        let was = tree::of(&house.root(), "save");
        let made = house.create(&["save/*/**", "save/*", "nothing/of/it/*"]).unwrap();
        prop_assert_eq!(&made.unmatched, &["nothing/of/it/*".to_owned()]);
        apply(&save, &second);
        house.restore(&made.path).unwrap();
        let mut now = tree::of(&house.root(), "save");
        // The folder itself is above the units, and is not touched but by what is moved in it.
        now.insert(b"save".to_vec(), was[b"save".as_slice()].clone());
        prop_assert_eq!(now, was);
    }
}
