//! What a definition may not say, and that each refusal is shown where it stands.

use super::super::{Definition, Fault};

/// A sound one; each test changes a line of it.
const SOUND: &str = r#"game: steamcmd:4
name: A game
steam: {login: anonymous}
variables:
  NAME: {label: Name, default: "{{server.name}}", max: 64}
  MAP: {label: Map, default: "{{NAME}}"}
  RCON: {label: Password, secret: true, max: 20}
ports:
  game: {protocol: udp, default: 2456}
  query: {protocol: udp, default: "{{ports.game}} + 1"}
  rcon: {protocol: tcp, default: 2458}
start:
  argv: ["./server", "-name", "{{NAME}}", "-port", "{{ports.game}}"]
  env: {HOME_MAP: "{{MAP}}"}
  dir: bin
  expect: [bin/server]
files:
  - path: cfg/server.ini
    format: ini
    create: true
    set:
      rcon.password: "{{RCON}}"
ready: {log: "ready", query: valve, within: 10m}
console: {input: source-rcon, port: rcon, secret: RCON}
stop: [{action: save, wait: 30s}, {console: quit, wait: 20s}, {signal: INT, wait: 10s}]
query: {protocol: valve, port: query}
hang: {silent: 5m}
players: {join: "(?P<player>.+) joined", leave: "(?P<player>.+) left"}
url: "steam://connect/{{server.ip}}:{{ports.game}}"
actions:
  save: {label: Save, console: save, answer: Saved}
  say: {label: Say, console: "say {{inputs.text}}", inputs: {text: {label: Text}}}
data: {save: ["saves/**"], logs: ["*.log"]}
resources: {memory: 4GiB, disk: 4GiB}
update: {on: start}
"#;

#[track_caller]
fn faults(from: &str, to: &str) -> Vec<Fault> {
    assert!(SOUND.contains(from), "the sound definition has no `{from}`");
    match Definition::parse(&SOUND.replacen(from, to, 1)) {
        Ok(_) => panic!("`{to}` passes"),
        Err(faults) => faults.0,
    }
}

#[test]
fn the_sound_one_is_sound() {
    Definition::parse(SOUND).unwrap_or_else(|faults| panic!("{faults}"));
}

#[test]
fn every_refusal_has_its_place() {
    // What is changed, into what, and where and how the first word on it is.
    let cases = [
        ("name: A game", "nmae: A game", "2:1", "nmae"),
        ("name: A game", "name: A game\nname: B", "3:1", "name"),
        ("dir: bin", "dir: ../bin", "15:8", "leads out"),
        ("dir: bin", "dir: /opt", "15:8", "leads out"),
        ("[bin/server]", "[bin/../../server]", "16:12", "leads out"),
        ("path: cfg/server.ini", "path: cfg/../../server.ini", "18:11", "leads out"),
        ("path: cfg/server.ini", "path: /etc/passwd", "18:11", "leads out"),
        ("\"./server\"", "\"../server\"", "13:10", "leads out"),
        ("\"./server\"", "\"./{{NAME}}\"", "13:10", "template"),
        ("\"./server\"", "bash, \"-c\"", "13:31", "a shell"),
        ("[\"saves/**\"]", "[\"../**\"]", "33:15", "leads out"),
        ("default: \"{{NAME}}\"", "default: \"{{MAP}}\"", "6:30", "names itself"),
        ("default: \"{{server.name}}\"", "default: \"{{MAP}}\"", "5:32", "MAP, NAME name each other in a circle"),
        ("default: \"{{NAME}}\"", "default: \"{{RCON}}\"", "6:30", "`secret` itself"),
        ("default: \"{{NAME}}\"", "default: \"{{config.token}}\"", "6:30", "config.token"),
        ("default: \"{{NAME}}\"", "default: \"{{HOME}}\"", "6:30", "no variable `HOME`"),
        ("secret: true, max", "secret: true, default: hunter2, max", "7:50", "is none"),
        ("secret: true, max: 20", "secret: true, pattern: \"[0-9]+\"", "7:3", "would not pass"),
        ("{label: Map,", "{label: Map, pattern: \"(\",", "6:30", "regular expression"),
        ("max: 64", "max: -1", "5:56", "below 0"),
        ("default: 2456", "default: \"{{ports.query}} + 1\"", "9:34", "circle"),
        ("default: 2456", "default: \"{{ports.gmae}} + 1\"", "9:34", "no port `gmae`"),
        ("default: \"{{ports.game}} + 1\"", "default: 2456", "10:35", "2456 is the port `game` already"),
        ("default: \"{{ports.game}} + 1\"", "default: \"{{ports.game}} + 63080\"", "10:35", "1 to 65535"),
        ("default: \"{{ports.game}} + 1\"", "default: \"{{ports.game}} * 2\"", "10:35", "is not a port"),
        ("protocol: tcp, default: 2458", "protocol: udp, default: 2458", "24:37", "is not tcp"),
        ("\"{{ports.game}}\"]", "\"{{RCON}}\"]", "13:52", "exposed: argv"),
        ("secret: true", "secret: true, exposed: argv", "7:50", "does not stand in `start.argv`"),
        ("{label: Name,", "{label: Name, exposed: argv,", "5:32", "only a `secret`"),
        ("format: ini", "format: conf", "19:13", "conf"),
        ("rcon.password: \"{{RCON}}\"", "rcon.password: 5", "22:22", "quotes"),
        ("rcon.password: \"{{RCON}}\"", "password: \"{{RCON}}\"", "22:17", "section.key"),
        ("rcon.password: \"{{RCON}}\"", "rcon.password: \"a\\nb\"", "22:22", "one line"),
        ("log: \"ready\"", "log: \"[\"", "23:14", "regular expression"),
        ("log: \"ready\", query: valve", "query: quake3", "23:16", "which is `valve`"),
        ("port: query}", "port: qurey}", "26:32", "no port `qurey`"),
        ("port: rcon,", "port: rcno,", "24:37", "no port `rcno`"),
        ("secret: RCON}", "secret: NAME}", "24:51", "is not `secret`"),
        ("input: source-rcon, port: rcon, secret: RCON", "input: source-rcon", "24:1", "needs a `port`"),
        ("input: source-rcon,", "input: stdin,", "24:31", "only a console over the network"),
        ("{signal: INT, wait: 10s}", "{signal: STOP, wait: 10s}", "25:63", "a signal is"),
        ("{signal: INT, wait: 10s}", "{signal: INT, console: q, wait: 10s}", "25:63", "one of"),
        ("{action: save, wait: 30s}, {console: quit, wait: 20s}", "{signal: INT, wait: 1s}, {action: save, wait: 1s}", "25:33", "rung 1"),
        ("{action: save, wait: 30s}, {console: quit, wait: 20s}", "{signal: INT, wait: 1s}, {console: quit, wait: 1s}", "25:33", "rung 1"),
        ("{action: save,", "{action: say,", "25:17", "no action without inputs"),
        ("wait: 30s", "wait: soon", "25:29", "soon"),
        ("(?P<player>.+) left", "(?P<gamer>.+) left", "28:49", "no group"),
        ("{{server.ip}}", "{{RCON}}", "29:6", "a link takes no variables"),
        ("{{inputs.text}}", "{{NAME}}", "32:30", "none of the action's"),
        ("answer: Saved", "awnser: Saved", "31:38", "awnser"),
        ("{on: start}", "{on: always}", "35:14", "always"),
        ("memory: 4GiB", "memory: much", "34:21", "much"),
        ("hang: {silent: 5m}", "hang: {silent: 1ms}", "27:16", "less than a second"),
        ("steam: {login: anonymous}\n", "", "1:7", "needs `steam"),
        ("steam: {login: anonymous}", "steam: {login: root}", "3:16", "root"),
        ("game: steamcmd:4", "game: steamcmd:x", "1:7", ""),
    ];
    let mut wrong = String::new();
    for (from, to, place, words) in cases {
        let faults = faults(from, to);
        let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
        if !said.iter().any(|said| said.starts_with(&format!("{place}: ")) && said.contains(words)) {
            wrong += &format!("`{to}` should be told of at {place} with `{words}`, but:\n  {}\n", said.join("\n  "));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Actions that are no console lines.
const ACTIONS: &str = r#"game: docker:a
name: A
actions:
  a: {label: A, script: "echo hi", inputs: {map: {label: Map, secret: true}}, timeout: 10m}
  b: {label: B, argv: [./tool, x]}
  c: {label: C, builtin: backup, disabled: true}
"#;

#[test]
fn scripts_and_built_ins_are_looked_at_where_they_stand() {
    let definition = Definition::parse(ACTIONS).unwrap_or_else(|faults| panic!("{faults}"));
    let specs = definition.action_specs();
    assert_eq!(specs["a"].timeout_seconds, Some(600));
    assert!(specs["c"].inputs.contains_key("note") && specs["c"].disabled, "a built-in brings its inputs");
    let cases = [
        ("script: \"echo hi\"", "script: \"echo {{inputs.map}}\"", "4:25", "as `INPUT_NAME`"),
        ("script: \"echo hi\"", "script: \" \"", "4:25", "1 byte to 64 KiB"),
        ("script: \"echo hi\",", "script: \"echo hi\", console: say,", "4:3", "it is one of"),
        ("script: \"echo hi\", ", "", "4:3", "it is one of"),
        ("{map:", "{\"ma-p\":", "4:45", "environment variable"),
        ("{map: {label: Map, secret: true}}", "{map: {label: Map}, MAP: {label: M}}", "4:45", "same environment variable"),
        ("timeout: 10m", "timeout: 25h", "4:88", "1s to 24h"),
        ("timeout: 10m", "answer: x", "4:87", "answers by itself"),
        ("[./tool, x]", "[../tool, x]", "5:17", "lies in the server's directory"),
        ("[./tool, x]", "[./tool, \"{{MAP}}\"]", "5:17", "as `INPUT_NAME`"),
        ("builtin: backup", "builtin: format", "6:26", "format"),
        ("disabled: true", "timeout: 5s", "6:43", "only a script"),
        ("disabled: true", "inputs: {x: {label: X}}", "6:34", "inputs of its own"),
    ];
    let mut wrong = String::new();
    for (from, to, place, words) in cases {
        let said = match Definition::parse(&ACTIONS.replacen(from, to, 1)) {
            Ok(_) => vec!["nothing".to_owned()],
            Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
        };
        if !said.iter().any(|said| said.starts_with(&format!("{place}: ")) && said.contains(words)) {
            wrong += &format!("`{to}` should be told of at {place} with `{words}`, but:\n  {}\n", said.join("\n  "));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn all_faults_are_found_at_once() {
    let text = SOUND.replace("dir: bin", "dir: /bin").replace("port: query}", "port: q}").replace("{signal: INT", "{signal: FOO");
    let faults = Definition::parse(&text).expect_err("refused").0;
    let fields: Vec<&str> = faults.iter().filter_map(|fault| fault.field.as_deref()).collect();
    assert_eq!(fields, ["start.dir", "stop[2]", "query.port"], "in the file's order");
}

#[test]
fn the_picture_points_at_it() {
    let faults = faults("dir: bin", "dir: ../bin");
    assert_eq!(faults[0].picture(), "   |\n15 |   dir: ../bin\n   |        ^\n");
    let long = format!("game: docker:a\nname: A\ndescription: \"{}\"\nready: {{log: \"{}[\"}}\n", "x".repeat(50), "y".repeat(400));
    let faults = Definition::parse(&long).expect_err("refused").0;
    let picture = faults[0].picture();
    let [_, line, caret] = picture.lines().collect::<Vec<_>>()[..] else { panic!("{picture}") };
    let under = line.chars().nth(caret.chars().count() - 1);
    assert_eq!(under, Some('"'), "{picture}");
}

#[test]
fn a_chain_of_ports_is_no_circle() {
    let text = SOUND.replace("default: 2458", "default: \"{{ports.query}} + 3\"");
    let definition = Definition::parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
    let request = super::request("steamcmd:4");
    let wishes = super::port_wishes(Some(&definition), &request).expect("wishes");
    let ports = super::allocate(&wishes, &[(manman_common::spec::Protocol::Udp, 2457)].into(), (1, 65535)).expect("ports");
    let number = |name: &str| ports.iter().find(|port| port.name == name).map(|port| port.port);
    // 2457 is taken by another, so all three move on together.
    assert_eq!((number("game"), number("query"), number("rcon")), (Some(2458), Some(2459), Some(2462)));
}
