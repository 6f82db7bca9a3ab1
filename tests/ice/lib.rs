//! Processes that SIGKILL does not end, on demand: in a frozen group of cgroup version 1 a signal
//! waits, as it does for a process that hangs in the kernel (state D).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where version 1 is at home, and where `tests/prepare` mounts its freezer on a machine of version 2.
const FREEZERS: [&str; 2] = ["/sys/fs/cgroup/freezer", "/run/manman-freezer"];
const LONG: Duration = Duration::from_secs(10);

/// One frozen group. Dropping it thaws what is in it.
#[derive(Debug)]
pub struct Ice(PathBuf);

impl Ice {
    /// Freezes a process, and returns once it is frozen. Fails where there is no freezer, or for who
    /// may not use it.
    pub fn around(pid: i32) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let freezer = FREEZERS.into_iter().map(Path::new).find(|path| path.join("cgroup.procs").exists());
        let freezer = freezer.ok_or_else(|| io::Error::other("no freezer of cgroup version 1: tests/prepare mounts one"))?;
        let name = format!("manman-ice-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let group = freezer.join(name);
        std::fs::create_dir(&group)?;
        let ice = Self(group);
        std::fs::write(ice.0.join("cgroup.procs"), pid.to_string())?;
        std::fs::write(ice.0.join("freezer.state"), "FROZEN")?;
        let since = Instant::now();
        while std::fs::read_to_string(ice.0.join("freezer.state"))?.trim() != "FROZEN" {
            if since.elapsed() > LONG {
                return Err(io::Error::other(format!("process {pid} does not freeze")));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(ice)
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("freezer.state"), "THAWED");
        let since = Instant::now();
        // A group goes when the last process has left it or died.
        while std::fs::remove_dir(&self.0).is_err() && since.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
