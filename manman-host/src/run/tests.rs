//! A whole host on real sockets, with a database of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use manman_common::client::{Client, Endpoint};

use super::*;
use crate::config::Tls;

fn config(data: &Path) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config { public: any, internal: any, tls: Tls::Own, data: Some(data.to_owned()), ..Config::default() }
}

async fn start(data: &Path) -> (CancellationToken, tokio::task::JoinHandle<Result<(), HostError>>, Context) {
    let host = Box::pin(Host::start(config(data))).await.expect("a host");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(host.run(shutdown.clone()));
    (shutdown, running, context::read(data).expect("read").expect("a context"))
}

fn client(context: &Context) -> Client {
    let endpoint: Endpoint = context.url.parse().expect("an address");
    assert!(endpoint.pin().is_some(), "{}", context.url);
    Client::new(endpoint, context.token.clone()).expect("a client")
}

#[tokio::test]
async fn a_host_comes_up_answers_over_tls_and_keeps_its_word_over_a_restart() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::Builder::new().prefix("mm-").tempdir().expect("a directory");
    // Where the tests run as root, Postgres runs as somebody who must get in.
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");

    let (shutdown, running, first) = start(data.path()).await;
    let mode = std::fs::metadata(data.path().join("context.toml")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = client(&first).host_status().await.expect("an answer");
    assert!(status.database.starts_with("embedded "), "{}", status.database);
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean end");
    assert!(client(&first).host_status().await.is_err(), "nobody listens any more");

    let (shutdown, running, second) = start(data.path()).await;
    assert_eq!(second.token, first.token, "what others were given stays good");
    let fingerprint = |context: &Context| context.url.split('#').nth(1).map(str::to_owned);
    assert_eq!(fingerprint(&second), fingerprint(&first));
    assert_eq!(client(&second).host_status().await.expect("an answer").host_id, status.host_id);
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean end");
}

/// As every manman before the orchestrator left it: all of it is the cluster's superuser's.
async fn old_data_directory(data: &Path) -> uuid::Uuid {
    use crate::postgres::{Durability, PostgresOptions};
    use sqlx::Connection as _;
    let options = PostgresOptions { data_dir: data.to_owned(), pg_bin: None, durability: Durability::Fast, tcp: false };
    let postgres = Box::pin(EmbeddedPostgres::start(options)).await.expect("a Postgres");
    let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.expect("a connection");
    db::MIGRATIONS.run(&mut connection).await.expect("migrations");
    let id = db::host::host_ensure(&mut connection, clock::new_uuid(), clock::now()).await.expect("a host id");
    connection.close().await.expect("closed");
    postgres.stop().await.expect("it stops");
    id
}

#[tokio::test]
async fn w09_an_older_data_directory_is_taken_over_with_all_that_is_in_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::Builder::new().prefix("mm-").tempdir().expect("a directory");
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let id = old_data_directory(data.path()).await;
    for _ in 0..2 {
        let (shutdown, running, context) = start(data.path()).await;
        assert_eq!(client(&context).host_status().await.expect("an answer").host_id, id);
        shutdown.cancel();
        running.await.expect("no panic").expect("a clean end");
    }
    // The host is no superuser any more, and owns what it has to change one day.
    let (shutdown, running) = {
        let host = Box::pin(Host::start(config(data.path()))).await.expect("a host");
        let query = "select current_user::text, (select rolsuper from pg_roles where rolname = current_user),
                     (select count(*) from pg_tables where schemaname = 'public' and tableowner <> current_user)";
        let (user, superuser, foreign): (String, bool, i64) = sqlx::query_as(query).fetch_one(&host.app().db).await.expect("an answer");
        assert_eq!((user.as_str(), superuser, foreign), ("w_manman_host", false, 0));
        let shutdown = CancellationToken::new();
        (shutdown.clone(), tokio::spawn(host.run(shutdown)))
    };
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn what_can_not_be_used_is_named_before_anything_is_begun() {
    let data = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let error = Box::pin(Host::start(Config { internal: address, tls: Tls::Off, ..config(data.path()) })).await.err().expect("refused");
    assert!(matches!(error, HostError::Listen { flag: "--internal", .. }), "{error}");
    assert!(error.hint().expect("a hint").contains("--internal"));
    assert_eq!(std::fs::read_dir(data.path()).expect("a directory").count(), 0);

    let url = "postgres://someone:hunter2@127.0.0.1:1/manman".to_owned();
    let database = crate::config::Database::External { url };
    let error = Box::pin(Host::start(Config { database, tls: Tls::Off, ..config(data.path()) })).await.err().expect("refused");
    let words = format!("{} {:?} {error:?}", chain(&error), error.hint());
    assert!(words.contains("127.0.0.1:1") && !words.contains("hunter2"), "{words}");
}
