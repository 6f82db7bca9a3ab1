//! Every secret opens its own door and no other.

use manman_e2e::{Home, Result, ensure, story};
use reqwest::Method;
use serde_json::json;

use super::{Asker, session_of, text};

/// What one can try with a secret.
const DOORS: [&str; 9] = [
    "read as bearer",
    "read as cookie",
    "sign in",
    "follow as link",
    "beat as attic",
    "beat as cellar",
    "begin as attic",
    "begin as cellar",
    "join",
];

/// Whether a door opens.
async fn opens(ask: &Asker, door: &str, secret: &str, attic: &str, cellar: &str) -> Result<bool> {
    let bearer = |method: Method, path: String| ask.plain(method, &path).bearer_auth(secret);
    let named = |name: &str| json!({ "worker-name": name, "ip-address": "127.0.0.1" });
    let beat = json!({ "session_epoch": 1, "servers": [] });
    let request = match door {
        "read as bearer" => bearer(Method::GET, "/status".to_owned()),
        "read as cookie" => ask.plain(Method::GET, "/status").header("cookie", format!("manman_session={secret}")),
        "sign in" => ask.plain(Method::POST, "/login").json(&json!({ "token": secret })),
        "follow as link" => ask.plain(Method::GET, &format!("/login?code={secret}")),
        "beat as attic" => bearer(Method::POST, format!("/worker/{attic}/health")).json(&beat),
        "beat as cellar" => bearer(Method::POST, format!("/worker/{cellar}/health")).json(&beat),
        "begin as attic" => bearer(Method::POST, format!("/worker/{attic}")).json(&named("attic")),
        "begin as cellar" => bearer(Method::POST, format!("/worker/{cellar}")).json(&named("cellar")),
        _ => {
            // Whether it is admitted at once; anybody may ask to be.
            let reserved = bearer(Method::POST, "/worker".to_owned()).json(&json!({ "name": "newcomer" })).send().await?;
            if !reserved.status().is_success() {
                return Ok(false);
            }
            let id = text(&reserved.json().await?, "id")?;
            if id == attic || id == cellar {
                return Ok(false);
            }
            let answer = bearer(Method::POST, format!("/worker/{id}")).json(&named("newcomer")).send().await?;
            if !answer.status().is_success() {
                return Ok(false);
            }
            let joined: serde_json::Value = answer.json().await?;
            ask.did(Method::DELETE, &format!("/worker/{id}?force=true"), serde_json::Value::Null).await?;
            return Ok(joined["status"] == "alive");
        }
    };
    let response = request.send().await?;
    let status = response.status();
    ensure!(!status.is_server_error(), "{door}: {status} {}", response.text().await?);
    Ok(match door {
        "follow as link" => status == 303,
        // What is wrong with a beat is told to whoever may beat.
        "beat as attic" | "beat as cellar" | "begin as attic" | "begin as cellar" => !matches!(status.as_u16(), 401 | 403),
        _ => status.is_success(),
    })
}

#[test]
fn every_secret_opens_its_own_door_and_no_other() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let (_, join) = ask.token(json!({ "scope": "join", "label": "for a test", "expires_in": 3600 })).await?;
        let (attic, attic_says) = ask.register("attic", Some(&join)).await?;
        let (cellar, cellar_says) = ask.register("cellar", Some(&join)).await?;
        let (_, pending_says) = ask.register("stranger", None).await?;
        ensure!(attic_says["status"] == "alive" && pending_says["status"] == "pending", "{attic_says} {pending_says}");
        let (_, viewer) = ask.token(json!({ "scope": "viewer", "label": "friend" })).await?;
        ask.account("anna", "operator", "correct horse battery").await?;
        let session = ask.sign_in("anna", "correct horse battery").await?;
        let link = text(&ask.did(Method::POST, "/login-link", serde_json::Value::Null).await?, "url")?;
        let code = link.split("code=").nth(1).unwrap_or_default().to_owned();
        let own_api = std::fs::read_to_string(home.data().join("worker/api-token"))?.trim().to_owned();

        let workers_own = |secret: &serde_json::Value| secret.as_str().unwrap_or_default().to_owned();
        let mut secrets = vec![
            ("a viewer's token", viewer, vec!["read as bearer", "sign in"]),
            ("a session", session, vec!["read as bearer", "read as cookie"]),
            ("a token to join with", join, vec!["join"]),
            ("attic's token", text(&attic_says, "token")?, vec!["beat as attic", "begin as attic"]),
            ("cellar's token", text(&cellar_says, "token")?, vec!["beat as cellar", "begin as cellar"]),
            ("a pending machine's token", text(&pending_says, "token")?, vec![]),
            ("the worker's own API token", own_api, vec![]),
            ("nonsense", "mm_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(), vec![]),
            ("nothing", String::new(), vec![]),
        ];
        for said in [&attic_says, &cellar_says] {
            // Where the host hands out one: it proves what a worker remembers, and opens nothing.
            let resume = workers_own(&said["resume_token"]);
            if !resume.is_empty() {
                secrets.push(("a resume token", resume, vec![]));
            }
        }
        let mut wrong = Vec::new();
        for (what, secret, doors) in &secrets {
            for door in DOORS {
                let open = opens(&ask, door, secret, &attic, &cellar).await?;
                if open != doors.contains(&door) {
                    wrong.push(format!("{what}: `{door}` is {}", if open { "open" } else { "closed" }));
                }
            }
        }
        ensure!(wrong.is_empty(), "{wrong:#?}");

        // A link's code: for the link alone, and once.
        for door in DOORS.iter().filter(|door| **door != "follow as link") {
            ensure!(!opens(&ask, door, &code, &attic, &cellar).await?, "a code opens `{door}`");
        }
        let followed = ask.plain(Method::GET, &format!("/login?code={code}")).send().await?;
        ensure!(followed.status() == 303, "{}", followed.status());
        let admin_session = session_of(&followed)?;
        ensure!(!opens(&ask, "follow as link", &code, &attic, &cellar).await?, "a code works twice");
        ensure!(!opens(&ask, "follow as link", &admin_session, &attic, &cellar).await?, "a session is a link");
        ensure!(!opens(&ask, "sign in", &admin_session, &attic, &cellar).await?, "a session begins another");

        // The worker's own listener takes its own token, and none of the host's.
        let worker = ask.did(Method::GET, "/worker", serde_json::Value::Null).await?;
        let listener = worker["items"].as_array().into_iter().flatten().find_map(|worker| worker["api_url"].as_str().map(str::to_owned));
        if let Some(listener) = listener {
            for (what, secret, _) in &secrets {
                let status = ask.http.get(format!("{listener}/status")).bearer_auth(secret).send().await?.status();
                let own = *what == "the worker's own API token";
                ensure!(status == if own { 200 } else { 401 }, "{what} at the worker's listener: {status}");
            }
        }
        Ok(())
    })
}

/// What a worker's token tries on what is another's, on every route that names a worker or a server.
#[test]
fn a_worker_acts_for_no_other() -> Result<()> {
    story(async {
        let home = Home::up().await?;
        let ask = Asker::new(&home)?;
        let (_, join) = ask.token(json!({ "scope": "join", "label": "for a test", "expires_in": 3600 })).await?;
        let (_, says) = ask.register("attic", Some(&join)).await?;
        let token = text(&says, "token")?;
        let server = home.printer("game", &["-n", "1"]).await?;
        let (server, own_worker) = (text(&server, "id")?, text(&server, "worker_id")?);
        let openapi = ask.did(Method::GET, "/openapi.json", serde_json::Value::Null).await?;
        let mut tried = 0;
        for (path, item) in openapi["paths"].as_object().into_iter().flatten() {
            let id = if path.starts_with("/server/") { &server } else { &own_worker };
            let named: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { id.as_str() } else { part }).collect();
            if !path.contains('{') || !(path.starts_with("/server/") || path.starts_with("/worker/")) {
                continue;
            }
            for method in item.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase()) {
                let Ok(method) = method.parse::<Method>() else { continue };
                let mut request = ask.plain(method.clone(), &named.join("/")).bearer_auth(&token);
                if method != Method::GET {
                    request = request.json(&json!({ "worker-name": "attic", "session_epoch": 1, "servers": [], "command": "quit" }));
                }
                let response = request.send().await?;
                let (status, answer) = (response.status().as_u16(), response.text().await?);
                // What is no handshake is told so before anybody looks whose link it would be.
                let no_handshake = status == 400 && path.ends_with("/link");
                ensure!(matches!(status, 403 | 404) || no_handshake, "{method} {path} gave {status}: {answer}");
                ensure!(!answer.contains("\"game\""), "{method} {path}: {answer}");
                tried += 1;
            }
        }
        ensure!(tried > 20, "only {tried} routes were tried");
        let still = ask.did(Method::GET, &format!("/server/{server}"), serde_json::Value::Null).await?;
        ensure!(still["desired"] == "running" && still["worker_id"] == own_worker.as_str(), "{still:#}");
        Ok(())
    })
}
