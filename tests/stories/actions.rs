//! Actions of a server: a person's own script, from the command line to the game's directory and back;
//! refusals; a worker killed in the middle; a real game backed up while it runs, damaged, and restored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manman_common::client::Client;
use manman_common::wire::{CreateToken, Scope};
use manman_e2e::{Context, Home, Result, ensure, eventually, eventually_within, free_port, openarena, story};
use serde_json::{Value, json};

fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in")
}

async fn start(home: &mut Home) -> Result<()> {
    let steamcmd = stand_in().join("steamcmd").display().to_string();
    let games = stand_in().join("games").display().to_string();
    home.start(&["--docker", "off", "--steamcmd", &steamcmd, "--games", &games]).await
}

async fn patch(client: &Client, actions: Value) -> Result<()> {
    client.call::<Value>(reqwest::Method::PATCH, "/server/oa", Some(&json!({ "actions": actions }))).await?;
    Ok(())
}

async fn command(client: &Client, body: Value) -> Result<Value, manman_common::Problem> {
    let answered = client.call::<Value>(reqwest::Method::POST, "/server/oa/command", Some(&body)).await;
    answered.map_err(|error| error.problem().cloned().unwrap_or_else(|| panic!("no problem but {error:?}")))
}

/// An OpenArena that is Ready, its port and its directory.
async fn game(home: &mut Home) -> Result<(u16, PathBuf)> {
    start(home).await?;
    let port = free_port()?;
    let create = ["server", "create", "steamcmd:4000000003", "--name", "oa", "--port", &format!("game={port}"), "--wait=90s"];
    home.manman(&create).await?.success()?;
    let id = home.json(&["server", "show", "oa"]).await?["id"].as_str().context("an id")?.to_owned();
    Ok((port, home.data().join("worker/servers").join(id)))
}

async fn wait_for_phase(home: &Home, wanted: &str) -> Result<()> {
    eventually_within(Duration::from_secs(90), "the server gets there", async || {
        let shown = home.json(&["server", "show", "oa"]).await.map_err(|error| format!("{error:#}"))?;
        if shown["phase"] == wanted { Ok(()) } else { Err(shown.to_string()) }
    })
    .await
}

async fn events(home: &Home, kind: &str) -> Result<Vec<Value>, String> {
    let events = home.json(&["events", "--tail", "200"]).await.map_err(|error| format!("{error:#}"))?;
    let events = events.as_array().cloned().unwrap_or_default();
    Ok(events.into_iter().filter(|event| event["kind"] == kind).collect())
}

#[test]
fn a_script_of_ones_own() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        let (_, dir) = game(&mut home).await?;
        let client = home.client()?;
        patch(
            &client,
            json!({
                "look": {
                    "label": "Look around",
                    "script": "#!/bin/bash\nset -e\necho 'progress: 50% half way'\ntouch made-by-script\n\
                               printf '{\"pwd\": \"%s\", \"uid\": %s, \"name\": \"%s\", \"word\": \"%s\", \"n\": \"%s\", \"port\": \"%s\", \"env\": %s}' \
                               \"$PWD\" \"$(id -u)\" \"$SERVER_NAME\" \"$INPUT_WORD\" \"$INPUT_N\" \"$PORT_GAME\" \"$(env | wc -l)\"\n",
                    "inputs": {
                        "word": {"label": "A word", "required": true, "max": 40},
                        "n": {"label": "A number", "type": "integer", "default": "3", "min": 1, "max": 9},
                        "key": {"label": "A secret", "secret": true},
                    },
                },
                "reply": {"label": "Answer on the socket", "script": "manman-reply --progress 'one of two'\nmanman-reply '{\"said\": true}'\n"},
                "fails": {"label": "Fails", "script": "echo it broke >&2; exit 3\n"},
                "hangs": {"label": "Hangs", "argv": ["sleep", "600"], "timeout_seconds": 1},
                "bomb": {"label": "Fork bomb", "script": "#!/bin/bash\nbomb() { bomb | bomb & }; bomb; sleep 1; echo survived\n", "timeout_seconds": 20},
                "off": {"label": "Disabled", "argv": ["true"], "disabled": true},
            }),
        )
        .await?;
        let shown = home.json(&["server", "show", "oa"]).await?;
        ensure!(shown["pending_restart"] == false, "actions do not ask for a restart");

        let evil = "$(touch /tmp/p) '\";|";
        let answer = home.json(&["action", "oa", "look", &format!("word={evil}"), "key=hidden-word"]).await?;
        ensure!(answer["state"] == "done" && answer["inputs"]["key"] == "***", "{answer:#}");
        let told = &answer["answer"];
        ensure!(told["word"].as_str().is_none() || told["word"] == evil, "{told}");
        let text = answer.to_string();
        ensure!(!text.contains("hidden-word"), "the secret is told: {text}");
        ensure!(answer["progress"]["percent"] == 50, "{answer:#}");
        let made = dir.join("data/made-by-script");
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&made).context("the script's file")?);
        let game = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.join("data"))?);
        ensure!(owner == game && (owner != 0 || !rustix::process::geteuid().is_root()), "the script ran as {owner}, the game as {game}");

        let answer = home.json(&["action", "oa", "reply"]).await?;
        ensure!(answer["answer"] == json!({"said": true}) && answer["progress"]["step"] == "one of two", "{answer:#}");
        let answer = home.json(&["action", "oa", "look", "word=plain"]).await?;
        ensure!(answer["answer"]["name"] == "oa" && answer["answer"]["n"] == "3", "{answer:#}");

        for (body, kind, field) in [
            (json!({"action": "off"}), 409, None),
            (json!({"action": "nothing"}), 400, Some("action")),
            (json!({"action": "look"}), 400, Some("inputs.word")),
            (json!({"action": "look", "inputs": {"word": "a", "n": "x"}}), 400, Some("inputs.n")),
            (json!({"action": "look", "inputs": {"word": "a", "n": 10}}), 400, Some("inputs.n")),
            (json!({"action": "look", "inputs": {"word": "a\nb"}}), 400, Some("inputs.word")),
            (json!({"action": "look", "inputs": {"word": "a", "colour": "red"}}), 400, Some("inputs.colour")),
            (json!({"action": "fails"}), 502, None),
            (json!({"action": "hangs"}), 504, None),
        ] {
            let Err(problem) = command(&client, body.clone()).await else { manman_e2e::bail!("{body} was done") };
            ensure!(problem.status == kind && problem.field.as_deref() == field, "{body}: {problem:?}");
        }
        let failed = home.manman(&["action", "oa", "fails"]).await?;
        ensure!(failed.code == Some(1) && failed.stderr.contains("code 3") && failed.stderr.contains("it broke"), "{failed:?}");
        let foreign =
            client.call::<Value>(reqwest::Method::GET, "/server/oa/action/0199a000-0000-7000-8000-000000000000", None::<&()>).await;
        ensure!(foreign.is_err_and(|error| error.problem().is_some_and(|problem| problem.status == 404)), "an unknown run");

        // Whatever becomes of the bomb, the machine and the game stand, and nothing of it is left.
        let _ = command(&client, json!({"action": "bomb"})).await;
        eventually_within(Duration::from_secs(60), "the bomb is over", async || {
            let answer = home.json(&["action", "oa", "look", "word=after"]).await.map_err(|error| format!("{error:#}"))?;
            if answer["state"] == "done" { Ok(()) } else { Err(answer.to_string()) }
        })
        .await?;
        wait_for_phase(&home, "Ready").await?;

        // An operator may run them, and may not make one.
        let create = CreateToken { scope: Scope::Operator, label: "op".to_owned(), expires_in: Some(600), server_id: None };
        let operator = Client::new(client.endpoint().clone(), Some(client.token_create(&create).await?.token))?;
        command(&operator, json!({"action": "look", "inputs": {"word": "op"}})).await.context("an operator runs it")?;
        let refused = operator.call::<Value>(reqwest::Method::PATCH, "/server/oa", Some(&json!({"actions": {"off": null}}))).await;
        ensure!(refused.is_err_and(|error| error.problem().is_some_and(|problem| problem.status == 403)), "an operator made an action");
        let audit = eventually("each is in the audit", async || {
            let told = events(&home, "server.action").await?;
            let asked = events(&home, "server.command").await?;
            if told.len() >= 6 && asked.iter().any(|event| event["data"]["action"] == "look") {
                Ok((told, asked))
            } else {
                Err(format!("{told:?}"))
            }
        })
        .await?;
        ensure!(!format!("{audit:?}").contains("hidden-word"), "the secret is in the audit");
        home.manman(&["down"]).await?.success().map(drop)
    })
}

#[test]
fn a_worker_killed_in_the_middle_says_so() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        let (_, dir) = game(&mut home).await?;
        let client = home.client()?;
        let script = "echo begun >> runs; manman-reply --progress begun; sleep 300; echo over >> runs\n";
        patch(&client, json!({"long": {"label": "Long", "script": script, "timeout_seconds": 600}})).await?;
        let run = home.manman(&["action", "--no-wait", "oa", "long"]).await?.success()?;
        let run = run.trim().to_owned();
        let busy = command(&client, json!({"action": "long"})).await;
        ensure!(busy.as_ref().is_err_and(|problem| problem.status == 409), "two at once: {busy:?}");
        eventually("its progress is told", async || {
            let told = events(&home, "server.action_progress").await?;
            if told.iter().any(|event| event["data"]["action_id"] == run.as_str()) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await?;
        home.program()?.kill().await?;
        start(&mut home).await?;
        let client = home.client()?;
        let path = format!("/server/oa/action/{run}");
        let ended = eventually_within(Duration::from_secs(60), "its end is told", async || {
            let run = client.call::<Value>(reqwest::Method::GET, &path, None::<&()>).await.map_err(|error| format!("{error:?}"))?;
            if run["state"] == "failed" { Ok(run) } else { Err(run.to_string()) }
        })
        .await?;
        ensure!(ended["reason"] == "interrupted", "{ended:#}");
        let told = eventually("the host has heard of it", async || {
            let told = events(&home, "server.action").await?;
            let told: Vec<Value> = told.into_iter().filter(|event| event["data"]["action_id"] == run.as_str()).collect();
            if told.is_empty() { Err("nothing yet".to_owned()) } else { Ok(told) }
        })
        .await?;
        ensure!(told.len() == 1, "told more than once: {told:?}");
        ensure!(std::fs::read_to_string(dir.join("data/runs"))? == "begun\n", "it was run again, or its process lived on");
        wait_for_phase(&home, "Ready").await?;
        home.manman(&["down"]).await?.success().map(drop)
    })
}

#[test]
fn a_running_game_is_backed_up_and_restored() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        let (port, dir) = game(&mut home).await?;
        let config = dir.join("data/baseoa/kept.cfg");
        let owner = std::fs::metadata(dir.join("data"))?;
        std::fs::write(&config, "set kept 1\n")?;
        use std::os::unix::fs::MetadataExt as _;
        std::os::unix::fs::chown(&config, Some(owner.uid()), Some(owner.gid()))?;

        let made = home.json(&["action", "oa", "backup", "note=before the storm"]).await?;
        let name = made["answer"]["backup"].as_str().with_context(|| made.to_string())?.to_owned();
        ensure!(dir.join("backups").join(&name).is_file(), "{made:#}");
        let listed = home.json(&["action", "oa", "backups"]).await?;
        ensure!(listed["answer"][0]["backup"] == name.as_str() && listed["answer"][0]["note"] == "before the storm", "{listed:#}");

        // One cut in half is refused with everything as it was, and the game goes on.
        let whole = std::fs::read(dir.join("backups").join(&name))?;
        std::fs::write(dir.join("backups").join(format!("half-{name}")), &whole[..whole.len() / 2])?;
        let before = home.json(&["server", "show", "oa"]).await?["instance"].clone();
        let half = home.manman(&["action", "oa", "restore", &format!("backup=half-{name}"), "stop=true"]).await?;
        ensure!(half.code == Some(1), "{half:?}");
        ensure!(std::fs::read_to_string(&config)? == "set kept 1\n", "something was touched");
        ensure!(home.json(&["server", "show", "oa"]).await?["instance"] == before, "the game was stopped for a damaged archive");

        std::fs::write(&config, "damaged")?;
        let running = home.manman(&["action", "oa", "restore", &format!("backup={name}")]).await?;
        ensure!(running.code == Some(1) && running.stderr.contains("stop=true"), "{running:?}");
        ensure!(std::fs::read_to_string(&config)? == "damaged", "it was restored under a running game");
        let restored = home.json(&["action", "oa", "restore", &format!("backup={name}"), "stop=true"]).await?;
        ensure!(restored["state"] == "done" && restored["answer"]["starts_again"] == true, "{restored:#}");
        ensure!(std::fs::read_to_string(&config)? == "set kept 1\n", "{restored:#}");
        ensure!(std::fs::metadata(&config)?.uid() == owner.uid(), "it belongs to somebody else now");
        wait_for_phase(&home, "Ready").await?;
        ensure!(home.json(&["server", "show", "oa"]).await?["instance"] != before, "it is the instance of before");
        ensure!(!openarena(port).await?.map.is_empty(), "the game does not answer a stranger");

        let updated = home.json(&["action", "oa", "update"]).await?;
        ensure!(updated["state"] == "done" && updated["answer"]["starts_again"] == true, "{updated:#}");
        wait_for_phase(&home, "Ready").await?;
        ensure!(std::fs::read_to_string(&config)? == "set kept 1\n", "an update lost what was saved");
        home.manman(&["down"]).await?.success().map(drop)
    })
}
