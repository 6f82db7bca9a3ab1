//! The distribution below us: its packages, its services, and commands run with the person's consent.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::output::{self, talk};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Debian,
    Fedora,
    Arch,
    Suse,
}

/// By the words of `ID` and `ID_LIKE` in os-release.
const FAMILIES: [(&[&str], Family); 4] = [
    (&["debian", "ubuntu"], Family::Debian),
    (&["fedora", "rhel", "centos"], Family::Fedora),
    (&["arch"], Family::Arch),
    (&["suse", "opensuse"], Family::Suse),
];

/// What may be missing on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Package {
    Postgres,
    Docker,
    Debootstrap,
}

impl Package {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Docker => "Docker Engine",
            Self::Debootstrap => "debootstrap",
        }
    }

    const fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Postgres, Family::Debian | Family::Arch) => "postgresql",
            (Self::Postgres, Family::Fedora | Family::Suse) => "postgresql-server",
            (Self::Docker, Family::Debian) => "docker.io",
            (Self::Docker, Family::Fedora) => "moby-engine",
            (Self::Docker, Family::Arch | Family::Suse) => "docker",
            (Self::Debootstrap, _) => "debootstrap",
        }
    }
}

/// A command line, without what it takes to become root.
pub(crate) type Line = Vec<String>;

fn line(words: &[&str]) -> Line {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn family() -> Option<Family> {
    let os_release = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).ok()?;
    family_of(&os_release)
}

fn family_of(os_release: &str) -> Option<Family> {
    let words: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .collect();
    FAMILIES.iter().find(|(names, _)| names.iter().any(|name| words.contains(name))).map(|(_, family)| *family)
}

/// The commands that install it, in order.
pub(crate) fn install(family: Family, package: Package) -> Vec<Line> {
    let name = package.name(family);
    match family {
        Family::Debian => {
            let mut install = vec!["apt-get", "install", "--yes"];
            if package == Package::Postgres {
                // The server alone, without mail servers and certificates for it.
                install.push("--no-install-recommends");
            }
            install.push(name);
            vec![line(&["apt-get", "update"]), line(&install)]
        }
        Family::Fedora => vec![line(&["dnf", "install", "--assumeyes", name])],
        Family::Arch => vec![line(&["pacman", "--sync", "--noconfirm", name])],
        Family::Suse => vec![line(&["zypper", "--non-interactive", "install", name])],
    }
}

/// The commands as a person would type them.
pub(crate) fn shown(lines: &[Line]) -> String {
    let root = if is_root() { "" } else { "sudo " };
    lines.iter().map(|line| format!("{root}{}", line.join(" "))).collect::<Vec<_>>().join(" && ")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the person agrees to what was just shown: by `--yes`, or asked on a terminal.
pub(crate) fn agreed(yes: bool) -> bool {
    yes || (output::can_ask() && output::ask("run this now?"))
}

/// Shows what is missing and the commands that help, and asks.
pub(crate) fn consent(missing: &str, lines: &[Line], yes: bool) -> bool {
    talk(&format!("{missing}: {}", shown(lines)));
    agreed(yes)
}

pub(crate) fn run_all(lines: &[Line]) -> Result<(), Failure> {
    lines.iter().try_for_each(run)
}

/// Both in one. False where nobody agreed.
pub(crate) fn offer(missing: &str, lines: &[Line], yes: bool) -> Result<bool, Failure> {
    if !consent(missing, lines, yes) {
        return Ok(false);
    }
    run_all(lines).map(|()| true)
}

/// Runs one command as root; what it says goes to stderr, since stdout is ours.
pub(crate) fn run(line: &Line) -> Result<(), Failure> {
    let text = line.join(" ");
    let failed = || Failure::new(format!("could not run `{text}`"));
    let mut words = line.clone();
    if !is_root() {
        words.insert(0, "sudo".to_owned());
        if !output::can_ask() {
            // Without anybody to type a password it must fail instead of waiting for one.
            words.insert(1, "--non-interactive".to_owned());
        }
    }
    let (program, arguments) = words.split_first().ok_or_else(failed)?;
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(|error| failed().because(&error))?;
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::from(stderr))
        .status()
        .map_err(|error| {
            failed().because(&error).hint(if is_root() { "is it installed?" } else { "run it as root yourself: is `sudo` installed?" })
        })?;
    if status.success() {
        return Ok(());
    }
    Err(failed().why(status.to_string()).hint("what it said is above; run it yourself to see more"))
}

/// Where a program is, in the places of root's programs, too.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Whether services are systemd's here.
pub(crate) fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_families() {
        assert_eq!(family_of("NAME=x\nID=debian\n"), Some(Family::Debian));
        assert_eq!(family_of("ID=pop\nID_LIKE=\"ubuntu debian\"\n"), Some(Family::Debian));
        assert_eq!(family_of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Some(Family::Fedora));
        assert_eq!(family_of("ID=arch\n"), Some(Family::Arch));
        assert_eq!(family_of("ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n"), Some(Family::Suse));
        assert_eq!(family_of("ID=plan9\n"), None);
    }

    #[test]
    fn the_lists_come_before_the_package() {
        let lines = install(Family::Debian, Package::Docker);
        assert_eq!(lines, [line(&["apt-get", "update"]), line(&["apt-get", "install", "--yes", "docker.io"])]);
    }
}
