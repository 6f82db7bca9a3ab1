//! Games that are processes: what a shim weighs and carries, and what a worker's death costs.
//!
//! SteamCMD is the stand-in (tests/stand-in/steamcmd); what is started instead of the game that it
//! installs is the printer of tests/images, by a definition of this file's own.

mod crowd;
mod flood;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use manman_e2e::{Context, Home, Result, ensure};
use serde_json::json;

use crate::row;

/// An app that the stand-in can lay out; what it lays out is not what is started.
const GAME: &str = "steamcmd:896660";
const EXPECTED: &str = "valheim_server.x86_64";
const BOXED: &str = "docker:manman-e2e/printer";
const SOON: Duration = Duration::from_secs(120);

pub(crate) async fn measure() -> Result<()> {
    row("process: programs used", build(), "figures of debug programs say nothing of the released ones");
    let tools = Tools::build()?;
    flood::measure(&tools).await?;
    crowd::measure(&tools).await
}

const fn build() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG BUILD" } else { "release" }
}

/// The printer as a program of this machine, and the definitions that start it.
struct Tools {
    folder: tempfile::TempDir,
}

impl Tools {
    fn build() -> Result<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::Builder::new().prefix("manman-printer-").tempdir()?;
        let tools = Self { folder };
        // The games run as users of their own.
        std::fs::set_permissions(tools.folder.path(), PermissionsExt::from_mode(0o755))?;
        let compiler = Command::new("gcc")
            .args(["-O2", "-static", "-o"])
            .arg(tools.printer())
            .arg(tests.join("images/printer/printer.c"))
            .status()
            .context("run gcc")?;
        ensure!(compiler.success(), "gcc ended with {compiler}");
        std::fs::create_dir(tools.games())?;
        let rest = "console: {input: stdin}\nready: {log: 'printer: ready', within: 2m}\nrestart: on-failure\n\
                    stop: [{console: quit, wait: 10s}, {signal: TERM, wait: 10s}]\n";
        let process = format!(
            "game: {GAME}\nname: Printer\nsteam: {{login: anonymous}}\nstart: {{argv: [\"{}\"], expect: [{EXPECTED}]}}\n{rest}\
             data: {{save: [\"*.cfg\"], logs: []}}\n",
            tools.printer().display()
        );
        std::fs::write(tools.games().join("printer.yaml"), process)?;
        let boxed = format!("game: {BOXED}\nname: Printer in a container\ndocker: {{shim: true}}\n{rest}");
        std::fs::write(tools.games().join("printer-docker.yaml"), boxed)?;
        Ok(tools)
    }

    fn printer(&self) -> PathBuf {
        self.folder.path().join("printer")
    }

    fn games(&self) -> PathBuf {
        self.folder.path().join("games")
    }

    /// `manman up` with the stand-in and these definitions.
    async fn up(&self, home: &mut Home, arguments: &[&str]) -> Result<()> {
        let steamcmd = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd").display().to_string();
        let games = self.games().display().to_string();
        home.start(&[&["--steamcmd", &steamcmd, "--games", &games], arguments].concat()).await
    }
}

async fn create(home: &Home, game: &str, name: &str) -> Result<String> {
    let body = json!({"game_id": game, "name": name});
    let made: serde_json::Value = home.client()?.call(reqwest::Method::POST, "/server", Some(&body)).await?;
    Ok(made["id"].as_str().context("an id")?.to_owned())
}
