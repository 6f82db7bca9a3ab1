//! Which SteamCMD there is, whether it runs on this machine, and what is missing if not.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use manman_common::status::Progress;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::{Failure, SteamError};
use crate::lock::Lock;
use crate::output::Line;
use crate::record::{read_json, write_json};
use crate::session::{Event, Input, Session, home, is_elf32};
use crate::{Report, SteamConfig, fetch};

/// Why this machine can fetch no games from Steam, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: String,
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.hint)
    }
}

/// A SteamCMD to run.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    program: PathBuf,
}

/// What is known of the one that was fetched; written last, so that half a one is none.
#[derive(Debug, Serialize, Deserialize)]
struct Fetched {
    version: String,
}

const LOADER_HINT: &str = "run `apt-get install lib32gcc-s1` (on other systems: the 32 bit C library)";

/// Where a 32 bit program looks for its loader.
const LOADERS: [&str; 2] = ["/lib/ld-linux.so.2", "/lib/i386-linux-gnu/ld-linux.so.2"];

impl Tool {
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn directory(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("/"))
    }

    /// A start that failed; where the loader is missing, the kernel says of the program that it is not there.
    pub(crate) fn explain(&self, error: io::Error, what: String) -> SteamError {
        match lacks_loader(&self.program) {
            Some(problem) => SteamError::new(Failure::Loader32, format!("{what}: {}", problem.reason)).hint(problem.hint).caused_by(error),
            None => SteamError::new(Failure::Tool, what)
                .hint("name one that runs here with `--steamcmd PATH`, or leave that out to have one fetched")
                .caused_by(error),
        }
    }

    /// Where SteamCMD keeps `steamclient.so` for games, by its parts' width in bits.
    pub(crate) fn client_library(&self, config: &SteamConfig, bits: u8) -> Option<PathBuf> {
        let folder = format!("linux{bits}/steamclient.so");
        let home = home(config);
        [
            self.directory().to_owned(),
            home.join("Steam"),
            home.join(".local/share/Steam"),
            home.join(".local/share/Steam/steamcmd"),
            home.join(".steam/steamcmd"),
        ]
        .into_iter()
        .map(|directory| directory.join(&folder))
        .find(|path| path.is_file())
    }
}

/// What there is, without running or fetching anything.
pub(crate) fn report(config: &SteamConfig) -> Result<String, Problem> {
    let Some(program) = &config.steamcmd else {
        if !cfg!(target_arch = "x86_64") {
            return Err(Problem {
                reason: "SteamCMD exists for x86 machines alone".to_owned(),
                hint: "name one that an emulator runs with `--steamcmd PATH`, or use another machine for Steam's games".to_owned(),
            });
        }
        if !LOADERS.iter().any(|loader| Path::new(loader).exists()) {
            return Err(Problem {
                reason: "SteamCMD is a 32 bit program, and this machine has no loader for those".to_owned(),
                hint: LOADER_HINT.to_owned(),
            });
        }
        return Ok(match read_json::<Fetched>(&record(config)) {
            Ok(Some(fetched)) if fetched_program(config).is_file() => fetched.version,
            _ => "will be fetched on first use".to_owned(),
        });
    };
    check(program)?;
    Ok(program.display().to_string())
}

fn check(program: &Path) -> Result<(), Problem> {
    let hint = "`--steamcmd` names SteamCMD's own `steamcmd.sh`, or the `steamcmd` of the distribution".to_owned();
    let reason = match fs::metadata(program) {
        Err(error) => format!("{} can not be found: {error}", program.display()),
        Ok(metadata) if !metadata.is_file() => format!("{} is no file", program.display()),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => format!("{} is not executable", program.display()),
        Ok(_) => return lacks_loader(program).map_or(Ok(()), Err),
    };
    Err(Problem { reason, hint })
}

/// Whether a SteamCMD needs a loader that is not there.
fn lacks_loader(program: &Path) -> Option<Problem> {
    let inner = program.parent().map(|directory| directory.join("linux32/steamcmd"));
    let is_32_bit = is_elf32(program) || inner.is_some_and(|inner| is_elf32(&inner));
    (is_32_bit && !LOADERS.iter().any(|loader| Path::new(loader).exists())).then(|| Problem {
        reason: format!("{} is a 32 bit program, and this machine has no loader for those", program.display()),
        hint: LOADER_HINT.to_owned(),
    })
}

/// The SteamCMD that is here, if there is one.
pub(crate) fn known(config: &SteamConfig) -> Option<Tool> {
    let program = config.steamcmd.clone().unwrap_or_else(|| fetched_program(config));
    program.is_file().then_some(Tool { program })
}

fn fetched_program(config: &SteamConfig) -> PathBuf {
    config.dir.join("cmd/steamcmd.sh")
}

fn record(config: &SteamConfig) -> PathBuf {
    config.dir.join("cmd.json")
}

/// The SteamCMD to use; fetched, unpacked and tried where there is none yet.
pub(crate) async fn ready(config: &SteamConfig, lock: &Lock, progress: Report<'_>) -> Result<Tool, SteamError> {
    let refuse = |problem: Problem| {
        let failure = if problem.hint == LOADER_HINT { Failure::Loader32 } else { Failure::Tool };
        SteamError::new(failure, problem.reason).hint(problem.hint)
    };
    if let Some(program) = &config.steamcmd {
        check(program).map_err(refuse)?;
        return Ok(Tool { program: program.clone() });
    }
    let tool = Tool { program: fetched_program(config) };
    if read_json::<Fetched>(&record(config))?.is_some() && tool.program.is_file() {
        return Ok(tool);
    }
    fetch::fetch(config, progress).await?;
    if let Some(problem) = lacks_loader(&tool.program) {
        return Err(refuse(problem));
    }
    let version = try_it(config, &tool, lock, progress).await?;
    write_json(&record(config), &Fetched { version })?;
    Ok(tool)
}

/// SteamCMD's first run brings it up to date; it is what it should be if it then says its name.
async fn try_it(config: &SteamConfig, tool: &Tool, lock: &Lock, progress: Report<'_>) -> Result<String, SteamError> {
    // It ends itself with 42 after an update and wants to be started again; its own script does that.
    for _ in 0..3 {
        let mut session = Session::start(config, tool, Input::Lock(lock), &["+quit".to_owned()])?;
        let mut moved = Instant::now();
        let mut version = None;
        let mut last = String::new();
        let status = loop {
            let event = match tokio::time::timeout_at(moved + config.inactive_after, session.next()).await {
                Ok(event) => event?,
                Err(_) => {
                    session.kill().await?;
                    return Err(SteamError::new(Failure::Inactive, "SteamCMD stood still while it brought itself up to date")
                        .hint("look at the network: it has to reach Steam's servers"));
                }
            };
            match event {
                Event::Ended(status) => break status,
                Event::Prompt(_) => {}
                Event::Line(line) => {
                    if line != last {
                        moved = Instant::now();
                    }
                    match Line::parse(&line) {
                        Line::Banner(found) => version = Some(found),
                        Line::SelfUpdate(percent) => progress(Progress { percent, step: "bringing SteamCMD up to date".to_owned() }),
                        _ => {}
                    }
                    last = line;
                }
            }
        };
        lock.end_leftovers();
        match version {
            Some(version) => return Ok(if version.is_empty() { "unknown version".to_owned() } else { version }),
            None if status.code() == Some(42) => {}
            None => {
                let what = format!("what was fetched from {} did not run as SteamCMD does: {status}; its last words: {last}", config.url);
                return Err(tool.explain(io::Error::other("no banner was printed"), what));
            }
        }
    }
    Err(SteamError::new(Failure::Tool, "SteamCMD updated itself again and again")
        .hint("remove the `steam/cmd` directory of the worker's data"))
}

/// A Proton of this machine: the newest by name of those that Steam or a person put where Steam looks.
#[must_use]
pub fn find_proton(home: Option<&Path>) -> Option<PathBuf> {
    let own = home.into_iter().flat_map(|home| {
        [".steam/root/compatibilitytools.d", ".local/share/Steam/compatibilitytools.d", ".steam/steam/steamapps/common"]
            .map(|folder| home.join(folder))
    });
    let shared = ["/usr/share/steam/compatibilitytools.d", "/usr/local/share/steam/compatibilitytools.d"].map(PathBuf::from);
    let mut found: Vec<PathBuf> = own
        .chain(shared)
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path().join("proton")))
        .filter(|proton| fs::metadata(proton).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0))
        .collect();
    found.sort();
    found.pop()
}
