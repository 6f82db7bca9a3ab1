//! Control groups, version 1 or 2: one leaf a request that has limits.
//!
//! What no controller can be had for is left to `setrlimit`, which the shim calls; a limit that
//! neither can keep is said aloud and not pretended.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::Limits;

const CPU_PERIOD_US: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Clone, Debug)]
struct Controller {
    version: Version,
    base: PathBuf,
}

/// Where leaves can be made on this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    memory: Option<Controller>,
    cpu: Option<Controller>,
    pids: Option<Controller>,
}

/// The directories of one request; dropped, they are removed.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    dirs: Vec<PathBuf>,
    /// What the shim has to set: `nofile`, `as`, `nproc`.
    pub(crate) rlimits: Vec<(&'static str, u64)>,
}

impl Groups {
    /// `alone`: this process may move itself into a leaf, which version 2 wants before it hands
    /// controllers down.
    pub(crate) fn find(alone: bool) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let two = unified(&mounts, &own).filter(|base| delegated(base, alone));
        let find = |name: &str| {
            if let Some(base) = &two
                && std::fs::read_to_string(base.join("cgroup.subtree_control"))
                    .is_ok_and(|list| list.split_whitespace().any(|word| word == name))
            {
                return Some(Controller { version: Version::Two, base: base.clone() });
            }
            let base = hierarchy(&mounts, &own, name)?;
            writable(&base).then_some(Controller { version: Version::One, base })
        };
        Self { memory: find("memory"), cpu: find("cpu"), pids: find("pids") }
    }

    pub(crate) fn make(&self, id: Uuid, limits: &Limits) -> Leaf {
        let mut leaf = Leaf::default();
        let name = format!("manman-stage-{}", id.simple());
        if let Some(files) = limits.files {
            leaf.rlimits.push(("nofile", files));
        }
        if let Some(bytes) = limits.memory {
            let set = |controller: &Controller| {
                let dir = leaf.enter(controller, &name)?;
                match controller.version {
                    Version::Two => {
                        std::fs::write(dir.join("memory.max"), bytes.to_string())?;
                        // Swap would hide the limit; not every kernel counts it.
                        let _ = std::fs::write(dir.join("memory.swap.max"), "0");
                        let _ = std::fs::write(dir.join("memory.oom.group"), "1");
                    }
                    Version::One => {
                        std::fs::write(dir.join("memory.limit_in_bytes"), bytes.to_string())?;
                        let _ = std::fs::write(dir.join("memory.memsw.limit_in_bytes"), bytes.to_string());
                    }
                }
                Ok(())
            };
            if !applied("memory", self.memory.as_ref(), set) {
                leaf.rlimits.push(("as", bytes));
            }
        }
        if let Some(count) = limits.pids {
            let set = |controller: &Controller| std::fs::write(leaf.enter(controller, &name)?.join("pids.max"), count.to_string());
            if !applied("pids", self.pids.as_ref(), set) {
                leaf.rlimits.push(("nproc", count));
            }
        }
        if let Some(cores) = limits.cpu {
            let quota = (cores * CPU_PERIOD_US as f64) as u64;
            let set = |controller: &Controller| {
                let dir = leaf.enter(controller, &name)?;
                match controller.version {
                    Version::Two => std::fs::write(dir.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}")),
                    Version::One => {
                        std::fs::write(dir.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string())?;
                        std::fs::write(dir.join("cpu.cfs_quota_us"), quota.to_string())
                    }
                }
            };
            if !applied("cpu", self.cpu.as_ref(), set) {
                tracing::warn!(request.id = %id, "no cpu controller is delegated here, so the process may use what there is");
            }
        }
        leaf
    }
}

fn applied(name: &str, controller: Option<&Controller>, mut set: impl FnMut(&Controller) -> io::Result<()>) -> bool {
    let Some(controller) = controller else { return false };
    match set(controller) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(controller = name, %error, "a control group could not be set up; a limit of the process itself takes its place");
            false
        }
    }
}

impl Leaf {
    fn enter(&mut self, controller: &Controller, name: &str) -> io::Result<PathBuf> {
        let dir = controller.base.join(name);
        if !self.dirs.contains(&dir) {
            std::fs::create_dir(&dir)?;
            self.dirs.push(dir.clone());
        }
        Ok(dir)
    }

    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Whether the kernel has killed anything in it for want of memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.dirs.iter().flat_map(|dir| [dir.join("memory.events"), dir.join("memory.oom_control")]).any(|file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
        })
    }

    /// Kills everything in it, whatever group or session it has gone to, and removes it.
    pub(crate) async fn clear(&mut self) {
        for dir in std::mem::take(&mut self.dirs) {
            // A killed process leaves its group when it is reaped, which takes its parent a moment.
            for attempt in 0..200_u32 {
                if std::fs::remove_dir(&dir).is_ok() || !dir.exists() {
                    break;
                }
                if std::fs::write(dir.join("cgroup.kill"), "1").is_err() {
                    kill_listed(&dir);
                }
                if attempt == 199 {
                    tracing::warn!(cgroup = %dir.display(), "a control group does not empty");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn kill_listed(dir: &Path) {
    let listed = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in listed.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        // A handle first, then a second look: what it names is in this leaf, and is what dies.
        let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { continue };
        let again = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        if again.lines().any(|line| line.parse() == Ok(pid.as_raw_nonzero().get())) {
            let _ = rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL);
        }
    }
}

/// Where version 2 is mounted, and this process in it.
fn unified(mounts: &str, own: &str) -> Option<PathBuf> {
    let (root, point) = mount(mounts, "cgroup2", None)?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(below(&root, &point, path))
}

fn hierarchy(mounts: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let (root, point) = mount(mounts, "cgroup", Some(controller))?;
    let path = own.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        names.split(',').any(|name| name == controller).then_some(path)
    })?;
    Some(below(&root, &point, path))
}

fn below(root: &str, point: &str, path: &str) -> PathBuf {
    let inside = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Path::new(point).join(inside.trim_start_matches('/'))
}

/// Root and mount point of a hierarchy.
fn mount(mounts: &str, kind: &str, option: Option<&str>) -> Option<(String, String)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        if right.next() != Some(kind)
            || option.is_some_and(|option| !right.nth(1).unwrap_or_default().split(',').any(|word| word == option))
        {
            return None;
        }
        let mut left = left.split(' ').skip(3);
        Some((left.next()?.to_owned(), left.next()?.to_owned()))
    })
}

fn writable(base: &Path) -> bool {
    rustix::fs::access(base, rustix::fs::Access::WRITE_OK).is_ok() && base.is_dir()
}

/// Whether leaves below may have controllers; asks for them if `alone`.
fn delegated(base: &Path, alone: bool) -> bool {
    let known = std::fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    // Beside version 1, version 2 has no controllers and keeps an account of nothing.
    if !writable(base) || !known.split_whitespace().any(|name| ["memory", "pids", "cpu"].contains(&name)) {
        return false;
    }
    let control = base.join("cgroup.subtree_control");
    let enable = || ["+memory", "+pids", "+cpu"].iter().filter(|word| std::fs::write(&control, word).is_ok()).count() > 0;
    if std::fs::read_to_string(&control).is_ok_and(|list| !list.trim().is_empty()) || enable() {
        return true;
    }
    if !alone {
        return false;
    }
    // A group with processes hands nothing down, so this one steps aside.
    let aside = base.join("manman-stage-self");
    let _ = std::fs::create_dir(&aside);
    std::fs::write(aside.join("cgroup.procs"), "0").is_ok() && enable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_what_the_kernel_says() {
        let mounts = "29 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n30 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
            31 29 0:28 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 29 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/docker/a/b\n1:cpu,cpuacct:/x\n0::/user.slice\n";
        assert_eq!(hierarchy(mounts, own, "cpu").expect("it is there"), Path::new("/sys/fs/cgroup/cpu,cpuacct/x"));
        assert_eq!(hierarchy(mounts, own, "memory").expect("it is there"), Path::new("/sys/fs/cgroup/memory/b"));
        assert_eq!(unified(mounts, own).expect("it is there"), Path::new("/sys/fs/cgroup/unified/user.slice"));
        assert_eq!(hierarchy(mounts, own, "pids"), None);
    }
}
