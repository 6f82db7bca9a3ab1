//! Ten games of SteamCMD, chosen at random, start with exactly the words that each of them documents.
//!
//! What they start with is in `games_argv.txt`. The stand-in for SteamCMD installs a small program at
//! each expected path, which writes down how it was started.

use std::path::{Path, PathBuf};

use manman_e2e::{Context, Home, Result, anyhow, bail, ensure, eventually, free_port, story};
use serde_json::Value;

/// What is known of one game, as `games_argv.txt` has it.
#[derive(Clone, Debug, Default)]
struct Golden {
    short: String,
    set: Vec<String>,
    /// With `<game:2456>` where the number of the port `game` stands.
    argv: Vec<String>,
}

const CHOSEN: usize = 10;
const SEED: u64 = 20_261_121;

#[test]
fn ten_games_start_as_they_document() -> Result<()> {
    story(async {
        let seed = match std::env::var("MANMAN_SEED") {
            Ok(text) => text.parse().context("MANMAN_SEED is a number")?,
            Err(_) => SEED,
        };
        let chosen = choose(golden()?, seed);
        let names: Vec<&str> = chosen.iter().map(|game| game.short.as_str()).collect();
        eprintln!("MANMAN_SEED={seed} chose {}", names.join(", "));

        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in/steamcmd");
        let home = Home::up_with(&["--docker", "off", "--steamcmd", &stand_in.to_string_lossy()]).await?;
        let mut wrong = Vec::new();
        for game in chosen {
            if let Err(error) = starts_as_documented(&home, &game).await {
                wrong.push(format!("{}: {error:#}", game.short));
            }
        }
        ensure!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
        Ok(())
    })
}

/// Somebody else on the machine may take a port between the host's look and the game's start.
const TRIES: usize = 3;

async fn starts_as_documented(home: &Home, game: &Golden) -> Result<()> {
    let mut tried = 0;
    let (server, started) = loop {
        tried += 1;
        match start(home, game).await? {
            Ok(started) => break started,
            Err(taken) if tried == TRIES => bail!("its ports were taken {TRIES} times: {taken}"),
            Err(_) => {}
        }
    };
    let argv = started["argv"].as_array().context("arguments")?.iter().map(|word| word.as_str().unwrap_or_default().to_owned());
    let argv: Vec<String> = argv.collect();
    let expected = game.argv.iter().map(|word| with_ports(word, &server)).collect::<Result<Vec<_>>>()?;

    // A script is handed its program's path as the kernel found it, so only its end is the definition's.
    let (program, arguments) = argv.split_first().context("a program")?;
    let (documented, rest) = expected.split_first().context("a documented program")?;
    ensure!(
        program.ends_with(documented.trim_start_matches("./")) && arguments == rest,
        "it was started as\n  {}\nand not as documented\n  {}",
        argv.join("|"),
        expected.join("|")
    );
    Ok(())
}

/// The server and what its game wrote down, or the word that a port of it is somebody else's.
async fn start(home: &Home, game: &Golden) -> Result<Result<(Value, Value), String>> {
    // By the word that people type for it. The real games want gigabytes, their stand-in does not.
    let mut create = vec!["server", "create", game.short.as_str(), "--name", game.short.as_str(), "--memory", "256MiB"];
    for set in &game.set {
        create.extend(["--set", set]);
    }
    // Away from the ports that many games have by default; those that stand beside them follow.
    let shown = home.json(&["game", "show", &game.short]).await?;
    let mut ports = Vec::new();
    for port in shown["ports"].as_array().context("ports")? {
        let (name, default) = (port["name"].as_str().context("a name")?, port["default"].as_str().context("a default")?);
        if !default.contains("{{") {
            ports.push(format!("{name}={}", free_port()?));
            // Room for those beside it, which are three at most.
            for _ in 0..3 {
                free_port()?;
            }
        }
    }
    for port in &ports {
        create.extend(["--port", port]);
    }
    let server = home.json(&create).await?;
    let id = server["id"].as_str().context("an id")?.to_owned();
    let folder = home.data().join("worker/servers").join(&id);
    let started = eventually("the game is started", async || {
        let found = find(&folder, "stand-in-start.json").and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(started) = found.and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
            return Ok(Ok(started));
        }
        let now = home.json(&["server", "show", &id]).await.map_err(|error| format!("{error:#}"))?;
        let taken = now["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "PortInUse");
        taken.map(|condition| Err(condition.to_string())).ok_or_else(|| now.to_string())
    })
    .await?;
    home.manman(&["server", "delete", &id, "--force", "--purge"]).await?.success()?;
    eventually("the server is gone", async || {
        let shown = home.manman(&["server", "show", &id]).await.map_err(|error| format!("{error:#}"))?;
        if shown.code == Some(0) { Err(shown.stdout) } else { Ok(()) }
    })
    .await?;
    Ok(started.map(|started| (server, started)))
}

/// The first file of this name below a folder, however deep.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name() == name {
                return Some(path);
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    None
}

/// `<game:2456>` with the number that the server's port `game` really has.
fn with_ports(word: &str, server: &Value) -> Result<String> {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('<') {
        let (port, after) = after.split_once('>').context("`<` without `>`")?;
        let (name, _) = port.split_once(':').context("a port without a number")?;
        let ports = server["ports"].as_array().context("ports")?;
        let number = ports.iter().find(|port| port["name"] == name).and_then(|port| port["port"].as_u64());
        filled.push_str(before);
        filled.push_str(&number.ok_or_else(|| anyhow!("the server has no port `{name}`: {server:#}"))?.to_string());
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn golden() -> Result<Vec<Golden>> {
    let mut games: Vec<Golden> = Vec::new();
    for line in include_str!("games_argv.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, games.last_mut()) {
            ("game", _) => games.push(Golden { short: rest.to_owned(), ..Golden::default() }),
            ("set", Some(game)) => game.set.push(rest.to_owned()),
            ("arg", Some(game)) => game.argv.push(rest.to_owned()),
            _ => bail!("`{line}` is not understood"),
        }
    }
    Ok(games)
}

/// The same ones for the same seed, on every machine.
fn choose(mut games: Vec<Golden>, seed: u64) -> Vec<Golden> {
    let mut state = seed;
    let mut next = || {
        // SplitMix64, which needs no warming up.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut chosen = Vec::new();
    while chosen.len() < CHOSEN && !games.is_empty() {
        let at = usize::try_from(next() % games.len() as u64).unwrap_or(0);
        chosen.push(games.swap_remove(at));
    }
    chosen
}
