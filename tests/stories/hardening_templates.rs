//! What a person gives as a value is never read as a template, by the host, the worker or Docker.

use manman_e2e::{Container, Home, Result, containers_of_server, ensure, eventually, story};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Asker, text};

pub(super) const PRINTER: &str = r#"
game: docker:manman-e2e/printer
name: Printer with words
description: Prints, and takes what it is given.
variables:
  TEXT: {label: Text, default: "", max: 200}
  PASSWORD: {label: Password, secret: true, default: "", max: 64}
start:
  argv: ["{{TEXT}}"]
  env: {TEXT_IN_ENV: "{{TEXT}}", PASSWORD_IN_ENV: "{{PASSWORD}}"}
files:
  - {path: conf/game.properties, format: properties, create: true, set: {text: "{{TEXT}}"}}
docker: {data: /data}
console: {input: stdin}
stop: [{console: quit, wait: 5s}]
actions:
  say: {label: Say, console: "say {{inputs.message}}", inputs: {message: {label: Message, required: true, max: 200}}}
data: {save: ["conf/**"], logs: []}
resources: {memory: 64MiB, disk: 64MiB}
update: {on: manual}
"#;

/// A home that knows the printer as a definition of a person's own.
pub(super) fn with_printer(home: &Home) -> Result<()> {
    let games = home.data().join("games");
    std::fs::create_dir_all(&games)?;
    Ok(std::fs::write(games.join("printer.yaml"), PRINTER)?)
}

#[test]
fn no_value_is_a_template() -> Result<()> {
    story(async {
        let mut home = Home::empty()?;
        with_printer(&home)?;
        home.start(&[]).await?;
        let ask = Asker::new(&home)?;
        let create = |value: &str| json!({ "game_id": "docker:manman-e2e/printer", "name": "game", "variables": { "TEXT": value } });
        for bad in ["a\nb", "a\rb", "a\0b", "\u{1b}[2J"] {
            let response = ask.request(Method::POST, "/server").json(&create(bad)).send().await?;
            ensure!(response.status() == 400, "{bad:?}: {}", response.text().await?);
        }
        let words = [
            "{{config.token}}{{variables.PASSWORD}}{{PASSWORD}}{{server.ip}}{{env.PATH}}",
            "${HOME} $HOME $(id) `id` %PATH% %s%n $$ \\u0041 !!{{",
        ];
        let server = ask.did(Method::POST, "/server", create(words[0])).await?;
        let server = text(&server, "id")?;
        let path = format!("/server/{server}");
        for value in words {
            ask.did(Method::PATCH, &path, json!({ "variables": { "TEXT": value } })).await?;
            home.manman(&["server", "restart", "game", "--wait=60s"]).await?.success()?;
            let container = eventually("it runs with its value", async || {
                let containers = containers_of_server(&server).await.map_err(|error| format!("{error:#}"))?;
                let now = |container: &Container| container.is_running() && container.inspect["Config"]["Cmd"] == json!([value]);
                let seen: Vec<String> = containers.iter().map(|c| format!("{} {}", c.is_running(), c.inspect["Config"]["Cmd"])).collect();
                containers.into_iter().find(now).ok_or(format!("{seen:?}"))
            })
            .await?;
            let config = &container.inspect["Config"];
            let env: Vec<&str> = config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            ensure!(env.contains(&format!("TEXT_IN_ENV={value}").as_str()), "{env:?}");
            let file = std::fs::read_to_string(home.data().join("worker/servers").join(&server).join("data/conf/game.properties"))?;
            let read: String = file.lines().filter_map(|line| line.strip_prefix("text=")).collect::<String>().replace("\\\\", "\\");
            ensure!(read == value, "{file:?}");
            home.manman(&["action", "game", "say", &format!("message={value}")]).await?.success()?;
            let log = home.manman(&["logs", "game", "--tail", "20"]).await?.success()?;
            ensure!(log.contains(&format!("say {value}")), "{log}");
        }
        Ok(())
    })
}
