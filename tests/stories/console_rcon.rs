//! A person's own definition of a game whose console is reached over the network.

use manman_e2e::{Context, Home, Result, ensure, eventually, free_port, story};

/// OpenArena as its engine's other users run it: lines go in by rcon, and `quit` does, too.
const DEFINITION: &str = r#"
game: docker:manman/openarena
name: OpenArena by rcon
description: OpenArena with its console over the network.
variables:
  RCON_PASSWORD: {label: Password of the console, secret: true, exposed: argv, required: true, max: 32, pattern: "[A-Za-z0-9]+"}
ports:
  game: {protocol: udp, default: 27960}
start:
  argv: ["+set", dedicated, "1", "+set", net_port, "{{ports.game}}", "+set", sv_maxclients, "6", "+set", bot_enable, "1", "+set", bot_minplayers, "2", "+set", rconPassword, "{{RCON_PASSWORD}}", "+map", oa_dm1]
docker: {data: /data, user: "1000:1000", build: docker/games/openarena}
ready: {query: quake3, within: 2m}
console: {input: quake3-rcon, port: game, secret: RCON_PASSWORD}
stop: [{action: farewell, wait: 5s}, {action: never, wait: 1s}, {console: quit, wait: 20s}, {signal: KILL, wait: 5s}]
query: {protocol: quake3, port: game}
actions:
  farewell: {label: Say good-bye, console: echo farewell, answer: "^farewell"}
  never: {label: Wait for what does not come, console: echo waiting, answer: "^this line does not come$"}
data: {save: ["baseoa/**"], logs: []}
resources: {memory: 512MiB, disk: 1500MiB}
update: {on: manual}
"#;

const PASSWORD: &str = "Hunter2Hunter2";

#[test]
fn a_console_over_the_network_answers_and_ends_the_game() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        let games = home.data().join("games");
        std::fs::create_dir_all(&games)?;
        std::fs::write(games.join("openarena-rcon.yaml"), DEFINITION)?;
        home.start(&[]).await?;
        let wish = format!("game={}", free_port()?);
        let secret = format!("RCON_PASSWORD={PASSWORD}");
        home.manman(&["server", "create", "docker:manman/openarena", "--name", "oa", "--port", &wish, "--set", &secret, "--wait=5m"])
            .await?
            .success()?;
        let server = home.json(&["server", "show", "oa"]).await?;
        ensure!(server["phase"] == "Ready" && server["variables"]["RCON_PASSWORD"].is_null(), "{server:#}");

        // The reply comes back, and into the log.
        let answer = home.manman(&["send", "oa", "status"]).await?.success()?;
        ensure!(answer.contains("map: oa_dm1"), "the game answered {answer:?}");
        let answer = home.manman(&["send", "oa", "cvarlist", "rcon*"]).await?.success()?;
        ensure!(!answer.contains("map: oa_dm1"), "a second line is answered by the first one's reply: {answer:?}");
        let log = home.manman(&["logs", "oa", "--tail", "2000"]).await?;
        ensure!(log.stderr.contains("> status") && log.stderr.contains("map: oa_dm1"), "the manager's words are {}", log.stderr);
        let answer = home.json(&["action", "oa", "farewell"]).await?;
        ensure!(answer["done"] == "reply", "{answer:#}");

        // Players: two bots, by their names.
        eventually("two players are shown by name", async || {
            let server = home.json(&["server", "show", "oa"]).await.map_err(|error| format!("{error:#}"))?;
            let players = &server["players"];
            let named = players["names"].as_array().is_some_and(|names| names.len() == 2);
            if players["online"] == 2 && players["max"] == 6 && named { Ok(()) } else { Err(players.to_string()) }
        })
        .await?;
        let id = server["id"].as_str().context("an id")?;
        let metrics: String = reqwest::Client::builder()
            .build()?
            .get(format!("{}/metrics", home.context("url")?.trim_end_matches('/')))
            .bearer_auth(home.context("token")?)
            .send()
            .await?
            .text()
            .await?;
        ensure!(metrics.contains(&format!("manman_server_players{{server=\"{id}\"}} 2")), "{metrics}");

        // The plan's rungs over the network: one is answered, one is not, the third ends the game.
        home.manman(&["server", "stop", "oa", "--wait=90s"]).await?.success()?;
        let server = home.json(&["server", "show", "oa"]).await?;
        ensure!(server["phase"] == "Stopped" && server["exit"]["code"] == 0, "{server:#}");
        let events = home.json(&["events", "--tail", "100"]).await?;
        let told: Vec<_> = events
            .as_array()
            .context("a list")?
            .iter()
            .filter(|event| event["kind"].as_str().is_some_and(|kind| kind.starts_with("server.rung")))
            .map(|event| event["message"].as_str().unwrap_or_default())
            .collect();
        for word in ["`farewell`", "`never`", "its answer has not come", "`quit`"] {
            ensure!(told.iter().any(|message| message.contains(word)), "no {word} among {told:?}");
        }
        ensure!(!told.iter().any(|message| message.contains("KILL")), "quit alone was to end it: {told:?}");

        // The stop command, typed, is no crash: it rests.
        home.manman(&["server", "start", "oa", "--wait=2m"]).await?.success()?;
        home.manman(&["send", "oa", "quit"]).await?.success()?;
        eventually("it rests", async || {
            let server = home.json(&["server", "show", "oa"]).await.map_err(|error| format!("{error:#}"))?;
            let rests = server["phase"] == "Stopped" && server["restarts"] == 0;
            if rests { Ok(()) } else { Err(format!("{} {}", server["phase"], server["conditions"])) }
        })
        .await?;

        // The password is in no event and no log.
        let log = home.manman(&["logs", "oa", "--tail", "20000"]).await?;
        let log = log.stdout + &log.stderr;
        let own = home.program()?.said().join("\n");
        for (place, text) in [("log", log), ("events", events.to_string()), ("server", server.to_string()), ("own words", own)] {
            ensure!(!text.contains(PASSWORD), "the password is in the {place}: {text}");
        }
        Ok(())
    })
}
