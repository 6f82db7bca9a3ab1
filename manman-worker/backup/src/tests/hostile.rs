//! Archives that somebody made to do harm, and archives that time damaged.

use std::fs;
use std::io::{Read, Seek, SeekFrom};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{House, server, tree};
use crate::manifest::{Content, Entry, Hash, Head, Kind, Manifest, Time};
use crate::path::RelPath;
use crate::writer::Writer;
use crate::{BackupError, verify_bytes};

fn content(bytes: &[u8]) -> Content {
    Content { size: bytes.len() as u64, sha256: Hash(Sha256::digest(bytes).into()), pieces: None, changed: false }
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: RelPath::new(path), mode: 0o755, mtime: Time(1, 0), kind }
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File(content(b"data")))
}

fn dir(path: &str) -> Entry {
    entry(path, Kind::Dir)
}

fn link(path: &str, to: &str) -> Entry {
    entry(path, Kind::Symlink(RelPath::new(to)))
}

fn twin(path: &str, of: &str) -> Entry {
    entry(path, Kind::HardLink(RelPath::new(of)))
}

fn manifest(entries: Vec<Entry>) -> Manifest {
    let files = entries.iter().filter(|entry| matches!(entry.kind, Kind::File(_)));
    let (count, bytes) = files.fold((0, 0_u64), |(count, bytes), entry| match &entry.kind {
        Kind::File(content) => (count + 1, bytes.saturating_add(content.kept())),
        _ => (count, bytes),
    });
    let head = Head {
        version: 1,
        server: server(),
        game: "docker:games/world".parse().unwrap(),
        made_at: chrono::DateTime::UNIX_EPOCH,
        note: String::new(),
        patterns: vec!["w/**".into(), "**/f".into()],
        files: count,
        bytes,
    };
    Manifest { head, entries }
}

/// An archive with these entries, whatever they are; each file holds `data`.
fn forge(manifest: &Manifest, written: &[Entry], data: &[u8], more: &[u8]) -> Vec<u8> {
    let mut out = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(out.try_clone().unwrap());
    for entry in written {
        writer.header(entry).unwrap();
        if let Kind::File(_) = entry.kind {
            writer.data(data).unwrap();
            writer.pad(data.len() as u64).unwrap();
        }
    }
    writer.data(more).unwrap();
    writer.finish(manifest).unwrap();
    let mut bytes = Vec::new();
    out.seek(SeekFrom::Start(0)).unwrap();
    out.read_to_end(&mut bytes).unwrap();
    bytes
}

fn forged(entries: Vec<Entry>) -> Vec<u8> {
    let manifest = manifest(entries);
    forge(&manifest, &manifest.entries.clone(), b"data", b"")
}

/// Refused by `verify` and by `restore`, which leaves the directory, and what is around it, as it was.
fn refused(name: &str, bytes: &[u8]) -> BackupError {
    let house = House::new();
    house.put("w/mine", "mine");
    let archive = house.dir.path().join("forged.tar.zst");
    fs::write(&archive, bytes).unwrap();
    let was = tree::of(house.dir.path(), "");
    let error = verify_bytes(bytes).expect_err(name);
    let other = house.restore(&archive).expect_err(name);
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&other), "{name}: {error} / {other}");
    let contents = |tree: tree::Tree| tree.into_keys().collect::<Vec<_>>();
    assert_eq!(contents(tree::of(house.dir.path(), "")), contents(was), "{name}");
    assert_eq!(house.get("w/mine"), b"mine", "{name}");
    error
}

#[test]
fn the_forger_can_make_good_ones() {
    let good = forged(vec![dir("w"), file("w/a"), link("w/l", "/etc/passwd"), twin("w/t", "w/a"), dir("x"), dir("x/y"), file("x/y/f")]);
    verify_bytes(&good).unwrap();
}

#[test]
fn entries_that_lead_out_are_refused() {
    let long = "n".repeat(256);
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("dot dot", vec![dir("w"), file("w/../../escaped")]),
        ("dot dot alone", vec![file("../f")]),
        ("absolute", vec![file("/tmp/f")]),
        ("empty", vec![file("")]),
        ("empty name", vec![dir("w"), file("w//a")]),
        ("dot", vec![dir("w"), file("w/./a")]),
        ("nul", vec![dir("w"), file("w/a\0b")]),
        ("long name", vec![dir("w"), file(&format!("w/{long}"))]),
        ("through a link", vec![dir("w"), link("w/out", "/tmp"), file("w/out/f")]),
        ("through a link that was a folder", vec![dir("w"), dir("w/d"), link("w/d", "/tmp"), file("w/d/f")]),
        ("below a file", vec![dir("w"), file("w/a"), file("w/a/f")]),
        ("twice", vec![dir("w"), file("w/a"), file("w/a")]),
        ("folder twice", vec![dir("w"), dir("w"), file("w/a")]),
        ("before its folder", vec![file("w/a"), dir("w")]),
        ("of another place", vec![dir("w"), file("w/a"), file("server.exe")]),
        ("folder of another place", vec![dir("w"), file("w/a"), dir("bin")]),
        ("hard link out", vec![dir("w"), file("w/a"), twin("w/t", "../../etc/shadow")]),
        ("hard link to an absolute path", vec![dir("w"), file("w/a"), twin("w/t", "/etc/shadow")]),
        ("hard link to a link", vec![dir("w"), file("w/a"), link("w/l", "/etc/shadow"), twin("w/t", "w/l")]),
        ("hard link to a folder", vec![dir("w"), file("w/a"), twin("w/t", "w")]),
        ("hard link to itself", vec![dir("w"), file("w/a"), twin("w/t", "w/t")]),
        ("hard link forward", vec![dir("w"), twin("w/t", "w/z"), file("w/z")]),
        ("empty link", vec![dir("w"), file("w/a"), link("w/l", "")]),
        ("odd mode", vec![dir("w"), Entry { mode: 0o170_000, ..file("w/a") }]),
        ("odd time", vec![dir("w"), Entry { mtime: Time(0, 1_000_000_000), ..file("w/a") }]),
    ];
    for (name, entries) in cases {
        let error = refused(name, &forged(entries));
        assert!(matches!(error, BackupError::Hostile { .. }), "{name}: {error:?}");
    }
}

#[test]
fn sizes_that_can_not_be_are_refused() {
    let of = |size: u64, pieces: Option<Vec<(u64, u64)>>| {
        vec![dir("w"), entry("w/a", Kind::File(Content { size, sha256: Hash::default(), pieces, changed: false }))]
    };
    let cases = [
        ("more than a file can have", of(u64::MAX, None)),
        ("beyond the end", of(10, Some(vec![(5, 6)]))),
        ("out of order", of(100, Some(vec![(50, 10), (0, 10)]))),
        ("overlapping", of(100, Some(vec![(0, 10), (5, 10)]))),
        ("empty piece", of(100, Some(vec![(0, 0)]))),
        ("overflow", of(100, Some(vec![(u64::MAX, 2)]))),
        ("too many pieces", of(1 << 40, Some((0..70_000).map(|n| (n * 10, 1)).collect()))),
    ];
    for (name, entries) in cases {
        let mut manifest = manifest(Vec::new());
        manifest.entries = entries;
        (manifest.head.files, manifest.head.bytes) = (1, 0);
        let error = refused(name, &forge(&manifest, &[], b"", b""));
        assert!(matches!(error, BackupError::Hostile { .. }), "{name}: {error:?}");
    }
}

#[test]
fn data_that_is_not_what_the_manifest_says_is_damage() {
    let good = || vec![dir("w"), file("w/a"), file("w/b")];
    let wrong = manifest(good());
    let cases = [
        ("other data", forge(&wrong, &good(), b"dada", b"")),
        ("no data", forge(&wrong, &[], b"", b"")),
        ("an entry is missing", forge(&wrong, &good()[..2], b"data", b"")),
        ("an entry more", forge(&wrong, &[good(), vec![file("w/c")]].concat(), b"data", b"")),
        ("another entry", forge(&wrong, &[dir("w"), file("w/a"), link("w/b", "/etc")], b"data", b"")),
        ("another name", forge(&wrong, &[dir("w"), file("w/a"), file("../b")], b"data", b"")),
        ("data behind", forge(&wrong, &good(), b"data", b"x")),
        // A hundred MiB of zeros behind the last entry: they are not even unpacked.
        ("a bomb", forge(&wrong, &good(), b"data", &vec![0; 100 << 20])),
    ];
    for (name, bytes) in cases {
        let error = refused(name, &bytes);
        assert!(matches!(error, BackupError::Damaged { .. }), "{name}: {error:?}");
    }
    let mut sums = manifest(good());
    sums.head.bytes -= 1;
    assert!(matches!(refused("sums", &forge(&sums, &good(), b"data", b"")), BackupError::Hostile { .. }));
    let mut newer = manifest(good());
    newer.head.version = 2;
    assert!(matches!(refused("newer", &forge(&newer, &good(), b"data", b"")), BackupError::Newer { version: 2, .. }));
    let mut patterns = manifest(good());
    patterns.head.patterns = vec!["../**".into()];
    assert!(matches!(refused("patterns", &forge(&patterns, &good(), b"data", b"")), BackupError::Hostile { .. }));
}

#[test]
fn every_cut_every_added_byte_and_every_flipped_bit_is_met_calmly() {
    let good = forged(vec![dir("w"), file("w/a"), link("w/l", "x"), file("w/z")]);
    let head = verify_bytes(&good).unwrap();
    for length in 0..good.len() {
        assert!(verify_bytes(&good[..length]).is_err(), "cut to {length}");
    }
    assert!(verify_bytes(&[&good[..], b"\0"].concat()).is_err());
    assert!(verify_bytes(&[&good[..], &good[..]].concat()).is_err());
    assert!(verify_bytes(&[b"\0", &good[..]].concat()).is_err());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            // A bit that decoders ignore changes nothing.
            if let Ok(other) = verify_bytes(&bytes) {
                assert_eq!(other, head, "byte {at}, bit {bit}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_much_for_it(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(verify_bytes(&bytes).is_err());
    }

    /// A sound footer before nonsense.
    #[test]
    fn nonsense_with_a_footer_is_too(bytes in prop::collection::vec(any::<u8>(), 0..500), split in 0..500_usize, json in any::<u64>()) {
        let split = split.min(bytes.len());
        let hash = Hash(Sha256::digest(&bytes[split..]).into());
        let layout = crate::archive::Layout { data: split as u64, manifest: (bytes.len() - split) as u64, json, hash };
        prop_assert!(verify_bytes(&[bytes, layout.footer()].concat()).is_err());
    }
}
