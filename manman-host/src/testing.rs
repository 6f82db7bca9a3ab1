//! A host for tests: a real database of its own, the real router, no socket.
//!
//! With `MANMAN_TEST_PG` (the URL of a throw-away cluster, which `tests/run` starts) a database is
//! copied from a migrated template in some 30 ms; without it each test runs a Postgres of its own.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use manman_common::wire::Scope;
use manman_common::{Name, WorkerId};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::app::{App, AppRef, Bound};
use crate::config::Config;
use crate::db::MIGRATIONS;
use crate::db::token::{NewToken, token_insert};
use crate::games::Catalogue;
use crate::http::auth::{new_secret, secret_hash};
use crate::http::router::{Door, router};
use crate::postgres::{Durability, EmbeddedPostgres, PostgresOptions};
use crate::{background, clock, db};

pub(crate) struct TestHost {
    pub(crate) app: AppRef,
    /// A token of the scope admin.
    pub(crate) admin: String,
    pub(crate) router: Router,
    shutdown: CancellationToken,
    _tasks: TaskTracker,
    _database: Database,
}

/// Kept as long as the host; the database goes with it.
enum Database {
    Shared { maintenance: String, name: String },
    Own { _postgres: EmbeddedPostgres, _folder: tempfile::TempDir },
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// JSON, a string where it was text, `null` where it was empty.
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer of this status; fails with the whole answer otherwise.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    /// A problem of this status and kind.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, kind: &str) -> Value {
        let sort = self.headers.get(header::CONTENT_TYPE).and_then(|sort| sort.to_str().ok()).map(str::to_owned);
        let body = self.expect(status);
        assert_eq!(sort.as_deref(), Some("application/problem+json"), "{body:#}");
        assert_eq!(body["type"], kind, "{body:#}");
        assert_eq!(body["status"], status, "{body:#}");
        assert!(body["instance"].is_string(), "{body:#}");
        body
    }
}

impl TestHost {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let (db, database) = fresh_database().await;
        let games = Catalogue::load(&config.game_folders());
        assert!(games.left_out().is_empty() || !config.games.is_empty(), "{:?}", games.left_out());
        let now = clock::now();
        let mut conn = db.acquire().await.expect("a connection");
        let host_id = db::host::host_ensure(&mut conn, clock::new_uuid(), now).await.expect("a host id");
        drop(conn);
        let app = App::new(db, config, host_id, "test".to_owned(), games);
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let url = "http://127.0.0.1:8080".to_owned();
        let bound = Bound { public: address, internal: address, public_url: url.clone(), internal_url: url, fingerprint: None };
        app.bound.set(bound).expect("set once");
        let shutdown = CancellationToken::new();
        let tasks = background::start(&app, &shutdown).await.expect("background tasks");
        let router = router(&app, Door::Public);
        let mut host = Self { admin: String::new(), app, router, shutdown, _tasks: tasks, _database: database };
        host.admin = host.token(Scope::Admin, |_| ()).await;
        host
    }

    /// A fresh token; `shape` may confine it.
    pub(crate) async fn token(&self, scope: Scope, shape: impl FnOnce(&mut NewToken)) -> String {
        let secret = new_secret(db::token::scope_text(scope));
        let mut token = NewToken::new(clock::new_token_id(), secret_hash(&secret), scope, clock::now());
        shape(&mut token);
        token_insert(&mut self.app.db.acquire().await.expect("a connection"), &token).await.expect("a token");
        secret
    }

    /// A request as admin.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_as(&self.admin, method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    pub(crate) async fn call_as(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], body).await
    }

    /// A request with these headers and nothing else; `null` is no body.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        self.send_from([192, 168, 1, 7], method, path, headers, body).await
    }

    /// The same from another address.
    pub(crate) async fn send_from(&self, peer: [u8; 4], method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).expect("a method")).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            Value::String(raw) => Body::from(raw),
            json => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
        };
        let peer = ConnectInfo(SocketAddr::from((peer, 40000)));
        let request = request.extension(peer).body(body).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 * 1024 * 1024).await.expect("a body");
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// An accepted worker that can run Docker games and has just been heard of, with its token.
    pub(crate) async fn worker(&self, name: &str) -> (WorkerId, String) {
        let join = self.token(Scope::Join, |_| ()).await;
        let name: Name = name.parse().expect("a name");
        let reserved = self.call_as(&join, "POST", "/worker", json!({ "name": name })).await;
        let id = reserved.body["id"].as_str().unwrap_or_else(|| panic!("{:#}", reserved.body)).to_owned();
        let drivers = json!([{ "method": "docker", "ready": true, "version": "27" }]);
        let body = json!({
            "worker-name": name,
            "ip-address": "192.168.1.10",
            "capabilities": { "drivers": drivers, "memory_bytes": 8_000_000_000_u64, "cpus": 2 },
        });
        let registered = self.call_as(&join, "POST", &format!("/worker/{id}"), body).await.expect(201);
        let token = registered["token"].as_str().unwrap_or_else(|| panic!("{registered:#}")).to_owned();
        self.call_as(&token, "POST", &format!("/worker/{id}/health"), Value::Null).await.expect(200);
        (id.parse().expect("an id"), token)
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Self::Shared { maintenance, name } = self else { return };
        let (maintenance, name) = (maintenance.clone(), name.clone());
        // A runtime of its own: the test's may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut conn = PgConnection::connect(&maintenance).await.ok()?;
                conn.execute(sqlx::AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await.ok()
            })
        });
        let _ = dropping.join();
    }
}

async fn fresh_database() -> (PgPool, Database) {
    match std::env::var("MANMAN_TEST_PG") {
        Ok(maintenance) => {
            let name = copy_template(&maintenance).await;
            let options: PgConnectOptions = maintenance.parse().expect("MANMAN_TEST_PG is a URL");
            let pool = PgPoolOptions::new().max_connections(8).connect_with(options.database(&name)).await.expect("a database");
            (pool, Database::Shared { maintenance, name })
        }
        Err(_) => {
            let (folder, postgres) = own_postgres().await;
            let pool = PgPoolOptions::new().max_connections(8).connect(&postgres.url()).await.expect("a database");
            MIGRATIONS.run(&pool).await.expect("migrations");
            (pool, Database::Own { _postgres: postgres, _folder: folder })
        }
    }
}

async fn own_postgres() -> (tempfile::TempDir, EmbeddedPostgres) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::Builder::new().prefix("mm-").tempdir().expect("a directory");
    // Where the tests run as root, Postgres runs as somebody who must get in.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let options = PostgresOptions { data_dir: folder.path().to_owned(), pg_bin: None, durability: Durability::Fast, tcp: false };
    let postgres = EmbeddedPostgres::start(options).await.expect("a Postgres");
    (folder, postgres)
}

/// A database like the template, which the first test makes while the others wait.
async fn copy_template(maintenance: &str) -> String {
    let fingerprint: Vec<u8> = MIGRATIONS.iter().flat_map(|migration| migration.checksum.iter().copied()).collect();
    let template = format!("manman_template_{:016x}", manman_common::link::fnv1a(&fingerprint));
    let mut conn = PgConnection::connect(maintenance).await.expect("the cluster of MANMAN_TEST_PG");
    conn.execute("select pg_advisory_lock(4711)").await.expect("a lock");
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&template)
        .fetch_one(&mut conn)
        .await
        .expect("a look");
    if !exists {
        let making = format!("{template}_making");
        conn.execute(sqlx::AssertSqlSafe(format!("drop database if exists {making} with (force)"))).await.expect("dropped");
        conn.execute(sqlx::AssertSqlSafe(format!("create database {making}"))).await.expect("made");
        let options: PgConnectOptions = maintenance.parse().expect("a URL");
        let mut inside = PgConnection::connect_with(&options.database(&making)).await.expect("a database");
        MIGRATIONS.run(&mut inside).await.expect("migrations");
        inside.close().await.expect("closed");
        conn.execute(sqlx::AssertSqlSafe(format!("alter database {making} rename to {template}"))).await.expect("renamed");
    }
    let name = format!("t_{}", clock::new_uuid().simple());
    conn.execute(sqlx::AssertSqlSafe(format!("create database {name} template {template}"))).await.expect("copied");
    conn.close().await.expect("closed");
    name
}
