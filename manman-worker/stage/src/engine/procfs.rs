//! What `/proc` says of a process. A process that has gone is no error.

use std::path::Path;

use super::history::Sample;

/// The kernel's unit of CPU time in `stat`, on every machine that Linux runs on.
const TICK_MS: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    ticks: u64,
    rss_pages: u64,
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name is in parentheses and may hold any character, parentheses too.
    let (pid, rest) = text.split_once(" (")?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        rss_pages: number(21)?,
    })
}

pub(crate) fn sample(pid: i32) -> Option<Sample> {
    let stat = stat(pid)?;
    Some(Sample { pid, cpu_ms: stat.ticks * TICK_MS, rss: stat.rss_pages * rustix::param::page_size() as u64 })
}

/// Whether a process is the root, in its group, or below it.
pub(crate) fn belongs(pid: i32, root: i32) -> bool {
    let mut pid = pid;
    // Deeper than any script goes, and an end if pids change under the walk.
    for _ in 0..64 {
        if pid == root {
            return true;
        }
        let Some(stat) = stat(pid) else { return false };
        if stat.group == root {
            return true;
        }
        if stat.parent <= 1 {
            return false;
        }
        pid = stat.parent;
    }
    false
}

/// A variable that the process was started with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(entry.to_vec())
}

pub(crate) fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(Path::new("/proc")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Children of this process: by the kernel's own list where it keeps one, else by looking at all.
pub(crate) fn children() -> Vec<i32> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if let Some(listed) = listed_children() {
        return listed;
    }
    all().into_iter().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == own)).collect()
}

fn listed_children() -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        match std::fs::read_to_string(task.path().join("children")) {
            Ok(text) => found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // A thread that has just ended has no children any more.
            Err(_) if !task.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read_over() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 0 0 20 0 1 0 100 1000 55 18446744073709551615";
        let stat = parse(line).expect("it is a line of the kernel");
        assert_eq!((stat.pid, stat.state, stat.parent, stat.group, stat.ticks, stat.rss_pages), (42, b'S', 7, 42, 30, 55));
    }

    #[test]
    fn this_process_belongs_to_its_parent() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let parent = stat(own).expect("it is there").parent;
        assert!(belongs(own, parent) && belongs(own, own) && !belongs(own, i32::MAX));
    }
}
