//! The samples of the user's text, and the examples that the crate ships.

use std::path::Path;
use std::process::Command;

use manman_stage::config::{Channel, Encoding, File, LogStdout, Verb};

use crate::support::{Home, eventually, scripts};

/// As it stands in the text.
const OPENAPI: &str = "paths:
  /pets:
    post:
      tags:
        - pet
      summary: Add a new pet to the store
      description: Add a new pet to the store
      operationId: addPet
      requestBody:
        description: Create a new pet in the store
        content:
          application/json:
            schema:
              $ref: '#/components/schemas/Pet'
          application/xml:
            schema:
              $ref: '#/components/schemas/Pet'
          application/x-www-form-urlencoded:
            schema:
              $ref: '#/components/schemas/Pet'
        required: true
";

/// As it stands in the text.
const SERVICE: &str = "paths:
  /get/pets:
    get:
      validatein: false
      inject:
        wd: /src/scripts/php
        env:
          - MYENV=CI
        cmd: /usr/bin/echo
        channel: \"cmdline\"
        encoding: json
      logstdout: true
      outtake: usocket://uri/{req_id}
      validate-out: false
";

/// The third of them is a form with places to fill in; as it stands it is not YAML (`post: ...` has
/// keys below it), so the places are filled with what the text says belongs there.
const FORM: &str = "paths:
  \"get/pets\":
    get:
      validate-in: false
      inject: {{ process-env }}
      logstdout: true | false
      outtake: usocket://one/the/uuuid-123123-ggess-2123123
      validate-out: false
    post: ...
      in: {{ process-env }}
      out: {{ ipc-channel }}
";

#[test]
fn u06_the_samples_of_the_users_text_load() {
    let file = File::parse(SERVICE).expect("it loads as it stands");
    let operation = &file.paths["/get/pets"][&Verb::Get];
    assert!(!operation.validatein && !operation.validateout && operation.logstdout == LogStdout::Yes);
    assert_eq!((operation.inject.channel, operation.inject.encoding), (Channel::Cmdline, Encoding::Json));
    assert_eq!(operation.inject.wd.as_deref(), Some(Path::new("/src/scripts/php")));
    assert_eq!(operation.inject.env, [("MYENV".to_owned(), "CI".to_owned())]);
    assert_eq!(operation.outtake.as_deref(), Some("usocket://uri/{req_id}"));

    let form = FORM
        .replace("{{ process-env }}", "{wd: /path/to/wd, env: [A=b], cmd: command line, channel: stdin, encoding: json}")
        .replace("true | false", "false")
        .replace("usocket://one/the/uuuid-123123-ggess-2123123", "usocket://one/the/{req_id}")
        .replace("post: ...", "post:")
        .replace("{{ ipc-channel }}", "usocket://uri/{req_id}");
    let file = File::parse(&form).expect("it loads when it is filled in");
    assert_eq!(file.paths["get/pets"][&Verb::Post].inject.channel, Channel::Stdin);
    let refused = File::parse(FORM).expect_err("it is a form").to_string();
    assert!(refused.contains("process-env") || refused.contains("post: ..."), "{refused}");
}

#[test]
fn u06_the_users_service_runs_with_the_users_openapi_beside_it() {
    let home = Home::new("", "  {}");
    std::fs::create_dir_all(home.path("src/scripts/php")).expect("it is new");
    let service = SERVICE.replace("/src/scripts/php", home.path("src/scripts/php").to_str().expect("it is text"));
    home.file("service.yaml", &format!("port: 0\nsocketpath: {}\nopenapi: openapi.yaml\n{service}", home.socket().display()));
    home.file("openapi.yaml", OPENAPI);
    let stage = home.start();
    // `echo` knows nothing of answers; what it has printed is in the log, under the request's id.
    let answer = stage.get("/get/pets").expect(502);
    assert_eq!(answer.json()["exit"], 0);
    eventually("it is logged", || if stage.log().contains(&answer.id()) { Ok(()) } else { Err(stage.log()) });
    assert!(stage.log().contains("GET /get/pets is not in the OpenAPI file"), "the two samples disagree, and that is said");
    assert!(stage.log().contains("does not say its version"));
}

/// As it stands in the text, but for the path of the socket.
const PHP: &str = r#"$ch = curl_init();

// $postdata = json_encode($data); // typically
$postdata = '{"handler": "pricechange", "pricelist": [{"articlenr":"12312", ...}]}';

curl_setopt($ch, CURLOPT_UNIX_SOCKET_PATH, "/tmp/uselessrock.sock");

curl_setopt($ch, CURLOPT_POST, 1);
curl_setopt($ch, CURLOPT_POSTFIELDS, $postdata);
curl_setopt($ch, CURLOPT_RETURNTRANSFER, 1); 
curl_setopt($ch, CURLOPT_HTTPHEADER, array('Content-Type: application/json'));

$result = curl_exec($ch);
curl_close($ch);
print_r ($result);
"#;

#[test]
fn u02_the_users_php_gets_its_answer_through() {
    let adapter = scripts().join("urocket.php");
    let paths = format!(
        "  /price:\n    post: {{inject: {{cmd: [php, -d, disable_functions=curl_exec, -d, 'auto_prepend_file={}', sample.php], timeout: 10000}}}}
  /url:\n    post: {{inject: {{cmd: [php, url.php], timeout: 10000}}}}\n",
        adapter.display()
    );
    let home = Home::new("", &paths);
    let php = format!("<?php\n{}", PHP.replace("/tmp/uselessrock.sock", home.socket().to_str().expect("it is text")));
    home.file("sample.php", &php);
    // With a URL, and no id anywhere: it is known by its process.
    home.file("url.php", &php.replace("curl_init()", "curl_init('http://localhost/')"));
    let stage = home.start();
    for path in ["/price", "/url"] {
        let answer = stage.post(path, "{}").expect(200);
        assert_eq!(answer.text(), r#"{"handler": "pricechange", "pricelist": [{"articlenr":"12312", ...}]}"#, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[test]
fn the_examples_answer() {
    let home = Home::new("", "  {}");
    let binary = home.path("answer");
    let built =
        Command::new("gcc").args(["-O2", "-static", "-o"]).arg(&binary).arg(scripts().join("answer.c")).status().expect("gcc is there");
    assert!(built.success());
    let text = std::fs::read_to_string(scripts().join("../urocket-service.yaml")).expect("it is there");
    let (_, paths) = text.split_once("paths:\n").expect("it has paths");
    let paths = paths.replace("wd: scripts", &format!("wd: {}", scripts().display()));
    home.write(
        "stats: true",
        &format!("{paths}  /static:\n    post: {{inject: {{cmd: {}, encoding: json, timeout: 5000}}}}\n", binary.display()),
    );
    let stage = home.start();
    let payload = r#"{"name": "Rex", "quote": "it's \"$(so)\""}"#;
    for (path, language) in [("/bash", "bash"), ("/python", "python"), ("/php", "php"), ("/static", "c")] {
        let answer = stage.post(path, payload).expect(200);
        assert!(answer.header("urocket-stats").is_some());
        let json = answer.json();
        assert_eq!((json["language"].as_str(), json["got"]["quote"].as_str()), (Some(language), Some("it's \"$(so)\"")), "{path}");
    }
    assert!(stage.get("/date").expect(200).text().starts_with("20"));
    assert_eq!(stage.post("/pool", payload).expect(200).json()["path"], "/pool");
}

#[test]
fn the_reply_command_answers_for_scripts_without_a_client() {
    let reply = format!("{} reply", crate::support::EXECUTABLE);
    let home = Home::new(
        "",
        &format!(
            "  /body:\n    get: {{inject: {{cmd: [sh, -c, '{reply} --status 201 --content-type text/plain --header \"X-A: b\" made']}}}}
  /stdin:\n    get: {{inject: {{cmd: [sh, -c, 'printf \"\\\\001\\\\377\" | {reply}']}}}}
  /error:\n    get: {{inject: {{cmd: [sh, -c, '{reply} --error oops']}}}}
  /twice:\n    get: {{inject: {{cmd: [sh, -c, '{reply} --progress half; {reply} one; {reply} two']}}, stats: true}}\n"
        ),
    );
    let stage = home.start();
    let made = stage.get("/body").expect(201);
    assert_eq!((made.text().as_str(), made.header("content-type"), made.header("x-a")), ("made", Some("text/plain"), Some("b")));
    assert_eq!(stage.get("/stdin").expect(200).body, [1, 255]);
    assert_eq!(stage.get("/error").expect(502).text(), "oops");
    let twice = stage.get("/twice").expect(200);
    assert_eq!(twice.text(), "one");
    let record = stage.record(&twice.id());
    assert!(record["stderr"].as_str().is_some_and(|text| text.contains("has been answered")), "{record}");
    assert_eq!(record["exit"], 1);
    let alone = Command::new(crate::support::EXECUTABLE).arg("reply").arg("x").env_clear().output().expect("it runs");
    assert_eq!(alone.status.code(), Some(2), "outside of a request it says what it wants");
}
