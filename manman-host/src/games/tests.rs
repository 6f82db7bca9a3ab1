use manman_common::game_id::GameId;
use manman_common::wire::{CreateServer, PortRequest};
use manman_common::{Name, ServerId};
use uuid::Uuid;

use super::*;
use crate::domain::ports::{DEFAULT_RANGE, allocate};

fn catalogue() -> Catalogue {
    let (catalogue, errors) = Catalogue::load(None);
    assert!(errors.is_empty(), "{errors:#?}");
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

#[test]
fn every_definition_that_is_shipped_resolves() {
    let catalogue = catalogue();
    assert!(catalogue.iter().count() >= 6);
    for definition in catalogue.iter() {
        let mut request = request(&definition.game.to_string());
        for (name, spec) in definition.variables.iter().filter(|(_, spec)| spec.required && spec.default.is_none()) {
            request.variables.insert(name.clone(), spec.options.first().cloned().unwrap_or_else(|| "secret12".to_owned()));
        }
        let run = run(&catalogue, &request).unwrap_or_else(|problem| panic!("{}: {problem}", definition.game));
        let text = serde_json::to_string(&(&run.argv, &run.env)).expect("json");
        assert!(!text.contains("{{"), "{}: {text}", definition.game);
        assert!(!run.ports.is_empty(), "{}", definition.game);
    }
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

#[test]
fn a_broken_definition_says_where() {
    let error = Definition::parse("game: docker:a\nname: A\nports:\n  game: {protocol: sctp, default: 1}\n").expect_err("refused");
    assert!(error.to_string().contains('4'), "{error}");
    let error = Definition::parse("game: docker:a\nname: A\nvariables:\n  X: {pattern: '['}\n").expect_err("refused");
    assert!(error.to_string().contains("variables.X.pattern"), "{error}");
}
