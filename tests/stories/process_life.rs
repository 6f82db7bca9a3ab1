//! Games that are processes: they outlive whatever of ours is killed, and are never there twice.
//!
//! SteamCMD is the stand-in (tests/stand-in/steamcmd); what is started instead of the game that it
//! installs is a few lines of shell, by a definition of this story's own.

use std::path::Path;
use std::time::Duration;

use manman_e2e::{Home, Result, ensure, eventually, eventually_within, follow, story};
use serde_json::Value;

const GAME: &str = "steamcmd:4000000001";
const SOON: Duration = Duration::from_secs(60);

/// A home whose worker starts this script as its game.
struct Stage {
    home: Home,
    /// Stands in the command line of each process of the game.
    mark: String,
    arguments: Vec<String>,
}

impl Stage {
    fn new(script: &str, restart: &str) -> Result<Self> {
        let home = Home::empty()?;
        let mark = format!("life-of-{}", home.data().file_name().unwrap_or_default().to_string_lossy());
        let games = home.data().join("definitions");
        std::fs::create_dir_all(&games)?;
        let script = serde_json::to_string(&format!(": {mark}\n{script}"))?;
        let definition = format!(
            "game: {GAME}\nname: A few lines of shell\nsteam: {{login: anonymous}}\nstart: {{argv: [/bin/sh, -c, {script}], expect: [bzfs]}}\n\
             console: {{input: stdin}}\nrestart: {restart}\nstop: [{{console: quit, wait: 2s}}, {{signal: TERM, wait: 2s}}]\n\
             data: {{save: [\"*.cfg\"], logs: []}}\n"
        );
        std::fs::write(games.join("shell.yaml"), definition)?;
        let steamcmd = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
        let arguments = ["--docker", "off", "--steamcmd", &steamcmd.to_string_lossy(), "--games", &games.to_string_lossy()];
        Ok(Self { arguments: arguments.map(str::to_owned).to_vec(), home, mark })
    }

    async fn up(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.home.start_with(&arguments, environment).await
    }

    async fn phase(&self, server: &str, wanted: &str) -> Result<Value> {
        eventually_within(SOON, wanted, async || {
            let shown = self.home.json(&["server", "show", server]).await.map_err(|error| format!("{error:#}"))?;
            if shown["phase"] == wanted { Ok(shown) } else { Err(shown.to_string()) }
        })
        .await
    }

    /// The processes of the game that live, as `(pid, parent)`.
    fn game(&self) -> Vec<(i32, i32)> {
        processes(|words| words.windows(self.mark.len()).any(|part| part == self.mark.as_bytes()))
    }

    /// The shims of this home that live.
    fn shims(&self) -> Vec<(i32, i32)> {
        let place = self.home.data().join("worker/servers").to_string_lossy().into_owned();
        processes(|words| {
            words.starts_with(self.home.data().to_string_lossy().as_bytes())
                && words.windows(place.len()).any(|part| part == place.as_bytes())
        })
    }

    async fn events(&self) -> Result<Vec<Value>> {
        Ok(self.home.json(&["events", "--tail", "200"]).await?.as_array().cloned().unwrap_or_default())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What a failed story leaves behind.
        for (pid, _) in self.game().into_iter().chain(self.shims()) {
            let _ = rustix::process::Pid::from_raw(pid).map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
}

fn processes(ours: impl Fn(&[u8]) -> bool) -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let look = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
        (state != "Z" && ours(&words)).then_some((pid, parent))
    };
    entries.flatten().filter_map(look).collect()
}

fn kill((pid, _): (i32, i32)) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| manman_e2e::anyhow!("no pid"))?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

/// Reads its console until it is told to quit.
const OBEDIENT: &str = "while read line; do case $line in quit) exit 0;; *) echo \"got $line\";; esac; done";

#[test]
fn a_worker_killed_at_any_step_of_a_start_leaves_one_game_or_none() -> Result<()> {
    story(async {
        let steps = [
            "start.files_written",
            "start.cgroup_made",
            "start.run_dir_made",
            "start.spec_written",
            "start.log_handed_over",
            "start.shim_spawned",
            "start.game_runs",
        ];
        let mut stage = Stage::new(OBEDIENT, "on-failure")?;
        for (number, step) in steps.into_iter().enumerate() {
            stage.up(&[("MANMAN_FAILPOINT", step)]).await?;
            let name = format!("game-{number}");
            // The answer may be cut off with everything else.
            let _ = stage.home.manman(&["server", "create", GAME, "--name", &name]).await?;
            stage.home.program()?.ended(SOON).await?;
            ensure!(stage.game().len() <= 1, "{step}: {:?}", stage.game());

            stage.up(&[]).await?;
            stage.phase(&name, "Ready").await?;
            ensure!(stage.game().len() == 1, "{step}: {:?}", stage.game());
            ensure!(stage.shims().len() == 1, "{step}: {:?}", stage.shims());
            let answer = stage.home.manman(&["send", &name, "hello"]).await?.success()?;
            ensure!(answer.contains("got hello"), "{step}: it answered {answer:?}");
            stage.home.manman(&["server", "stop", &name, "--wait=30s"]).await?.success()?;
            ensure!(stage.game().is_empty(), "{step}: {:?}", stage.game());
            stage.home.program()?.kill().await?;
        }
        Ok(())
    })
}

#[test]
fn a_game_outlives_its_shim_and_is_never_there_twice() -> Result<()> {
    story(async {
        let mut stage = Stage::new(&format!("(while :; do echo tick; sleep 0.2; done) &\n{OBEDIENT}"), "always")?;
        stage.up(&[]).await?;
        stage.home.manman(&["server", "create", GAME, "--name", "game", "--wait=60s"]).await?.success()?;
        let before = stage.game();
        kill(*stage.shims().first().ok_or_else(|| manman_e2e::anyhow!("no shim"))?)?;
        let client = stage.home.client()?;
        // What it prints afterwards is in the log, and it is still the same game.
        follow(&client, "game", "since_seq=0", SOON, |seen| {
            let killed = seen.lines.iter().position(|line| line.text.contains("was killed"));
            killed.is_some_and(|at| seen.lines[at..].iter().filter(|line| line.text == "tick").count() > 3)
        })
        .await?;
        let shown = stage.phase("game", "Ready").await?;
        ensure!(shown["restarts"] == 0, "{shown:#}");
        ensure!(stage.game().iter().map(|(pid, _)| pid).eq(before.iter().map(|(pid, _)| pid)), "{before:?}, and then {:?}", stage.game());
        stage.home.manman(&["server", "stop", "game", "--wait=60s"]).await?.success()?;
        ensure!(stage.game().is_empty(), "{:?}", stage.game());

        // Shim and worker at once: whatever is left goes before another is there.
        stage.home.manman(&["server", "start", "game", "--wait=60s"]).await?.success()?;
        let shim = *stage.shims().first().ok_or_else(|| manman_e2e::anyhow!("no shim"))?;
        stage.home.program()?.kill().await?;
        kill(shim)?;
        stage.up(&[]).await?;
        eventually_within(SOON, "one game runs", async || {
            let shown = stage.home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
            let first: Vec<_> = stage.game();
            if shown["phase"] == "Ready" && first.len() == before.len() { Ok(()) } else { Err(format!("{first:?} {shown}")) }
        })
        .await?;
        Ok(())
    })
}

#[test]
fn a_game_that_will_not_go_is_gone_with_all_it_started() -> Result<()> {
    story(async {
        let script =
            "trap '' TERM INT\n(setsid sh -c \": $0; trap '' TERM; while :; do sleep 1; done\" &)\necho up\nwhile :; do sleep 1; done";
        let mut stage = Stage::new(script, "on-failure")?;
        stage.up(&[]).await?;
        stage.home.manman(&["server", "create", GAME, "--name", "game", "--wait=60s"]).await?.success()?;
        stage.home.manman(&["server", "stop", "game", "--wait=60s"]).await?.success()?;
        let shown = stage.phase("game", "Stopped").await?;
        ensure!(shown["exit"]["signal"] == 9, "{shown:#}");
        ensure!(stage.game().is_empty(), "{:?}", stage.game());
        let told: Vec<String> =
            stage.events().await?.iter().filter(|event| event["kind"] == "server.rung").map(|event| event["message"].to_string()).collect();
        ensure!(
            told.len() >= 2 && told.iter().any(|text| text.contains("quit")) && told.iter().any(|text| text.contains("SIGTERM")),
            "{told:?}"
        );
        Ok(())
    })
}

#[test]
fn no_line_is_missing_or_doubled_however_often_the_worker_is_killed() -> Result<()> {
    story(async {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); printf 'line %09d\\n' $i; [ $((i%100)) = 0 ] && sleep 0.1; done; echo all; read line";
        let mut stage = Stage::new(script, "never")?;
        stage.up(&[]).await?;
        stage.home.manman(&["server", "create", GAME, "--name", "game", "--wait=60s"]).await?.success()?;
        for upto in [4_000, 9_000, 14_000] {
            let client = stage.home.client()?;
            follow(&client, "game", "since_seq=0", SOON, |seen| {
                seen.printed().last().and_then(|text| text.get(5..14)?.parse::<u32>().ok()).is_some_and(|line| line >= upto)
            })
            .await?;
            stage.home.program()?.kill().await?;
            stage.up(&[]).await?;
        }
        let client = eventually("the host answers", async || stage.home.client().map_err(|error| format!("{error:#}"))).await?;
        let transcript = follow(&client, "game", "since_seq=0", SOON, |seen| seen.printed().any(|text| text == "all")).await?;
        ensure!(transcript.whole()? == 20_000, "{} lines", transcript.lines.len());
        let shown = stage.home.json(&["server", "show", "game"]).await?;
        ensure!(shown["restarts"] == 0, "{shown:#}");
        Ok(())
    })
}

#[test]
fn a_typed_stop_is_a_stop_and_an_end_with_code_0_follows_the_policy() -> Result<()> {
    story(async {
        let mut stage = Stage::new("while read line; do case $line in quit|leave) exit 0;; break) exit 3;; esac; done", "always")?;
        stage.up(&[]).await?;
        stage.home.manman(&["server", "create", GAME, "--name", "game", "--wait=60s"]).await?.success()?;
        stage.home.manman(&["send", "game", "leave"]).await?.success()?;
        let shown = eventually("it comes back by itself", async || {
            let shown = stage.home.json(&["server", "show", "game"]).await.map_err(|error| format!("{error:#}"))?;
            if shown["restarts"] == 1 && shown["phase"] == "Ready" { Ok(shown) } else { Err(shown.to_string()) }
        })
        .await?;
        ensure!(shown["exit"]["code"] == 0, "{shown:#}");
        stage.home.manman(&["send", "game", "quit"]).await?.success()?;
        let shown = stage.phase("game", "Stopped").await?;
        ensure!(shown["restarts"] == 1 && shown["exit"]["code"] == 0, "{shown:#}");
        Ok(())
    })
}
