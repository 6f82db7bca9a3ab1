//! Which machine this is: what a copied disk that boots elsewhere does not take along.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use manman_common::session::Machine;
use sha2::{Digest as _, Sha256};

/// What identifies this machine, with the data directory on it. What can not be read is left out, and
/// a half of which nothing can be read says nothing.
#[must_use]
pub fn this_machine(data_dir: &Path) -> Machine {
    // Two machines in one test; a build that people run looks at the machine alone.
    #[cfg(debug_assertions)]
    if let Some(said) = std::env::var("MANMAN_TEST_MACHINE").ok().and_then(|text| parse(&text)) {
        return said;
    }
    let root = Path::new("/");
    Machine {
        hardware: hashed([board(root), first_card(root)]),
        software: hashed([line(&root.join("etc/machine-id")), file_system(root, data_dir)]),
    }
}

/// `hw1,hw2;sw1,sw2`.
#[cfg(debug_assertions)]
fn parse(text: &str) -> Option<Machine> {
    let (hardware, software) = text.split_once(';')?;
    let half = |half: &str| half.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    Some(Machine { hardware: half(hardware), software: half(software) })
}

/// A serial number is nobody else's business; that it is the same is all that is asked of it.
fn hashed<const N: usize>(found: [Option<String>; N]) -> Vec<String> {
    let hash = |text: String| Sha256::digest(format!("manman machine {text}")).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    found.into_iter().flatten().map(hash).collect()
}

fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_ascii_lowercase()).filter(|text| !text.is_empty())
}

/// The board's own number, for root alone to read. Boards whose maker wrote none have this in its place.
fn board(root: &Path) -> Option<String> {
    let is_none = |uuid: &str| uuid.chars().all(|c| matches!(c, '0' | '-')) || uuid.chars().all(|c| matches!(c, 'f' | '-'));
    line(&root.join("sys/class/dmi/id/product_uuid")).filter(|uuid| !is_none(uuid)).map(|uuid| format!("board {uuid}"))
}

/// The first network card, by its name, that is a piece of hardware: bridges and tunnels come and go.
fn first_card(root: &Path) -> Option<String> {
    let mut cards: Vec<PathBuf> =
        std::fs::read_dir(root.join("sys/class/net")).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    cards.sort();
    let address = |card: &PathBuf| line(&card.join("address")).filter(|address| address.chars().any(|c| !matches!(c, '0' | ':')));
    cards.iter().filter(|card| card.join("device").exists()).find_map(address).map(|address| format!("card {address}"))
}

/// The uuid of the file system that the directory is on, where it is on a disk that has one.
fn file_system(root: &Path, directory: &Path) -> Option<String> {
    let meta = std::fs::metadata(directory).ok()?;
    let number = format!("{}:{}", rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let mounts = std::fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let device = source_of(&mounts, &number, directory)?.canonicalize().ok()?;
    let by_uuid = std::fs::read_dir(root.join("dev/disk/by-uuid")).ok()?;
    by_uuid
        .filter_map(Result::ok)
        .find(|entry| entry.path().canonicalize().is_ok_and(|target| target == device))
        .map(|entry| format!("file system {}", entry.file_name().to_string_lossy().to_ascii_lowercase()))
}

/// The device of the mount with this number, else of the innermost one around the directory.
fn source_of(mountinfo: &str, number: &str, directory: &Path) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let (number, _root, point) = (left.next()?, left.next()?, left.next()?);
        Some((number, Path::new(point), Path::new(right.split(' ').nth(1)?)))
    });
    let around = |(of, point, source): (&str, &Path, &Path)| {
        let here = of == number || directory.starts_with(point);
        (here && source.starts_with("/dev")).then(|| ((of == number, point.as_os_str().len()), source.to_owned()))
    };
    mounts.filter_map(around).max_by_key(|(rank, _)| *rank).map(|(_, source)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    #[test]
    fn what_is_missing_is_left_out() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!((board(root.path()), first_card(root.path()), file_system(root.path(), root.path())), (None, None, None));
        write(root.path(), "sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
        assert_eq!(board(root.path()), None, "its maker wrote none");
        write(root.path(), "sys/class/net/docker0/address", "02:42:00:00:00:01\n");
        write(root.path(), "sys/class/net/eth1/address", "52:54:00:00:00:02\n");
        write(root.path(), "sys/class/net/eth1/device/vendor", "x");
        assert_eq!(first_card(root.path()), Some("card 52:54:00:00:00:02".to_owned()), "a bridge is none");
    }

    #[test]
    fn finds_the_disk_beneath_a_directory() {
        let mounts =
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:21 / /proc rw - proc proc rw\n24 22 0:40 /games /srv rw - btrfs /dev/sdb rw\n";
        let source = |number, directory| source_of(mounts, number, Path::new(directory));
        assert_eq!(source("8:1", "/home/x"), Some("/dev/sda1".into()));
        assert_eq!(source("0:99", "/srv/x"), Some("/dev/sdb".into()), "btrfs shows another number than its mount has");
        assert_eq!(source("0:21", "/proc/x"), Some("/dev/sda1".into()));
    }

    #[test]
    fn a_hash_tells_nothing_and_is_the_same_each_time() {
        let once = this_machine(Path::new("/"));
        assert_eq!(once, this_machine(Path::new("/")));
        assert!(once.is_same(&once));
        let said = parse("a,b;c").expect("it is one");
        assert_eq!((said.hardware.len(), said.software.len()), (2, 1));
    }
}
