//! A game that has been taken over, as the worker meets it on the disk: links, pipes and folders that
//! change under its hands, in the directories that are the game's own.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manman_e2e::{Context, Home, Result, ensure, eventually, eventually_within, story};
use reqwest::Method;
use rustix::fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::templates::PRINTER;
use super::{Asker, text};

const SECRET: &str = "of the machine, and none of a game's\n";

/// Something of the machine's own that must stay as it is.
struct Treasure {
    dir: TempDir,
    was: Vec<(PathBuf, u32, u32, String)>,
}

impl Treasure {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir_all(dir.path().join("deep/deeper"))?;
        for file in ["file", "deep/file", "deep/deeper/file"] {
            std::fs::write(dir.path().join(file), SECRET)?;
        }
        let mut treasure = Self { dir, was: Vec::new() };
        treasure.was = treasure.now()?;
        Ok(treasure)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("file")
    }

    /// Every name below, with its rights, its owner and what is in it.
    fn now(&self) -> Result<Vec<(PathBuf, u32, u32, String)>> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let meta = path.symlink_metadata()?;
                let content = if meta.is_file() { std::fs::read_to_string(&path)? } else { String::new() };
                found.push((path.clone(), meta.mode(), meta.uid(), content));
                if meta.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn is_unharmed(&self, after: &str) -> Result<()> {
        let now = self.now()?;
        ensure!(now == self.was, "after {after}: {now:#?}");
        Ok(())
    }
}

/// The printer behind our shim, as another user, and another one beside it.
async fn boxed(home: &mut Home) -> Result<(Asker, String, PathBuf)> {
    let games = home.data().join("games");
    std::fs::create_dir_all(&games)?;
    let definition = PRINTER.replace("docker: {data: /data}", "docker: {data: /data, shim: true, user: \"1000:1000\"}");
    std::fs::write(games.join("printer.yaml"), definition)?;
    home.start(&[]).await?;
    let ask = Asker::new(home)?;
    for name in ["game", "beside"] {
        ask.did(Method::POST, "/server", json!({ "game_id": "docker:manman-e2e/printer", "name": name })).await?;
        home.manman(&["server", "start", name, "--wait=90s"]).await?.success()?;
    }
    let id = text(&ask.did(Method::GET, "/server/game", Value::Null).await?, "id")?;
    let dir = home.data().join("worker/servers").join(&id);
    Ok((ask, id, dir))
}

/// The run directory of the instance that runs.
fn run_dir(server: &Path) -> Result<PathBuf> {
    let found = std::fs::read_dir(server.join("box"))?.next().context("a run directory")??;
    Ok(found.path())
}

fn replace_by_link(path: &Path, to: &Path) -> Result<()> {
    if let Err(error) = std::fs::remove_file(path) {
        ensure!(error.kind() == std::io::ErrorKind::NotFound, "{}: {error}", path.display());
    }
    Ok(symlink(to, path)?)
}

#[test]
fn what_a_game_plants_in_its_container_leads_nowhere() -> Result<()> {
    story(async {
        let treasure = Treasure::new()?;
        let mut home = Home::empty()?;
        let (ask, _, dir) = boxed(&mut home).await?;
        let run = run_dir(&dir)?;
        ensure!(run.metadata()?.uid() == 1000 && dir.join("log").metadata()?.uid() == 1000, "the game could plant nothing here");

        // All that the worker opens, follows or replaces there, and what would be the newest of the log.
        let log = dir.join("log");
        symlink(treasure.file(), log.join("00000000000099999999.log"))?;
        for name in ["instance", "instance.new"] {
            replace_by_link(&log.join(name), &treasure.file())?;
        }
        for name in [".exit.new", ".state.new", "exit", "s", "state", "instance.json", "spec"] {
            replace_by_link(&run.join(name), &treasure.file())?;
        }
        std::fs::remove_file(run.join("lock"))?;
        mkfifoat(CWD, run.join("lock"), Mode::from_raw_mode(0o666))?;
        mkfifoat(CWD, log.join("00000000000099999998.log"), Mode::from_raw_mode(0o666))?;

        // The worker is killed, and has to find its way about it.
        home.program()?.kill().await?;
        home.start(&[]).await?;
        let home_ask = Asker::new(&home)?;
        treasure.is_unharmed("a start of the worker")?;
        // Nobody else's server suffers.
        home.manman(&["server", "restart", "beside", "--wait=60s"]).await?.success()?;
        let sent = home.manman(&["send", "beside", "hello"]).await?;
        ensure!(sent.code == Some(0), "{sent:?}");
        // The game itself can be ended and started again.
        home.manman(&["server", "kill", "game", "--wait=60s"]).await?.success()?;
        treasure.is_unharmed("a kill")?;
        let shown = home.manman(&["logs", "game", "--tail", "20"]).await?;
        ensure!(!shown.stdout.contains("of the machine"), "{}", shown.stdout);
        home.manman(&["server", "start", "game", "--wait=60s"]).await?.success()?;
        treasure.is_unharmed("a start")?;
        home.manman(&["server", "stop", "game", "--wait=60s"]).await?.success()?;
        treasure.is_unharmed("a stop")?;
        let _ = ask;
        let answer = home_ask.did(Method::GET, "/server/game", Value::Null).await?;
        ensure!(!answer.to_string().contains("of the machine"), "{answer}");
        home.manman(&["server", "delete", "game", "--purge"]).await?.success()?;
        eventually("its directory goes", async || if dir.exists() { Err("it is there") } else { Ok(()) }).await?;
        treasure.is_unharmed("a purge")
    })
}

#[test]
fn a_purge_follows_nothing_however_it_is_raced() -> Result<()> {
    story(async {
        let treasure = Treasure::new()?;
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let server = ask
            .did(Method::POST, "/server", json!({ "game_id": "docker:manman-e2e/printer", "name": "game", "docker": { "data": "/data" } }))
            .await?;
        let dir = home.data().join("worker/servers").join(text(&server, "id")?);
        home.manman(&["server", "start", "game", "--wait=60s"]).await?.success()?;
        let data = dir.join("data");
        // Links to all sorts of places, and a tree that is deeper than a path may be long.
        symlink(treasure.path(), data.join("folder"))?;
        symlink(treasure.file(), data.join("file"))?;
        symlink("/", data.join("root"))?;
        symlink("../../../..", data.join("up"))?;
        mkfifoat(CWD, data.join("pipe"), Mode::from_raw_mode(0o666))?;
        let mut deep = rustix::fs::open(&data, rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY, Mode::empty())?;
        for _ in 0..600 {
            rustix::fs::mkdirat(&deep, "a-name-that-is-rather-long", Mode::from_raw_mode(0o755))?;
            deep = rustix::fs::openat(
                &deep,
                "a-name-that-is-rather-long",
                rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
                Mode::empty(),
            )?;
        }
        // And folders that are swapped for links all the while.
        let over = Arc::new(AtomicBool::new(false));
        let mut games = Vec::new();
        for number in 0..2 {
            let (real, link) = (data.join(format!("real{number}")), data.join(format!("link{number}")));
            for file in 0..300 {
                std::fs::create_dir_all(real.join(format!("deep{file}/deeper")))?;
                std::fs::write(real.join(format!("deep{file}/deeper/file")), "mine")?;
            }
            symlink(treasure.path(), &link)?;
            let over = Arc::clone(&over);
            games.push(std::thread::spawn(move || {
                let mut swaps = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    match renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE) {
                        Ok(()) => swaps += 1,
                        // One of the two is gone.
                        Err(_) => break,
                    }
                }
                swaps
            }));
        }
        home.manman(&["server", "delete", "game", "--purge", "--force"]).await?.success()?;
        let gone =
            eventually_within(
                Duration::from_secs(120),
                "its directory goes",
                async || if dir.exists() { Err("it is there") } else { Ok(()) },
            )
            .await;
        over.store(true, Ordering::Relaxed);
        let swaps: u64 = games.into_iter().map(|game| game.join().unwrap_or_default()).sum();
        gone?;
        ensure!(swaps > 100, "only {swaps} swaps");
        treasure.is_unharmed("a purge")
    })
}
