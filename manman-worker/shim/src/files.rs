//! Files that are replaced whole: no reader sees half of one, and a power cut leaves the old or the new.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// What the worker wants.
pub const SPEC: &str = "spec";
/// Who runs.
pub const STATE: &str = "state";
/// How it ended.
pub const EXIT: &str = "exit";
/// Held by the shim for as long as it lives.
pub const LOCK: &str = "lock";
/// Where the shim listens.
pub const SOCKET: &str = "s";
/// What the shim had to say when it could write no record.
pub const ERRORS: &str = "shim.err";

/// No file of a run directory is longer; what is, was not written by us.
pub const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Opens a file in a directory that a game may write to, as one in a container may where its log and
/// its run directory are: neither what a link names, nor a pipe that would be waited for.
pub fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(format!("{} is no plain file", path.display()))) }
}

/// Replaces `dir/name`; it is on the disk when this returns.
pub fn replace(dir: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    put(dir, name, content, mode, true)?;
    sync_directory(dir)
}

/// Replaces `dir/name` for readers of this boot; after a power cut it may be the old one, or empty.
pub fn swap(dir: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    put(dir, name, content, mode, false)
}

fn put(dir: &Path, name: &str, content: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let unfinished = dir.join(format!(".{name}.new"));
    let mut file = open_plain(&unfinished, OpenOptions::new().write(true).create(true).truncate(true).mode(mode))?;
    file.write_all(content)?;
    if sync {
        file.sync_all()?;
    }
    std::fs::rename(&unfinished, dir.join(name))
}

pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all()
}

/// The whole file, or `None` where there is none.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open_plain(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("{} is longer than {FILE_MAX} bytes", path.display())));
    }
    Ok(Some(content))
}

/// Room on the disk, taken while there is some, for a file that must be written when there may be none.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    unfinished: PathBuf,
}

impl Reserve {
    pub const SIZE: usize = 4096;

    pub fn take(dir: &Path, name: &str) -> io::Result<Self> {
        let unfinished = dir.join(format!(".{name}.reserve"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&[b'\n'; Self::SIZE])?;
        file.sync_all()?;
        Ok(Self { dir: dir.to_owned(), unfinished })
    }

    /// Writes the file into the room that was taken and gives it its name.
    pub fn fill(self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.unfinished)?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)?;
        file.sync_all()?;
        std::fs::rename(&self.unfinished, self.dir.join(name))?;
        sync_directory(&self.dir)
    }
}
