//! Services of the house say hello, get a database, and are shown at the front door.

use std::path::Path;
use std::time::Duration;

use manman_e2e::{Context as _, Home, Program, Result, binary, ensure, eventually, free_port, story};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::registry::curl;

const UP: Duration = Duration::from_secs(90);

/// An orchestrator that runs alone.
struct Orchestrator {
    program: Program,
    public: String,
    internal: String,
}

impl Orchestrator {
    async fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, &[]).await
    }

    async fn start_with(data: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        Self::start_as(data, &[], environment).await
    }

    async fn start_as(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(binary("manman-host")?);
        command.args(["orchestrator", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--data"]).arg(data);
        command.args(arguments).envs(environment.iter().copied());
        let mut program = Program::spawn("manman-host orchestrator", &mut command)?;
        let ready = program.line("ready", UP).await?;
        let internal = program.line("internal", UP).await?;
        let address = |line: &str| line.split_whitespace().nth(1).map(str::to_owned).context("an address");
        Ok(Self { program, public: address(&ready)?, internal: address(&internal)? })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        post(&self.internal, path, body).await
    }
}

async fn post(base: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
    let response = Client::builder().build()?.post(format!("{base}{path}")).json(body).send().await?;
    Ok((response.status().as_u16(), response.json().await.unwrap_or(Value::Null)))
}

async fn get(url: &str, token: Option<&str>) -> Result<(u16, String)> {
    let mut request = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// A service of the house: healthy, and says which path it was asked for.
async fn service() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                let Ok(length) = stream.read(&mut buffer).await else { return };
                let head = String::from_utf8_lossy(&buffer[..length]);
                let path = head.split_whitespace().nth(1).unwrap_or_default();
                let answer = if path == "/__internal/health" {
                    "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()
                } else {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{path}", path.len())
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

/// Asks with PostgreSQL's own client.
async fn psql(credentials: &Value, database: &str, query: &str) -> Result<(bool, String)> {
    let text = |key: &str| credentials[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {credentials}"));
    let program = ["/usr/lib/postgresql/15/bin/psql", "/usr/bin/psql"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("psql");
    let output = Command::new(program)
        .env("PGPASSWORD", text("password")?)
        .args(["-h", &text("host")?, "-p", &credentials["port"].to_string(), "-U", &text("user")?, "-d", database, "-Atc", query])
        .output()
        .await?;
    Ok((output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn an_orchestrator_runs_alone_and_forgets_nothing() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let data = home.data().join("alone");
        let mut orchestrator = Orchestrator::start(&data).await?;
        let host = service().await?;
        let hello = json!({ "name": "links", "host": host, "additionalBinds": { "https://link.waifu": "/link" } });
        let (status, reply) = orchestrator.post("/__internal/hello", &hello).await?;
        ensure!(status == 201 && reply["binds"]["accepted"] == json!(["https://link.waifu"]), "{status} {reply}");
        ensure!(reply["url"] == format!("{}/links/", orchestrator.public), "{reply}");
        let (status, body) = get(&format!("{}/links/a?b", orchestrator.public), None).await?;
        ensure!((status, body.as_str()) == (200, "/a?b"), "{status} {body}");
        for path in ["/links/__internal/health", "/links/%5f_internal/health", "/__internal/hello"] {
            let (status, _) = get(&format!("{}{path}", orchestrator.public), None).await?;
            ensure!(status == 404, "{path}: {status}");
        }

        let ask = json!({ "name": "links", "secret": "a secret of the house" });
        let (status, first) = orchestrator.post("/__internal/database", &ask).await?;
        ensure!(status == 200 && first["port"].is_u64(), "{status} {first}");
        let (good, said) = psql(&first, "w_links", "create table t (n int); insert into t values (7); select n from t").await?;
        ensure!(good && said.contains('7'), "{said}");
        let (status, other) =
            orchestrator.post("/__internal/database", &json!({ "name": "other", "secret": "another secret there" })).await?;
        ensure!(status == 200, "{status} {other}");
        for database in ["w_links", "postgres", "orchestrator", "manman", "template1"] {
            let (good, said) = psql(&other, database, "select 1").await?;
            ensure!(!good && said.contains("permission denied"), "{database}: {said}");
        }
        let (status, problem) =
            orchestrator.post("/__internal/database", &json!({ "name": "links", "secret": "the wrong secret" })).await?;
        ensure!(status == 403, "{status} {problem}");
        let incidents = format!("{}/__internal/incidents", orchestrator.internal);
        ensure!(get(&incidents, None).await?.0 == 401, "incidents want a token");
        let token = std::fs::read_to_string(data.join("orchestrator/admin-token"))?;
        let (status, list) = get(&incidents, Some(token.trim())).await?;
        ensure!(status == 200 && list.contains("links"), "{status} {list}");
        ensure!(!orchestrator.program.said().join("\n").contains("the wrong secret"), "a secret is in the log");

        // As by a power cut, and again.
        orchestrator.program.kill().await?;
        let orchestrator = Orchestrator::start(&data).await?;
        eventually("the route is back without another hello", async || {
            let (status, body) = get(&format!("{}/links/again", orchestrator.public), None).await.map_err(|error| format!("{error:#}"))?;
            if (status, body.as_str()) == (200, "/again") { Ok(()) } else { Err(format!("{status} {body}")) }
        })
        .await?;
        let (status, again) = orchestrator.post("/__internal/database", &ask).await?;
        ensure!(status == 200 && again == first, "{status} {again}");
        let (good, said) = psql(&again, "w_links", "select n from t").await?;
        ensure!(good && said.trim() == "7", "{said}");
        drop(orchestrator);
        forget_cluster(&data)
    })
}

/// `curl -d BODY URL`, as a waifu's own start script may have it.
async fn say(orchestrator: &Orchestrator, path: &str, body: &str) -> Result<(u16, Value)> {
    curl(&["-H", "Content-Type: application/json", "-d", body], &format!("{}{path}", orchestrator.internal)).await
}

/// The requests of the text in which waifus were thought up, as they stand there.
#[test]
fn the_requests_of_the_text_work_from_an_empty_directory() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let data = home.data().join("empty");
        let mut orchestrator = Orchestrator::start(&data).await?;
        let host = service().await?;
        let hello = format!(
            r#"{{
                "name": "links",
                "host": "{host}",
                "additionalBinds": {{
                    "https://link.waifu": "/link"
                }}
            }}"#
        );
        let (status, reply) = say(&orchestrator, "/__internal/hello", &hello).await?;
        ensure!(status == 201 && reply["binds"]["accepted"] == json!(["https://link.waifu"]), "{status} {reply}");
        let (status, _) = say(&orchestrator, "/__internal/hello", &hello).await?;
        ensure!(status == 200, "{status}");
        let (status, path) = curl(&[], &format!("{}/links/a?b", orchestrator.public)).await?;
        ensure!(status == 200 && path == "/a?b", "{status} {path}");
        let bound = curl(&["-H", "Host: link.waifu"], &format!("{}/x?q", orchestrator.public)).await?;
        ensure!(bound == (200, json!("/link/x?q")), "{bound:?}");
        let (status, _) = curl(&[], &format!("{}/links/__internal/health", orchestrator.public)).await?;
        ensure!(status == 404, "what is internal is exposed: {status}");

        let ask = |name: &str, secret: &str| format!(r#"{{ "name": "{name}", "secret": "{secret}" }}"#);
        let (status, links) = say(&orchestrator, "/__internal/database", &ask("links", "the own secret of links")).await?;
        ensure!(status == 200, "{status} {links}");
        let keys: Vec<&str> = links.as_object().context("an object")?.keys().map(String::as_str).collect();
        ensure!(keys == ["database", "host", "password", "port", "user"], "{keys:?}");
        let mut others = Vec::new();
        for name in ["blog", "photos"] {
            let (status, other) = say(&orchestrator, "/__internal/database", &ask(name, "another secret of 16 bytes")).await?;
            ensure!(status == 200, "{status} {other}");
            others.push(other);
        }
        let own = links["database"].as_str().context("a database")?;
        let (good, said) = psql(&links, own, "create table t (n int); insert into t values (7); select n from t").await?;
        ensure!(good && said.contains('7'), "{said}");
        for database in
            others.iter().filter_map(|other| other["database"].as_str()).chain(["postgres", "orchestrator", "manman", "template1"])
        {
            let (good, said) = psql(&links, database, "select 1").await?;
            ensure!(!good && said.contains("permission denied"), "links gets into {database}: {said}");
        }
        for other in &others {
            let (good, said) = psql(other, own, "select n from t").await?;
            ensure!(!good && said.contains("permission denied"), "{other} gets into {own}: {said}");
        }
        let (status, again) = say(&orchestrator, "/__internal/database", &ask("links", "the own secret of links")).await?;
        ensure!(status == 200 && again == links, "the answer is another one: {status} {again}");

        let (status, problem) = say(&orchestrator, "/__internal/database", &ask("links", "not the secret of links")).await?;
        ensure!(status == 403 && problem["detail"].as_str().is_some_and(|text| text.contains("reported")), "{status} {problem}");
        let token = std::fs::read_to_string(data.join("orchestrator/admin-token"))?;
        let bearer = format!("Authorization: Bearer {}", token.trim());
        let (status, incidents) = curl(&["-H", &bearer], &format!("{}/__internal/incidents", orchestrator.internal)).await?;
        ensure!(status == 200 && incidents["total"] == 1 && incidents["items"][0]["name"] == "links", "{status} {incidents}");

        // Ended by its person, and by a power cut: nobody says hello again.
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            orchestrator.program.signal(signal)?;
            orchestrator.program.ended(UP).await?;
            orchestrator = Orchestrator::start(&data).await?;
            eventually("the route is back without another hello", async || {
                let there = curl(&[], &format!("{}/links/again", orchestrator.public)).await.map_err(|error| format!("{error:#}"))?;
                if there == (200, json!("/again")) { Ok(()) } else { Err(format!("{there:?}")) }
            })
            .await?;
            let bound = curl(&["-H", "Host: link.waifu"], &format!("{}/again", orchestrator.public)).await?;
            ensure!(bound == (200, json!("/link/again")), "{bound:?}");
        }
        drop(orchestrator);
        forget_cluster(&data)
    })
}

#[test]
fn a_kill_between_any_two_steps_of_a_database_is_healed_by_the_same_request() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let data = home.data().join("killed");
        let mut ready = Vec::new();
        for step in ["begin", "role", "grant", "database", "revoke"] {
            let failpoint = format!("provision.{step}");
            let mut orchestrator = Orchestrator::start_with(&data, &[("MANMAN_FAILPOINT", &failpoint)]).await?;
            let body = format!(r#"{{ "name": "after-{step}", "secret": "a secret for {step}, long enough" }}"#);
            let cut = say(&orchestrator, "/__internal/database", &body).await;
            ensure!(cut.is_err(), "{step}: it answered {cut:?}");
            let ended = orchestrator.program.ended(UP).await?;
            ensure!(std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9), "{step}: it ended with {ended}");

            let mut orchestrator = Orchestrator::start(&data).await?;
            let (status, answer) = say(&orchestrator, "/__internal/database", &body).await?;
            ensure!(status == 200, "{step}: {status} {answer}");
            let (status, again) = say(&orchestrator, "/__internal/database", &body).await?;
            ensure!(status == 200 && again == answer, "{step}: {status} {again}");
            let own = answer["database"].as_str().context("a database")?.to_owned();
            let (good, said) =
                psql(&answer, &own, "create table t (n int); select count(*) from pg_database where datname like 'w\\_%'").await?;
            ready.push(own.clone());
            ensure!(good && said.lines().last() == Some(&*ready.len().to_string()), "{step}: there is not one database of each: {said}");
            for other in ready.iter().filter(|other| **other != own) {
                let (good, said) = psql(&answer, other, "select 1").await?;
                ensure!(!good && said.contains("permission denied"), "{step}: it gets into {other}: {said}");
            }
            orchestrator.program.end();
        }
        forget_cluster(&data)
    })
}

#[test]
fn a_database_is_rotated_given_back_and_had_again_by_curl() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let data = home.data().join("kept");
        let mut orchestrator = Orchestrator::start(&data).await?;
        let ask = |secret: &str| format!(r#"{{ "name": "links", "secret": "{secret}" }}"#);
        let (old, new) = ("the first secret of links", "the second secret of links");
        let (status, first) = say(&orchestrator, "/__internal/database", &ask(old)).await?;
        ensure!(status == 200, "{status} {first}");
        let own = first["database"].as_str().context("a database")?.to_owned();
        ensure!(psql(&first, &own, "create table t as select 7 as n").await?.0, "it does not log in");
        let rotate = format!(r#"{{ "name": "links", "secret": "{old}", "newSecret": "{new}" }}"#);
        let (status, second) = say(&orchestrator, "/__internal/database/rotate", &rotate).await?;
        ensure!(status == 200 && second["password"] != first["password"], "{status} {second}");
        ensure!(!psql(&first, &own, "select 1").await?.0, "the old password still holds");
        ensure!(say(&orchestrator, "/__internal/database", &ask(old)).await?.0 == 403, "the old secret still holds");

        let url = format!("{}/__internal/database", orchestrator.internal);
        let (status, gone) = curl(&["-X", "DELETE", "-d", &ask(new)], &url).await?;
        ensure!(status == 200 && gone["dropped_at"].is_string(), "{status} {gone}");
        ensure!(!psql(&second, &own, "select 1").await?.0, "what was given back is open");
        let token = std::fs::read_to_string(data.join("orchestrator/admin-token"))?;
        let bearer = format!("Authorization: Bearer {}", token.trim());
        let (status, list) = curl(&["-H", &bearer], &url).await?;
        ensure!(status == 200 && list[0]["dropped_at"] == gone["dropped_at"], "{status} {list}");
        ensure!(curl(&[], &url).await?.0 == 401, "the list wants a token");
        let (status, again) = say(&orchestrator, "/__internal/database", &ask(new)).await?;
        ensure!(status == 200 && again == second, "{status} {again}");
        let (good, said) = psql(&again, &own, "select n from t").await?;
        ensure!(good && said.trim() == "7", "{said}");
        let (status, api) = curl(&[], &format!("{}/openapi.json", orchestrator.internal)).await?;
        ensure!(status == 200 && api["paths"]["/__internal/database"]["delete"].is_object(), "{status} {api}");
        orchestrator.program.end();
        forget_cluster(&data)
    })
}

/// A real Caddy is told of each host, and keeps what else it has.
#[test]
fn a_caddy_in_front_follows_the_hosts() -> Result<()> {
    story(async {
        let home = Home::empty()?;
        let (admin, port) = (free_port()?, free_port()?);
        let config = json!({
            "admin": { "listen": format!("127.0.0.1:{admin}") },
            "apps": { "http": { "servers": { "manman": {
                "listen": [format!("127.0.0.1:{port}")],
                "automatic_https": { "disable": true },
                "routes": [{ "match": [{ "host": ["other.example"] }], "handle": [{ "handler": "static_response", "body": "\"another's\"" }] }],
            } } } },
        });
        let file = home.data().join("caddy.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = Command::new("caddy");
        command.args(["run", "--config"]).arg(&file).env("HOME", home.data()).env("XDG_DATA_HOME", home.data());
        let mut caddy = Program::spawn("caddy", &mut command).context("`apt-get install caddy`, as tests/prepare does")?;
        let front = format!("http://127.0.0.1:{port}/x?q");
        eventually("Caddy is up", async || curl(&[], &front).await.map_err(|error| format!("{error:#}"))).await?;

        let admin = format!("--caddy=http://127.0.0.1:{admin}");
        let arguments = ["--no-database", "--trusted-proxy", "127.0.0.1", &admin];
        let orchestrator = Orchestrator::start_as(&home.data().join("data"), &arguments, &[]).await?;
        let host = service().await?;
        let hello = |bind: &str| format!(r#"{{ "name": "links", "host": "{host}", "additionalBinds": {{ "http://{bind}": "/link" }} }}"#);
        for bind in ["link.waifu", "photos.waifu"] {
            let (status, reply) = say(&orchestrator, "/__internal/hello", &hello(bind)).await?;
            ensure!(matches!(status, 200 | 201), "{status} {reply}");
            eventually(&format!("Caddy leads {bind} to the front door"), async || {
                let there = curl(&["-H", &format!("Host: {bind}")], &front).await.map_err(|error| format!("{error:#}"))?;
                if there == (200, json!("/link/x?q")) { Ok(()) } else { Err(format!("{there:?}")) }
            })
            .await?;
        }
        // What is bound no more leads nowhere, and what is another's stays.
        let there = curl(&["-H", "Host: link.waifu"], &front).await?;
        ensure!(there.1 != json!("/link/x?q"), "{there:?}");
        let there = curl(&["-H", "Host: other.example"], &front).await?;
        ensure!(there == (200, json!("another's")), "{there:?}");
        let internal = curl(&["-H", "Host: photos.waifu"], &format!("http://127.0.0.1:{port}/__internal/health")).await?;
        ensure!(internal.0 == 404, "{internal:?}");
        caddy.end();
        Ok(())
    })
}

/// Where the tests run as root, the cluster lies where Postgres' own account gets in.
fn forget_cluster(data: &Path) -> Result<()> {
    let record = std::fs::read_to_string(data.join("postgres.toml"))?;
    let home = record.lines().find_map(|line| line.strip_prefix("home = ")).map(|home| home.trim_matches('"').to_owned());
    match home {
        Some(home) if home.starts_with("/var/lib/manman") => {
            let pid_file = Path::new(&home).join("data/postmaster.pid");
            for _ in 0..200 {
                if !pid_file.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(std::fs::remove_dir_all(home)?)
        }
        _ => Ok(()),
    }
}

#[test]
fn everything_on_one_machine_is_at_the_front_door() -> Result<()> {
    story(async {
        let mut home = Home::up_with(&["--worker-name", "Attic", "--docker", "off"]).await?;
        let (public, internal, token) = (home.context("url")?, home.context("internal_url")?, home.context("token")?);
        let health = get(&format!("{internal}/__internal/health"), None).await?;
        ensure!(health.0 == 204, "{health:?}");
        // The API is where it was, and a service beside it.
        ensure!(get(&format!("{public}/status"), Some(&token)).await?.0 == 200, "the API answers at the front door");
        let hello = json!({ "name": "links", "host": service().await?, "additionalBinds": { "http://link.waifu": "/" } });
        let (status, reply) = post(&internal, "/__internal/hello", &hello).await?;
        ensure!(status == 201, "{status} {reply}");
        let (status, body) = get(&format!("{public}/links/x"), Some(&token)).await?;
        ensure!((status, body.as_str()) == (200, "/x"), "{status} {body}");
        for (base, path) in
            [(&public, "/__internal/health"), (&public, "/__internal/hello"), (&public, "/links/__internal/a"), (&public, "/discover")]
        {
            let (status, body) = get(&format!("{base}{path}"), Some(&token)).await?;
            ensure!(status == 404, "{path}: {status} {body}");
        }
        // A host that is a waifu's shows nothing of the console's or the API's.
        let bound = Client::builder().build()?.get(format!("{public}/status")).header("host", "link.waifu").send().await?;
        let (status, body) = (bound.status().as_u16(), bound.text().await?);
        ensure!((status, body.as_str()) == (200, "/status"), "{status} {body}");
        for name in ["server", "worker", "docs", "status"] {
            let (status, _) = post(&internal, "/__internal/hello", &json!({ "name": name, "host": "127.0.0.1:1" })).await?;
            ensure!(status == 400, "the front door's own `{name}` is taken: {status}");
        }
        ensure!(get(&format!("{internal}/__internal/waifu"), None).await?.0 == 401, "what tells of all wants a token");
        let waifus = eventually("the worker has said hello", async || {
            let (_, list) = get(&format!("{internal}/__internal/waifu"), Some(&token)).await.map_err(|error| format!("{error:#}"))?;
            if list.contains("\"attic\"") { Ok(list) } else { Err(list) }
        })
        .await?;
        ensure!(waifus.contains("\"links\""), "{waifus}");
        // The worker's own routes: over its link, with the caller's token, and with no other.
        ensure!(get(&format!("{public}/attic/status"), None).await?.0 == 401, "the worker's page wants a token");
        let (status, page) = get(&format!("{public}/attic/status"), Some(&token)).await?;
        ensure!(status == 200, "{status} {page}");

        // Any program is a waifu for as long as it runs.
        let server = "import http.server, os; http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()";
        let mut command = Command::new(binary("manman-worker")?);
        command.args(["announce", "--orchestrator", &internal, "--name", "blog", "--", "python3", "-c", server]).current_dir(home.data());
        let mut blog = Program::spawn("manman-worker announce", &mut command)?;
        eventually("the program is shown", async || {
            let (status, body) = get(&format!("{public}/blog/"), None).await.map_err(|error| format!("{error:#}"))?;
            if status == 200 && body.contains("context.toml") { Ok(()) } else { Err(format!("{status} {body}")) }
        })
        .await?;
        blog.end();

        // A database of the private cluster, and everything is there again after a restart.
        let ask = json!({ "name": "links", "secret": "a secret of the house" });
        let (status, first) = post(&internal, "/__internal/database", &ask).await?;
        ensure!(status == 200, "{status} {first}");
        let id = home.json(&["status"]).await?;
        if let Some(mut up) = home.up.take() {
            up.end();
        }
        home.start(&["--worker-name", "Attic", "--docker", "off"]).await?;
        let (internal, public) = (home.context("internal_url")?, home.context("url")?);
        let (status, again) = post(&internal, "/__internal/database", &ask).await?;
        ensure!(status == 200 && again == first, "{status} {again}");
        ensure!(home.json(&["status"]).await?["host_id"] == id["host_id"], "it is another host");
        eventually("the route is back", async || {
            let (status, body) = get(&format!("{public}/links/y"), None).await.map_err(|error| format!("{error:#}"))?;
            if (status, body.as_str()) == (200, "/y") { Ok(()) } else { Err(format!("{status} {body}")) }
        })
        .await
    })
}
