//! Where scripts answer, where their texts lie, and as whom they run.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use manman_common::link::fnv1a;
use manman_common::{CommandId, ServerId};
use manman_stage::engine::{Options, Stand};

/// How a script without an HTTP client answers: found in its PATH.
pub(super) const REPLY: &str = "manman-reply";

/// Answers the action that this is part of
#[derive(Debug, clap::Parser)]
#[command(name = REPLY, max_term_width = 100)]
pub(super) struct Reply {
    #[command(flatten)]
    pub(super) args: manman_stage::reply::ReplyArgs,
}

/// What every user may pass through, on a file system that a reboot clears. Games that are processes
/// find their directories there, too.
const SHARED: &str = "/run/manman";
/// A socket's path has 107 bytes.
const PATH_MAX: usize = 90;
/// Largest answer: it goes over the link, and is kept.
const ANSWER_MAX: usize = 256 << 10;

pub(super) struct Place {
    /// Root gives each server's script the server's own user.
    is_root: bool,
    /// Its own for each data directory, so that two workers do not meet.
    dir: PathBuf,
}

impl Place {
    pub(super) fn find(data_dir: &Path) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let is_root = rustix::process::geteuid().is_root();
        let name = format!("action-{:016x}", fnv1a(data_dir.as_os_str().as_bytes()));
        let dir = if is_root {
            Path::new(SHARED).join(name)
        } else if data_dir.as_os_str().len() < PATH_MAX {
            data_dir.join("action")
        } else {
            std::env::temp_dir().join(name)
        };
        // Texts of scripts that a killed worker has left.
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if is_root {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(SHARED)?;
        }
        std::fs::DirBuilder::new().mode(if is_root { 0o711 } else { 0o700 }).create(&dir)?;
        if is_root {
            // The umask may have taken what others need to pass.
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))?;
        }
        let place = Self { is_root, dir };
        std::fs::DirBuilder::new().mode(0o755).create(place.tools())?;
        std::os::unix::fs::symlink(std::env::current_exe()?, place.tools().join(REPLY))?;
        Ok(place)
    }

    pub(super) fn options(&self) -> Options {
        let mut options = Options::new(self.dir.join("socket"));
        options.bound = true;
        options.users = self.is_root;
        options.policy.max_body = ANSWER_MAX;
        options
    }

    /// The user that owns the server's data is the one whose script may write there: never root over
    /// the files of a game that is none.
    pub(super) fn stand(&self, server: ServerId, data: &Path) -> io::Result<Stand> {
        let owner = std::fs::metadata(data)?;
        if !self.is_root || owner.uid() == 0 {
            return Ok(Stand::default());
        }
        let place = Path::new(SHARED).join(server.to_string());
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&place)?;
        Ok(Stand { user: Some((owner.uid(), owner.gid())), place: Some(place) })
    }

    /// Writes the text of a script where its user alone can read it, and can not change it.
    pub(super) fn write(&self, run: CommandId, text: &str, stand: &Stand) -> io::Result<Text> {
        use std::io::Write as _;
        let dir = self.dir.join(run.to_string());
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let text_of = Text { dir: dir.clone(), script: dir.join("script") };
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&text_of.script)?;
        file.write_all(text.as_bytes())?;
        if let Some((_, gid)) = stand.user {
            std::os::unix::fs::chown(&text_of.script, None, Some(gid))?;
            std::fs::set_permissions(&text_of.script, std::fs::Permissions::from_mode(0o440))?;
            std::os::unix::fs::chown(&dir, None, Some(gid))?;
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o710))?;
        }
        Ok(text_of)
    }

    /// Where `manman-reply` is found: this very program, under the name by which it knows what is wanted.
    pub(super) fn tools(&self) -> PathBuf {
        self.dir.join("bin")
    }
}

/// The text of a script; dropped, it is removed.
pub(super) struct Text {
    dir: PathBuf,
    pub(super) script: PathBuf,
}

impl Drop for Text {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::debug!(path = %self.dir.display(), %error, "a script's text could not be removed");
        }
    }
}

/// What runs a text: what its first line names, else `/bin/sh`. The text is read by it and not
/// executed, since the place where it lies may forbid that.
pub(super) fn interpreter(text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    let Some(line) = first.strip_prefix("#!").map(str::trim).filter(|line| !line.is_empty()) else { return vec!["/bin/sh".to_owned()] };
    // As the kernel does: one argument at most, whatever is in it.
    match line.split_once([' ', '\t']) {
        Some((program, argument)) => vec![program.to_owned(), argument.trim().to_owned()],
        None => vec![line.to_owned()],
    }
}
