use std::collections::BTreeMap;

use manman_common::game_id::GameId;
use manman_common::spec::{FileFormat, FileValue, InputKind, Platform, SteamLogin, StopStep};
use manman_common::wire::{CreateServer, PortRequest};
use manman_common::{Name, ServerId};
use uuid::Uuid;

use super::*;
use crate::domain::ports::{DEFAULT_RANGE, allocate};
use crate::domain::variables;

mod argv;
mod faults;
mod hostile;

fn catalogue() -> Catalogue {
    let catalogue = Catalogue::load(&[]);
    assert!(catalogue.left_out().is_empty(), "{:#?}", catalogue.left_out());
    catalogue
}

fn request(game: &str) -> CreateServer {
    serde_json::from_value(serde_json::json!({ "game_id": game })).expect("a request")
}

fn run(catalogue: &Catalogue, request: &CreateServer) -> Result<manman_common::RunSpec, manman_common::Problem> {
    let definition = catalogue.find(&request.game_id);
    let wishes = port_wishes(definition, request)?;
    let ports = allocate(&wishes, &Default::default(), DEFAULT_RANGE).expect("free ports");
    let name: Name = "oa".parse().expect("a name");
    resolve_run(definition, request, Place { id: ServerId::from_uuid(Uuid::nil()), name: &name, ip: "192.168.1.10" }, ports)
}

/// What a person has to say at least, and a sound word for it.
fn with_needed(mut request: CreateServer, definition: &Definition) -> CreateServer {
    ensure_console_secret(Some(definition), &mut request.variables);
    for (name, spec) in definition.variables.iter().filter(|(_, spec)| spec.required) {
        if request.variables.contains_key(name) {
            continue;
        }
        let word = match spec.kind {
            _ if !spec.options.is_empty() => spec.options.first().cloned().unwrap_or_default(),
            InputKind::Integer => spec.min.unwrap_or(1).to_string(),
            InputKind::Boolean => "true".to_owned(),
            InputKind::Text => {
                let words = ["secret12", "0123456789ABCDEF0123456789ABCDEF", "12345678", "pds-g^KU_abc"];
                (*words.iter().find(|word| variables::check(spec, word).is_ok()).unwrap_or(&"")).to_owned()
            }
        };
        request.variables.insert(name.clone(), word);
    }
    request
}

#[test]
fn every_definition_that_is_shipped_is_sound() {
    let mut games = BTreeMap::new();
    let mut said = String::new();
    for (file, text) in Catalogue::embedded() {
        let definition = match Definition::parse(&text) {
            Ok(definition) => definition,
            Err(faults) => {
                said.extend(faults.0.iter().map(|fault| format!("{file}:{fault}\n{}", fault.picture())));
                continue;
            }
        };
        assert!(definition.description.is_some() && !definition.tags.is_empty(), "{file}");
        assert!(!definition.ports.is_empty(), "{file}: players reach it by some port");
        assert!(!definition.stop.is_empty(), "{file}: it is stopped in good order");
        // These two keep nothing from one start to the next.
        assert!(!definition.data.save.is_empty() || ["bzflag.yaml", "teeworlds.yaml"].contains(&file.as_str()), "{file}: nothing is kept");
        assert!(definition.resources.memory.is_some() && definition.resources.disk.is_some(), "{file}");
        assert!(definition.ready.within.is_some(), "{file}");
        if let Some(before) = games.insert(definition.game.clone(), file.clone()) {
            panic!("{file} and {before} are the same game");
        }
    }
    assert!(said.is_empty(), "\n{said}");
    let steam = games.keys().filter(|game| matches!(game, GameId::Steamcmd(_))).count();
    assert!(games.len() >= 60 && steam >= 45, "{} games, {steam} of SteamCMD", games.len());
}

#[test]
fn only_what_was_run_is_called_proven() {
    // They were run in their images; of the others nobody has seen one run here.
    let run = ["armagetron", "bzflag", "ddnet", "luanti", "openarena", "teeworlds"];
    let catalogue = catalogue();
    let proven: Vec<&str> = catalogue.iter().filter(|game| game.proven.is_some()).map(|game| game.short.as_str()).collect();
    let mut expected = run.to_vec();
    expected.sort_by_key(|name| proven.iter().position(|proven| proven == name));
    assert_eq!(proven, expected);
}

#[test]
fn every_definition_that_is_shipped_resolves() {
    let catalogue = catalogue();
    for definition in catalogue.iter() {
        let request = with_needed(request(&definition.game.to_string()), definition);
        let run = run(&catalogue, &request).unwrap_or_else(|problem| panic!("{}: {problem}", definition.game));
        let text = serde_json::to_string(&(&run.argv, &run.env, &run.files, &run.steam, &run.process)).expect("json");
        assert!(!text.contains("{{"), "{}: {text}", definition.game);
        assert!(!run.ports.is_empty(), "{}", definition.game);
        assert_eq!(run.steam.is_some(), matches!(definition.game, GameId::Steamcmd(_)), "{}", definition.game);
        let access = run.console_access.as_ref();
        assert_eq!(access.is_some(), run.console.is_remote(), "{}", definition.game);
        assert!(access.is_none_or(|access| run.ports.iter().any(|port| port.port == access.port)), "{}", definition.game);
        // A worker that reads it back has the same.
        let back: manman_common::RunSpec = serde_json::from_value(serde_json::to_value(&run).expect("json")).expect("a run spec");
        assert_eq!(back, run, "{}", definition.game);
    }
}

#[test]
fn a_definition_reaches_the_worker_whole() {
    let catalogue = catalogue();
    let mut wish = request("steamcmd:2394010");
    wish.variables.insert("PASSWORD".to_owned(), "friends".to_owned());
    let definition = catalogue.find(&wish.game_id).expect("Palworld");
    let run = run(&catalogue, &with_needed(wish, definition)).expect("resolves");
    let steam = run.steam.expect("of SteamCMD");
    assert_eq!((steam.platform, steam.login), (Platform::Linux, SteamLogin::Anonymous));
    assert_eq!(steam.expect, ["Pal/Binaries/Linux/PalServer-Linux-Shipping"]);
    let [file] = run.files.as_slice() else { panic!("{:?}", run.files) };
    assert_eq!(
        (file.path.as_str(), file.format, file.create),
        ("Pal/Saved/Config/LinuxServer/PalWorldSettings.ini", FileFormat::Ini, true)
    );
    let set = |key: &str| file.set.iter().find(|entry| entry.key.ends_with(key)).map(|entry| entry.value.clone());
    assert_eq!(set("(ServerPassword)"), Some(FileValue::Text("\"friends\"".to_owned())));
    let access = run.console_access.expect("a console");
    assert_eq!(run.ports.iter().find(|port| port.port == access.port).map(|port| port.name.as_str()), Some("rcon"));
    let secret = access.secret.expect("a password that was made");
    assert!(secret.len() == 30 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()), "as many as `max` allows");
    assert!(matches!(run.stop[0].step, StopStep::Action(ref name) if name == "save"));
    assert_eq!(run.actions["save"].answer.as_deref(), Some("Complete Save"));
    assert!(run.players.expect("a rule").join.contains("?P<player>"));
    assert_eq!(run.data.save.len(), 2);
}

#[test]
fn values_of_typed_formats_keep_their_types() {
    let catalogue = catalogue();
    let wish = request("docker:factoriotools/factorio");
    let definition = catalogue.find(&wish.game_id).expect("Factorio");
    let run = run(&catalogue, &with_needed(wish, definition)).expect("resolves");
    let value = |key: &str| run.files[0].set.iter().find(|entry| entry.key == key).map(|entry| entry.value.clone());
    assert_eq!(value("autosave_interval"), Some(FileValue::Integer(10)));
    assert_eq!(value("visibility.public"), Some(FileValue::Truth(false)));
    assert_eq!(value("visibility.lan"), Some(FileValue::Truth(true)));
    assert_eq!(value("name"), Some(FileValue::Text("oa".to_owned())));
    assert_eq!(run.files[0].set[0].key, "name", "in the file's order");
}

#[test]
fn a_console_secret_is_made_once_and_kept() {
    let catalogue = catalogue();
    let definition = catalogue.find(&"steamcmd:258550".parse::<GameId>().expect("an id")).expect("Rust");
    let mut values = BTreeMap::new();
    ensure_console_secret(Some(definition), &mut values);
    let made = values["RCON_PASSWORD"].clone();
    assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    ensure_console_secret(Some(definition), &mut values);
    assert_eq!(values["RCON_PASSWORD"], made);
    let mut other = BTreeMap::from([("RCON_PASSWORD".to_owned(), String::new())]);
    ensure_console_secret(Some(definition), &mut other);
    assert_ne!(other["RCON_PASSWORD"], made);
    // Whatever the letters are, every game's own rules let them pass.
    for definition in catalogue.iter() {
        let mut values = BTreeMap::new();
        ensure_console_secret(Some(definition), &mut values);
        for (name, value) in values {
            assert!(variables::check(&definition.variables[&name], &value).is_ok(), "{}", definition.short);
        }
    }
}

#[test]
fn a_persons_own_files_win_and_bad_ones_are_told_of() {
    let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let game = |name: &str| format!("game: docker:manman/openarena\nname: {name}\nports:\n  game: {{protocol: udp, default: 1}}\n");
    std::fs::write(first.path().join("mine.yaml"), game("Mine")).expect("written");
    std::fs::write(first.path().join("zwei.yml"), game("Twice")).expect("written");
    std::fs::write(first.path().join("notes.txt"), "no definition").expect("written");
    std::fs::write(second.path().join("bad.yaml"), "game: docker:a\nname: A\nnmae: B\n").expect("written");
    let missing = second.path().join("not-there");
    let catalogue = Catalogue::load(&[first.path().to_owned(), second.path().to_owned(), missing]);
    let id: GameId = "docker:manman/openarena".parse().expect("an id");
    assert_eq!(catalogue.find(&id).map(|game| (game.name.as_str(), game.short.as_str())), Some(("Mine", "mine")));
    let left_out: Vec<String> = catalogue.left_out().iter().map(ToString::to_string).collect();
    assert_eq!(left_out.len(), 2, "{left_out:#?}");
    assert!(left_out[0].contains("zwei.yml") && left_out[0].contains("mine.yaml"), "{}", left_out[0]);
    assert!(left_out[1].contains("bad.yaml:3:1: ") && left_out[1].contains("nmae"), "{}", left_out[1]);
}

#[test]
fn a_persons_values_reach_the_game_and_are_checked() {
    let catalogue = catalogue();
    let mut wish = request("docker:manman/openarena");
    wish.variables.insert("MAP".to_owned(), "oa_ctf".to_owned());
    wish.ports.push(PortRequest { name: None, protocol: None, port: 27999, container_port: None });
    let run1 = run(&catalogue, &wish).expect("resolves");
    assert!(run1.argv.windows(2).any(|pair| pair == ["net_port", "27999"]), "{:?}", run1.argv);
    assert!(run1.argv.windows(2).any(|pair| pair == ["+map", "oa_ctf"]));
    assert!(run1.argv.windows(2).any(|pair| pair == ["sv_hostname", "oa"]), "the default is the server's name");
    assert_eq!(run1.query.map(|query| query.port), Some(27999));

    wish.variables.insert("MAP".to_owned(), "a;quit".to_owned());
    assert_eq!(run(&catalogue, &wish).expect_err("refused").field.as_deref(), Some("variables.MAP"));
}

#[test]
fn a_tag_does_not_hide_the_definition() {
    let catalogue = catalogue();
    for id in ["docker:manman/openarena:latest", "docker:manman/openarena:0.8"] {
        assert!(catalogue.find(&id.parse::<GameId>().expect("an id")).is_some(), "{id}");
    }
    assert!(catalogue.find(&"docker:localhost:5000/openarena".parse::<GameId>().expect("an id")).is_none());
}

#[test]
fn what_has_no_definition_says_what_it_needs() {
    let catalogue = catalogue();
    let problem = run(&catalogue, &request("steamcmd:4")).expect_err("refused");
    assert!(problem.hint.expect("a hint").contains("start.argv"));

    let mut bare = request("docker:debian:bookworm-slim");
    bare.ports.push(PortRequest { name: None, protocol: None, port: 70_000, container_port: None });
    assert_eq!(run(&catalogue, &bare).expect_err("refused").field.as_deref(), Some("ports[0].port"));
    bare.ports[0] = PortRequest { name: None, protocol: None, port: 0, container_port: Some(8080) };
    assert_eq!(run(&catalogue, &bare).expect("resolves").ports[0].port, 8080);
    bare.docker = Some(serde_json::from_value(serde_json::json!({ "mounts": ["/data/../etc"] })).expect("json"));
    assert_eq!(run(&catalogue, &bare).expect_err("refused").field.as_deref(), Some("docker.mounts[0]"));
    bare.docker = None;
    bare.env.insert("A=B".to_owned(), String::new());
    assert_eq!(run(&catalogue, &bare).expect_err("refused").field.as_deref(), Some("env"));
}
