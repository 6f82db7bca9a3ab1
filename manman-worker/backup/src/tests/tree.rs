//! A directory as it is: what two of them must agree in to be the same.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    what: What,
    mode: u32,
    mtime: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Dir,
    File(Vec<u8>),
    /// The first of its names.
    Same(Vec<u8>),
    Link(Vec<u8>),
}

/// All below `root` whose path begins with `prefix`.
pub(crate) fn of(root: &Path, prefix: &str) -> Tree {
    let mut tree = Tree::new();
    let mut first = HashMap::new();
    visit(root, &root.join(prefix), &mut tree, &mut first);
    tree
}

fn visit(root: &Path, path: &Path, tree: &mut Tree, first: &mut HashMap<u64, Vec<u8>>) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
    let what = if meta.is_dir() {
        What::Dir
    } else if meta.is_symlink() {
        What::Link(std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if let Some(first) = first.get(&meta.ino()) {
        What::Same(first.clone())
    } else {
        first.insert(meta.ino(), name.clone());
        What::File(std::fs::read(path).unwrap())
    };
    let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
    tree.insert(name, Node { what, mode, mtime: (meta.mtime(), meta.mtime_nsec()) });
    if meta.is_dir() {
        let mut paths: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            visit(root, &path, tree, first);
        }
    }
}
