//! With a real cluster: its superuser is a manman host's, and waifus log in over TCP.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::Executor as _;
use tempfile::TempDir;

use super::*;
use crate::postgres::{Durability, EmbeddedPostgres, PostgresOptions};

struct Cluster {
    folder: TempDir,
    postgres: EmbeddedPostgres,
}

impl Cluster {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mm-").tempdir().expect("a directory");
        // Where the tests run as root, Postgres runs as somebody who must get in.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let options = PostgresOptions { data_dir: folder.path().to_owned(), pg_bin: None, durability: Durability::Fast, tcp: true };
        let postgres = Box::pin(EmbeddedPostgres::start(options)).await.expect("a Postgres");
        Self { folder, postgres }
    }

    fn superuser(&self) -> PgConnectOptions {
        self.postgres.url().parse().expect("a URL")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("host/database-key")
    }

    fn address(&self) -> Option<(String, u16)> {
        Some(("127.0.0.1".to_owned(), self.postgres.tcp().expect("it listens")))
    }

    /// As a role that may make roles and databases, and no more.
    async fn provisioner(&self) -> Provisioner {
        let mut connection = PgConnection::connect_with(&self.superuser()).await.expect("the superuser gets in");
        let made: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = 'orchestrator')")
            .fetch_one(&mut connection)
            .await
            .expect("a look");
        if !made {
            connection.execute("create role orchestrator login createdb createrole password 'test'").await.expect("a role");
            connection.execute("create database orchestrator owner orchestrator").await.expect("a database");
            connection.execute("revoke connect on database manman from public").await.expect("shut");
            connection.execute("revoke connect on database postgres from public").await.expect("shut");
            connection.execute("revoke connect on database template1 from public").await.expect("shut");
        }
        let (_, port) = self.address().expect("an address");
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username("orchestrator")
            .password("test")
            .database("orchestrator")
            .ssl_mode(sqlx::postgres::PgSslMode::Disable);
        let options = ProvisionOptions { options, address: None, key: &self.key(), adopted: None, quota: None };
        Provisioner::open(options).await.expect("a provisioner")
    }

    /// The names of databases and roles that were handed out.
    async fn made(&self) -> Vec<String> {
        let mut connection = PgConnection::connect_with(&self.superuser()).await.expect("the superuser gets in");
        let query = "select 'database ' || datname from pg_database where datname like 'w\\_%' union all
                     select 'role ' || rolname from pg_roles where rolname like 'w\\_%' order by 1";
        sqlx::query_scalar(query).fetch_all(&mut connection).await.expect("a look")
    }
}

fn name(text: &str) -> WaifuName {
    text.parse().expect("a name")
}

fn secret(text: &str) -> Secret {
    Secret::try_from(format!("{text} of 16 bytes and more")).expect("a secret")
}

async fn get_in(credentials: &Credentials) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect_with(&connect_options(credentials)).await
}

#[tokio::test]
async fn w09_a_database_is_given_and_given_again() {
    let cluster = Cluster::start().await;
    let provisioner = cluster.provisioner().await;
    let first = provisioner.provide(&name("my-links"), &secret("right")).await.expect("a database");
    let again = provisioner.provide(&name("my-links"), &secret("right")).await.expect("the database");
    let json = serde_json::to_string(&first).expect("JSON");
    assert_eq!(json, serde_json::to_string(&again).expect("JSON"), "byte for byte");
    assert_eq!((first.database.as_str(), first.user.as_str(), first.password.len()), ("w_my_links", "w_my_links", 43));
    let mut inside = get_in(&first).await.expect("it logs in");
    inside.execute("create table links (id int primary key)").await.expect("it may make tables");
    let denied = inside.execute("create database more").await.expect_err("no databases");
    assert!(denied.to_string().contains("permission denied"), "{denied}");

    let other = provisioner.provide(&name("other"), &secret("other")).await.expect("a database");
    for database in ["w_my_links", "orchestrator", "postgres", "manman", "template1"] {
        let error = get_in(&Credentials { database: database.to_owned(), ..other.clone() }).await.expect_err("it is shut");
        assert!(error.to_string().contains("permission denied"), "{database}: {error}");
    }
    let wrong = provisioner.provide(&name("my-links"), &secret("wrong")).await.expect_err("refused");
    assert!(matches!(wrong, ProvideError::WrongSecret));
    assert_eq!(cluster.made().await.len(), 4, "{:?}", cluster.made().await);

    // Nothing that is kept gives a password or a secret away.
    let mut connection = PgConnection::connect_with(&provisioner.options).await.expect("the orchestrator gets in");
    let kept: String = sqlx::query_scalar("select string_agg(d::text, ' ') from orchestrator.waifu_database d")
        .fetch_one(&mut connection)
        .await
        .expect("rows");
    let log = std::fs::read_to_string(cluster.postgres.log_path()).unwrap_or_default();
    for text in [&first.password, "right of 16 bytes"] {
        assert!(!kept.contains(text) && !log.contains(text), "{text} is kept");
    }
}

#[tokio::test]
async fn w08_twenty_first_calls_at_once_make_one_database() {
    let cluster = Cluster::start().await;
    // Two orchestrators of one cluster, as two machines might be.
    let provisioners = [Arc::new(cluster.provisioner().await), Arc::new(cluster.provisioner().await)];
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..20 {
        let provisioner = Arc::clone(&provisioners[number % 2]);
        calls.spawn(async move { provisioner.provide(&name("links"), &secret("right")).await.expect("a database") });
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(cluster.made().await, ["database w_links", "role w_links"]);
    get_in(&answers[0]).await.expect("it logs in");
    // Two that want one name with different secrets: one has it.
    let (one, other) = (secret("one"), secret("other"));
    let contested = name("contested");
    let (one, other) = tokio::join!(provisioners[0].provide(&contested, &one), provisioners[1].provide(&contested, &other));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test]
async fn w08_whatever_breaks_off_is_healed_by_the_next_call() {
    let cluster = Cluster::start().await;
    let provisioner = cluster.provisioner().await;
    for step in ["begin", "role", "grant", "database", "revoke"] {
        let waifu = name(step);
        *provisioner.fail_after.lock().expect("not poisoned") = Some(step);
        provisioner.provide(&waifu, &secret("right")).await.expect_err("it broke off");
        let wrong = provisioner.provide(&waifu, &secret("wrong")).await.expect_err("refused");
        assert!(matches!(wrong, ProvideError::WrongSecret), "the first secret counts, after {step}: {wrong}");
        // A new process goes on where the old one broke off.
        let credentials = cluster.provisioner().await.provide(&waifu, &secret("right")).await.expect("a database");
        get_in(&credentials).await.unwrap_or_else(|error| panic!("after {step}: {error}"));
        let error = get_in(&Credentials { database: "w_begin".to_owned(), ..credentials }).await;
        assert_eq!(error.is_ok(), step == "begin", "after {step}");
    }
    assert_eq!(cluster.made().await.len(), 10);
}

#[tokio::test]
async fn w09_a_lost_key_gives_a_new_password() {
    let cluster = Cluster::start().await;
    let first = cluster.provisioner().await.provide(&name("links"), &secret("right")).await.expect("a database");
    let mode = std::fs::metadata(cluster.key()).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(cluster.key()).expect("it is lost");
    let second = cluster.provisioner().await.provide(&name("links"), &secret("right")).await.expect("the database");
    assert_ne!(first.password, second.password);
    get_in(&second).await.expect("the new password holds");
    get_in(&first).await.expect_err("the old one does not");
}

#[tokio::test]
async fn w08_what_was_not_made_here_is_left_alone() {
    let cluster = Cluster::start().await;
    let provisioner = cluster.provisioner().await;
    let mut connection = PgConnection::connect_with(&cluster.superuser()).await.expect("the superuser gets in");
    connection.execute("create role w_taken login password 'x'").await.expect("a role");
    connection.execute("create database w_other").await.expect("a database");
    for taken in ["taken", "other"] {
        let error = provisioner.provide(&name(taken), &secret("right")).await.expect_err("refused");
        assert!(error.to_string().contains("was not made here"), "{error}");
    }
    let role = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(provisioner.port)
        .username("w_taken")
        .password("x")
        .database("w_taken");
    let options = ProvisionOptions { options: role, address: None, key: &cluster.key(), adopted: None, quota: None };
    assert!(Provisioner::open(options).await.is_err(), "a role without the right to make databases is refused at the start");
}

#[tokio::test]
async fn w08_a_rotated_password_holds_and_the_old_one_does_not() {
    let cluster = Cluster::start().await;
    let provisioner = cluster.provisioner().await;
    let waifu = name("links");
    let unknown = provisioner.rotate(&waifu, &secret("right"), None).await.expect_err("there is none yet");
    assert!(matches!(unknown, ProvideError::Unknown));
    let first = provisioner.provide(&waifu, &secret("right")).await.expect("a database");
    let mut inside = get_in(&first).await.expect("it logs in");
    let wrong = provisioner.rotate(&waifu, &secret("wrong"), None).await.expect_err("refused");
    assert!(matches!(wrong, ProvideError::WrongSecret));
    let second = provisioner.rotate(&waifu, &secret("right"), Some(&secret("fresh"))).await.expect("another password");
    assert_eq!((&first.database, &first.user), (&second.database, &second.user));
    inside.execute("select 1").await.expect("who is in stays in");
    get_in(&first).await.expect_err("the old password is no good");
    get_in(&second).await.expect("the new one is");
    assert_eq!(provisioner.provide(&waifu, &secret("fresh")).await.expect("the database"), second);
    assert!(matches!(provisioner.provide(&waifu, &secret("right")).await, Err(ProvideError::WrongSecret)));
}

#[tokio::test]
async fn w08_a_database_that_was_given_back_comes_back_or_is_dropped_after_a_week() {
    let cluster = Cluster::start().await;
    let provisioner = cluster.provisioner().await;
    let waifu = name("links");
    let first = provisioner.provide(&waifu, &secret("right")).await.expect("a database");
    let mut inside = get_in(&first).await.expect("it logs in");
    inside.execute("create table t as select 7 as n").await.expect("a table");
    assert!(matches!(provisioner.remove(&waifu, &secret("wrong")).await, Err(ProvideError::WrongSecret)));
    let until = provisioner.remove(&waifu, &secret("right")).await.expect("it is given back");
    assert!(until > crate::clock::now().plus(Duration::from_secs(6 * 24 * 60 * 60)));
    inside.execute("select 1").await.expect_err("who was in is out");
    get_in(&first).await.expect_err("nobody gets in");
    provisioner.tidy().await.expect("looked after");
    assert_eq!(provisioner.list().await.expect("a list")[0].dropped_at, Some(until));

    // It was a mistake: the same request as ever brings it back.
    let again = provisioner.provide(&waifu, &secret("right")).await.expect("the database");
    assert_eq!(again, first);
    let mut inside = get_in(&again).await.expect("it logs in");
    let kept: i32 = sqlx::query_scalar("select n from t").fetch_one(&mut inside).await.expect("it is all there");
    assert_eq!((kept, provisioner.list().await.expect("a list")[0].dropped_at), (7, None));

    provisioner.remove(&waifu, &secret("right")).await.expect("it is given back");
    sqlx::query("update orchestrator.waifu_database set removed_at = removed_at - interval '7 days'")
        .execute(&provisioner.pool)
        .await
        .expect("a week goes by");
    provisioner.tidy().await.expect("looked after");
    assert_eq!((cluster.made().await, provisioner.list().await.expect("a list").len()), (Vec::new(), 0));
    let fresh = provisioner.provide(&waifu, &secret("another")).await.expect("the name is free again");
    get_in(&fresh).await.expect("it logs in").execute("select n from t").await.expect_err("it is empty");
}

#[tokio::test]
async fn w08_a_database_over_its_quota_only_reads_until_it_is_smaller() {
    let cluster = Cluster::start().await;
    let mut provisioner = cluster.provisioner().await;
    // An empty database has seven megabytes.
    provisioner.quota = Some(12 << 20);
    let credentials = provisioner.provide(&name("links"), &secret("right")).await.expect("a database");
    let mut inside = get_in(&credentials).await.expect("it logs in");
    inside.execute("create table big as select repeat('x', 1000) as t, n from generate_series(1, 10000) n").await.expect("a table");
    provisioner.tidy().await.expect("looked after");
    let view = provisioner.list().await.expect("a list").remove(0);
    assert!(view.over_quota && view.size > view.quota, "{view:?}");
    inside.execute("select 1").await.expect_err("it is to log in again");
    let mut inside = get_in(&credentials).await.expect("it logs in");
    let refused = inside.execute("insert into big values ('x', 0)").await.expect_err("it only reads");
    assert!(refused.to_string().contains("read-only"), "{refused}");
    // What makes it smaller is allowed to whoever says so.
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut inside).await.expect("it may");
    inside.execute("drop table big").await.expect("it writes");
    provisioner.tidy().await.expect("looked after");
    assert!(!provisioner.list().await.expect("a list")[0].over_quota);
    get_in(&credentials).await.expect("it logs in").execute("create table small (n int)").await.expect("it writes again");
}
