//! The shim that travels in this binary, unpacked under the name of its content: an upgrade of the
//! worker never touches the one that holds a running game.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const SHIM: &[u8] = include_bytes!(env!("MANMAN_SHIM_BINARY"));

/// Unpacks it below the data directory unless it is there; returns its path. Blocks on the disk.
pub(crate) fn unpack(data_dir: &Path) -> io::Result<PathBuf> {
    let dir = data_dir.join("libexec");
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
    let digest = Sha256::digest(SHIM);
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(format!("shim-{name}"));
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == SHIM.len() as u64) {
        return Ok(path);
    }
    // A file that is open for writing can not be executed, so it gets its name when it is whole.
    let fresh = dir.join(format!("shim-{name}.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&fresh)?;
    file.write_all(SHIM)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}
