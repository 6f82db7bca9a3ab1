//! A small disk of the test's own, so that a full one harms nobody else.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guard::Guard;

/// An ext4 in a file, mounted. What holds files on it may live on; it is unmounted all the same.
#[derive(Debug)]
pub struct SmallDisk {
    mount: PathBuf,
    _guard: Guard,
}

impl SmallDisk {
    /// Makes the directory, and mounts a new disk of so many MiB there.
    pub fn mounted_at(mount: &Path, mib: u64) -> Result<Self> {
        std::fs::create_dir_all(mount)?;
        let image = tempfile::NamedTempFile::new()?;
        image.as_file().set_len(mib << 20)?;
        run("mkfs.ext4", Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(image.path()))?;
        let shown = mount.to_str().context("the path of a disk")?;
        // The loop device goes with its mount, and the file with the device.
        let guard = Guard::new("mountpoint -q \"$1\" || exit 0; umount -l \"$1\"", &[shown])?;
        run("mount", Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(mount))?;
        Ok(Self { mount: mount.to_owned(), _guard: guard })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Bytes that are free.
    pub fn free(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.mount)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Writes until no more than so many bytes are free.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.filler())?;
        let zeros = vec![0; 64 << 10];
        loop {
            // Blocks are taken when they are written back.
            file.sync_data().or_else(|error| if error.kind() == ErrorKind::StorageFull { Ok(()) } else { Err(error) })?;
            let above = self.free()?.saturating_sub(leave);
            if above == 0 {
                return Ok(());
            }
            let mut left = above;
            while left > 0 {
                let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
                match file.write(&zeros[..chunk]) {
                    Ok(written) => left -= written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Takes back what [`fill`](Self::fill) took.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }
}

fn run(what: &str, command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {what}"))?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
