//! Which package of this distribution brings Postgres, and the command that installs it.
//!
//! It only names the command: whoever runs it has asked the person first.

/// The distribution's own way to get Postgres, without `sudo` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallCommand {
    pub package: &'static str,
    pub command: &'static [&'static str],
}

/// Per family of distributions, by the words of `ID` and `ID_LIKE` in os-release.
const FAMILIES: &[(&[&str], InstallCommand)] = &[
    (&["debian", "ubuntu"], InstallCommand { package: "postgresql", command: &["apt-get", "install", "--yes", "postgresql"] }),
    (
        &["fedora", "rhel", "centos"],
        InstallCommand { package: "postgresql-server", command: &["dnf", "install", "--assumeyes", "postgresql-server"] },
    ),
    (&["arch"], InstallCommand { package: "postgresql", command: &["pacman", "--sync", "--noconfirm", "postgresql"] }),
    (
        &["suse", "opensuse"],
        InstallCommand { package: "postgresql-server", command: &["zypper", "--non-interactive", "install", "postgresql-server"] },
    ),
];

/// None on a distribution we do not know.
pub fn install_command() -> Option<InstallCommand> {
    let os_release = std::fs::read_to_string("/etc/os-release").or_else(|_| std::fs::read_to_string("/usr/lib/os-release")).ok()?;
    for_os_release(&os_release)
}

fn for_os_release(os_release: &str) -> Option<InstallCommand> {
    let words: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .collect();
    FAMILIES.iter().find(|(names, _)| names.iter().any(|name| words.contains(name))).map(|(_, command)| command.clone())
}

pub(super) fn install_hint() -> String {
    match install_command() {
        Some(InstallCommand { package, command }) => format!(
            "install the package `{package}` with `{}`, name its binaries with --pg-bin, or use a \
             database of your own with --database-url",
            command.join(" ")
        ),
        None => "install PostgreSQL, name its binaries with --pg-bin, or use a database of your \
                 own with --database-url"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::for_os_release;

    #[test]
    fn knows_the_families() {
        let package = |text| for_os_release(text).map(|found| found.command[0]);
        assert_eq!(package("NAME=x\nID=debian\n"), Some("apt-get"));
        assert_eq!(package("ID=pop\nID_LIKE=\"ubuntu debian\"\n"), Some("apt-get"));
        assert_eq!(package("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Some("dnf"));
        assert_eq!(package("ID=arch\n"), Some("pacman"));
        assert_eq!(package("ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n"), Some("zypper"));
        assert_eq!(package("ID=plan9\n"), None);
    }
}
