//! What an earlier host left running, or left lying about.
//!
//! A host that is killed takes its postmaster along by a death signal. Where that did not work,
//! or is still under way, the next start finds the processes here and ends them. They are known
//! by their working directory, which Postgres sets to the cluster's: a pid file alone may name
//! a stranger, after a reboot or in a container where pids are few.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::{PostgresError, settings};

const PID_FILE: &str = "postmaster.pid";

const POLL: Duration = Duration::from_millis(10);

/// What to send, and for how long to wait: a fast stop writes all it has to disk; an immediate
/// one leaves that to the recovery at the next start; the last one is for what hangs.
const STEPS: [(Signal, Duration); 3] =
    [(Signal::INT, Duration::from_secs(30)), (Signal::QUIT, Duration::from_secs(10)), (Signal::KILL, Duration::from_secs(5))];

/// Ends every process of that cluster. The caller holds the lock: whoever they belonged to is gone.
pub(super) fn stop(cluster: &Path) -> Result<(), PostgresError> {
    let pid_file = cluster.join(PID_FILE);
    let Some(named) = read_pid(&pid_file)? else {
        return Ok(());
    };
    for (signal, wait) in STEPS {
        let found = processes(cluster)?;
        if found.is_empty() {
            break;
        }
        tracing::warn!(pids = ?raw(&found), ?signal, "stopping the database of an earlier host");
        if found.contains(&named) && signal != Signal::KILL {
            // The postmaster ends its children itself.
            send(named, signal, cluster);
        } else if signal != Signal::INT {
            // Without a postmaster they end by themselves within the first wait, as a rule.
            found.iter().for_each(|pid| send(*pid, signal, cluster));
        }
        for _ in 0..wait.as_millis() / POLL.as_millis() {
            if processes(cluster)?.is_empty() {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
    let stays = processes(cluster)?;
    if !stays.is_empty() {
        return Err(PostgresError::LeftoverStays { cluster: cluster.to_owned(), pids: raw(&stays) });
    }
    // Postgres clears away a pid file whose process is gone, but believes one whose number was
    // given to somebody else.
    if rustix::process::test_kill_process(named) != Err(rustix::io::Errno::SRCH) {
        remove(&pid_file)?;
    }
    Ok(())
}

/// Removes the socket of a postmaster that is gone; its lock file has the fault of the pid file.
pub(super) fn remove_sockets(dir: &Path, tcp: Option<u16>) -> Result<(), PostgresError> {
    let socket = format!(".s.PGSQL.{}", tcp.unwrap_or(settings::PORT));
    remove(&dir.join(format!("{socket}.lock")))?;
    remove(&dir.join(socket))
}

/// Every Postgres process at work in that cluster.
pub(super) fn processes(cluster: &Path) -> Result<Vec<Pid>, PostgresError> {
    let numbers = fs::read_dir("/proc")
        .map_err(PostgresError::io("list", Path::new("/proc")))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw);
    Ok(numbers.filter(|pid| works_in(*pid, cluster)).collect())
}

/// By device and inode, so that another path to the same directory does not hide it.
fn works_in(pid: Pid, cluster: &Path) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_pid().to_string());
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    // A person's shell may stand there as well.
    if !matches!(name.trim_end(), "postgres" | "postmaster") {
        return false;
    }
    let (Ok(stands), Ok(cluster)) = (fs::metadata(process.join("cwd")), fs::metadata(cluster)) else {
        return false;
    };
    (stands.dev(), stands.ino()) == (cluster.dev(), cluster.ino())
}

/// Through a pidfd and a second look, so that the signal cannot hit who got the number next.
fn send(pid: Pid, signal: Signal, cluster: &Path) {
    let sent = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .and_then(|pidfd| if works_in(pid, cluster) { rustix::process::pidfd_send_signal(&pidfd, signal) } else { Ok(()) });
    if let Err(error) = sent {
        // Whether it is gone or not ours to signal, the wait that follows will tell.
        tracing::debug!(%error, pid = pid.as_raw_pid(), "could not signal a leftover process");
    }
}

/// The first line of the file; none if there is no file, or none that Postgres could have written.
fn read_pid(pid_file: &Path) -> Result<Option<Pid>, PostgresError> {
    match fs::read_to_string(pid_file) {
        Ok(text) => Ok(text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PostgresError::io("read", pid_file)(error)),
    }
}

fn remove(path: &Path) -> Result<(), PostgresError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(PostgresError::io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn raw(pids: &[Pid]) -> Vec<i32> {
    pids.iter().map(|pid| pid.as_raw_pid()).collect()
}
