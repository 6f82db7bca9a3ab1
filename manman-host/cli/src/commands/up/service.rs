//! `up --service`: the same, started by systemd with the machine and again after a power cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::system::{has_systemd, is_root};
use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;

const TEMPLATE: &str = include_str!("../../../../../docker/systemd/manman.service");
pub(crate) const UNIT: &str = "manman.service";

/// A first start makes a database; on a slow disk that takes its time.
const READY_PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// Whose systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    System,
    User,
}

impl Manager {
    fn ours() -> Self {
        if is_root() { Self::System } else { Self::User }
    }

    pub(crate) fn systemctl(self, words: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new("systemctl");
        if self == Self::User {
            command.arg("--user");
        }
        command.args(words);
        let text = format!("systemctl {}{}", if self == Self::User { "--user " } else { "" }, words.join(" "));
        let failed = || Failure::new(format!("could not run `{text}`"));
        let ran = command.output().map_err(|error| failed().because(&error))?;
        if ran.status.success() {
            return Ok(());
        }
        Err(failed().why(String::from_utf8_lossy(&ran.stderr).trim().to_owned()).hint("`journalctl -u manman` may say more"))
    }

    fn unit_path(self) -> Result<PathBuf, Failure> {
        match self {
            Self::System => Ok(PathBuf::from("/etc/systemd/system").join(UNIT)),
            Self::User => {
                let config = std::env::var_os("XDG_CONFIG_HOME")
                    .map(PathBuf::from)
                    .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
                let config = config.ok_or_else(|| Failure::usage("found no place for the unit: HOME is not set"))?;
                Ok(config.join("systemd/user").join(UNIT))
            }
        }
    }
}

/// Which unit a process belongs to, by its cgroup.
pub(crate) fn unit_of(pid: u32) -> Option<(Manager, String)> {
    unit_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn unit_in(cgroup: &str) -> Option<(Manager, String)> {
    let path = cgroup.lines().filter_map(|line| line.rsplit(':').next()).find(|path| path.contains(".service"))?;
    // A user's own units lie below their `user@1000.service`; a login session is no service of ours.
    let unit = path.split('/').rfind(|part| part.ends_with(".service") && !part.starts_with("user@"))?;
    let manager = if path.contains("/user@") { Manager::User } else { Manager::System };
    unit.starts_with("manman").then(|| (manager, unit.to_owned()))
}

/// Refuses before anything is installed for it.
pub(super) fn check() -> Result<(), Failure> {
    if !has_systemd() {
        return Err(Failure::new("could not install a service")
            .why("systemd does not run on this machine")
            .hint("run `manman up` in the foreground, have your own init system start that line, or use docker/compose.yaml"));
    }
    Ok(())
}

/// Writes the unit, enables and starts it, and waits until the host answers.
pub(super) async fn install(data: &Path, options: &[String]) -> Result<(), Failure> {
    let manager = Manager::ours();
    let program = std::env::current_exe().map_err(|error| Failure::new("could not find out which program this is").because(&error))?;
    if program.components().any(|part| part.as_os_str() == "target") {
        output::warn(&format!("the service starts `{}`, which `cargo clean` deletes; install it elsewhere for good", program.display()));
    }
    let unit = fill(manager, &program, data, options);
    let path = manager.unit_path()?;
    let failed = |error: std::io::Error| Failure::new(format!("could not write `{}`", path.display())).because(&error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(&path, unit).map_err(failed)?;
    output::talk(&format!("wrote {}", path.display()));
    manager.systemctl(&["daemon-reload"])?;
    manager.systemctl(&["enable", UNIT])?;
    manager.systemctl(&["restart", UNIT])?;
    if manager == Manager::User {
        // Else the games' manager ends with the last login.
        let lingering = Command::new("loginctl").arg("enable-linger").status();
        if !lingering.is_ok_and(|status| status.success()) {
            output::warn("could not run `loginctl enable-linger`: it will start with your login only");
        }
    }
    let context = answers(data).await?;
    output::text(&format!("ready  {} (service {UNIT}, starts with this machine)\n", context.url))
}

async fn answers(data: &Path) -> Result<Context, Failure> {
    let start = clock::instant();
    loop {
        if let Ok(Some(context)) = Context::read(data) {
            let target = crate::context::Target { url: context.url.clone(), token: context.token.clone(), said_by: "context.toml".into() };
            // The file of an earlier run may be there already: only an answer counts.
            if super::lock::holder(data).is_some() && target.client()?.host_status().await.is_ok() {
                return Ok(context);
            }
        }
        if start.elapsed() >= READY_PATIENCE {
            return Err(Failure::new(format!("the service is started but does not answer after {} s", READY_PATIENCE.as_secs()))
                .hint("see what it says: `journalctl -u manman -e`"));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn fill(manager: Manager, program: &Path, data: &Path, options: &[String]) -> String {
    let mut data = quote(&data.to_string_lossy());
    for option in options {
        data.push(' ');
        data.push_str(&quote(option));
    }
    let unit = TEMPLATE.replace("@MANMAN@", &quote(&program.to_string_lossy())).replace("@DATA@", &data);
    match manager {
        Manager::System => unit,
        // A user's manager knows neither the system's targets nor its services.
        Manager::User => unit
            .lines()
            .filter(|line| !line.starts_with("Wants=") && !line.starts_with("After=") && !line.starts_with("OOMScoreAdjust="))
            .map(|line| if line.starts_with("WantedBy=") { "WantedBy=default.target" } else { line })
            .flat_map(|line| [line, "\n"])
            .collect(),
    }
}

/// One word of an `ExecStart=` line.
fn quote(word: &str) -> String {
    let doubled = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if doubled.contains([' ', '\t', '\'', '"', '\\', ';']) { format!("\"{doubled}\"") } else { doubled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_filled() {
        let options = ["--docker".to_owned(), "off".to_owned()];
        let unit = fill(Manager::System, Path::new("/opt/man man/manman"), Path::new("/srv/100%"), &options);
        assert!(unit.contains("ExecStart=\"/opt/man man/manman\" up --data /srv/100%% --docker off\n"), "{unit}");
        assert!(unit.contains("KillMode=process\n") && unit.contains("WantedBy=multi-user.target\n"));
        // Its first lines may speak of the names between @.
        assert!(!unit.contains("@MANMAN@") && !unit.contains("@DATA@"));
        let unit = fill(Manager::User, Path::new("/m"), Path::new("/d"), &[]);
        assert!(unit.contains("WantedBy=default.target\n") && !unit.contains("docker.service"), "{unit}");
    }

    #[test]
    fn a_process_is_found_in_its_unit() {
        assert_eq!(unit_in("0::/system.slice/manman.service\n"), Some((Manager::System, "manman.service".into())));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/manman.service\n";
        assert_eq!(unit_in(user), Some((Manager::User, "manman.service".into())));
        assert_eq!(unit_in("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n"), None);
        assert_eq!(unit_in("12:pids:/docker/abc\n0::/\n"), None);
    }
}
