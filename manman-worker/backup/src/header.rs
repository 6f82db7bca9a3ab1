//! The bytes of a tar archive that stand before each entry's data, made from the manifest alone.
//!
//! Reading does not parse them: it makes them again and compares. So there is one tar file for one
//! manifest, and no second reading of it by which something else could be meant. Other programs read
//! it as what it is (POSIX.1-2001, sparse files as GNU tar's 1.0).

use tar::{EntryType, Header};

use crate::manifest::{Content, Entry, Kind};

/// Data is below this folder, so that no file of a game can take the manifest's name.
const DATA: &[u8] = b"data/";
const MANIFEST: &[u8] = b"manman-backup.json";
pub(crate) const BLOCK: u64 = 512;
/// Two empty blocks end a tar archive.
pub(crate) const END: u64 = 2 * BLOCK;

/// How many zeros follow so much data.
pub(crate) const fn padding(length: u64) -> u64 {
    (BLOCK - length % BLOCK) % BLOCK
}

pub(crate) fn of_manifest(length: u64) -> Vec<u8> {
    let mut header = empty(EntryType::Regular, 0o600, 0);
    put(&mut header.as_old_mut().name, MANIFEST);
    header.set_size(length);
    finish(header)
}

/// The blocks before the data of an entry, with the map of a sparse file.
pub(crate) fn of_entry(entry: &Entry) -> Vec<u8> {
    let mut name = [DATA, entry.path.as_bytes()].concat();
    let (kind, target) = match &entry.kind {
        Kind::Dir => (EntryType::Directory, None),
        Kind::File(_) => (EntryType::Regular, None),
        Kind::Symlink(target) => (EntryType::Symlink, Some(target.as_bytes().to_vec())),
        Kind::HardLink(target) => (EntryType::Link, Some([DATA, target.as_bytes()].concat())),
    };
    if entry.kind == Kind::Dir {
        name.push(b'/');
    }
    let mut header = empty(kind, entry.mode, u64::try_from(entry.mtime.0).unwrap_or(0));
    let mut extra = Vec::new();
    let mut map = Vec::new();
    if let Kind::File(content) = &entry.kind {
        if let Some(pieces) = &content.pieces {
            map = sparse_map(content, pieces);
            record(&mut extra, "GNU.sparse.major", b"1");
            record(&mut extra, "GNU.sparse.minor", b"0");
            record(&mut extra, "GNU.sparse.name", &name);
            record(&mut extra, "GNU.sparse.realsize", content.size.to_string().as_bytes());
            name = [DATA, b"GNUSparseFile.0/", entry.path.split().1].concat();
        }
        header.set_size(content.kept() + map.len() as u64);
    }
    if !put(&mut header.as_old_mut().name, &name) {
        record(&mut extra, "path", &name);
    }
    if let Some(target) = target
        && !put(&mut header.as_old_mut().linkname, &target)
    {
        record(&mut extra, "linkpath", &target);
    }
    let mut bytes = Vec::new();
    if !extra.is_empty() {
        let mut before = empty(EntryType::XHeader, 0o600, 0);
        put(&mut before.as_old_mut().name, b"manman-pax");
        before.set_size(extra.len() as u64);
        bytes = finish(before);
        let zeros = padding(extra.len() as u64);
        bytes.append(&mut extra);
        bytes.extend(std::iter::repeat_n(0, usize::try_from(zeros).unwrap_or(0)));
    }
    bytes.append(&mut finish(header));
    bytes.append(&mut map);
    bytes
}

fn empty(kind: EntryType, mode: u32, seconds: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(seconds);
    header.set_size(0);
    header
}

fn finish(mut header: Header) -> Vec<u8> {
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Whether it fits.
fn put(field: &mut [u8], bytes: &[u8]) -> bool {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
    length == bytes.len()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} {key}=").bytes());
    records.extend(value);
    records.push(b'\n');
}

fn sparse_map(content: &Content, pieces: &[(u64, u64)]) -> Vec<u8> {
    let end = pieces.last().map_or(0, |(offset, length)| offset + length);
    // GNU tar marks a hole at the end by an empty piece there.
    let last = (end < content.size).then_some((content.size, 0));
    let mut map = format!("{}\n", pieces.len() + usize::from(last.is_some()));
    for (offset, length) in pieces.iter().copied().chain(last) {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    let zeros = padding(map.len() as u64);
    map.extend(std::iter::repeat_n(0, usize::try_from(zeros).unwrap_or(0)));
    map
}
