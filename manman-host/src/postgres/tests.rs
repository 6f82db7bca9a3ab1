//! The private Postgres with real binaries, as whoever runs the tests: root or not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};
use tempfile::TempDir;

use super::account::{self, Account};
use super::{Durability, EmbeddedPostgres, PostgresError, PostgresOptions, leftover};

/// Names the data directory that the helper process is to hold.
const HOLD: &str = "MANMAN_TEST_HOLD_POSTGRES";

fn options(data_dir: &Path) -> PostgresOptions {
    PostgresOptions { data_dir: data_dir.to_owned(), pg_bin: None, durability: Durability::Fast, tcp: false }
}

/// A data directory that the account of Postgres can reach, so that all of it goes with the test.
fn reachable_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
    dir
}

async fn start(data_dir: &Path) -> EmbeddedPostgres {
    start_with(options(data_dir)).await.expect("Postgres starts")
}

async fn start_with(options: PostgresOptions) -> Result<EmbeddedPostgres, PostgresError> {
    Box::pin(EmbeddedPostgres::start(options)).await
}

async fn ask(postgres: &EmbeddedPostgres, query: &'static str) -> String {
    let mut connection = Box::pin(PgConnection::connect(&postgres.url())).await.expect("Postgres answers");
    let row = connection.fetch_one(query).await.expect(query);
    row.get(0)
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true within 15 s");
}

fn processes(cluster: &Path) -> usize {
    leftover::processes(cluster).expect("a look at /proc").len()
}

#[tokio::test]
async fn starts_private_and_keeps_data_and_password_over_a_restart() {
    let dir = reachable_dir();
    let postgres = start_with(PostgresOptions { durability: Durability::Durable, ..options(dir.path()) }).await.expect("Postgres starts");
    let url = postgres.url();
    assert_eq!(ask(&postgres, "SELECT current_database()::text").await, "manman");
    assert_eq!(ask(&postgres, "SHOW fsync").await, "on");
    assert_eq!(ask(&postgres, "SHOW listen_addresses").await, "");
    assert_eq!(ask(&postgres, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules").await, "scram-sha-256");
    let mut connection = Box::pin(PgConnection::connect(&url)).await.expect("connect");
    connection.execute("CREATE TABLE kept AS SELECT 'still here'::text AS word").await.expect("create a table");
    connection.close().await.expect("close");

    let home = postgres.cluster().parent().expect("a home").to_owned();
    let mode = |path: PathBuf| fs::metadata(path).expect("metadata").mode() & 0o777;
    assert_eq!(mode(home.join("password")), 0o600);
    assert_eq!(mode(home.join("run")), 0o700);
    assert_eq!(mode(home.join("data")), 0o700);
    let password = fs::read_to_string(home.join("password")).expect("the password");
    let shown = format!("{postgres:?}");
    assert!(!shown.contains(password.trim()), "{shown}");

    let wrong = url.replace(password.trim(), "wrong");
    let refused = Box::pin(PgConnection::connect(&wrong)).await.expect_err("a wrong password");
    assert_eq!(refused.as_database_error().and_then(|it| it.code()).as_deref(), Some("28P01"));

    let cluster = postgres.cluster().to_owned();
    postgres.stop().await.expect("stop");
    assert_eq!(processes(&cluster), 0);
    assert!(!cluster.join("postmaster.pid").exists());

    let postgres = start(dir.path()).await;
    assert_eq!(postgres.url(), url);
    assert_eq!(ask(&postgres, "SELECT word FROM kept").await, "still here");
    postgres.stop().await.expect("stop");
}

#[tokio::test]
async fn a_drop_stops_it_and_the_next_start_waits_for_that() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let cluster = postgres.cluster().to_owned();
    drop(postgres);
    let postgres = start(dir.path()).await;
    drop(postgres);
    until("the end of every process", || processes(&cluster) == 0).await;
}

#[tokio::test]
async fn a_second_host_is_refused_and_the_first_goes_on() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let error = start_with(options(dir.path())).await.expect_err("one is running");
    assert!(matches!(error, PostgresError::Locked { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    postgres.stop().await.expect("stop");
}

#[tokio::test]
async fn says_when_it_dies_unasked_and_only_then() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let died = postgres.died();
    rustix::process::kill_process(postgres.postmaster.pid(), rustix::process::Signal::QUIT).expect("kill");
    let error = tokio::time::timeout(Duration::from_secs(15), died).await.expect("it says so");
    assert!(matches!(error, PostgresError::Died { .. }), "{error}");
    assert!(error.to_string().contains("immediate shutdown"), "{error}");
    drop(postgres);

    let postgres = start(dir.path()).await;
    let died = postgres.died();
    postgres.stop().await.expect("stop");
    let silent = tokio::time::timeout(Duration::from_millis(50), died).await;
    assert!(silent.is_err(), "a stop that was asked for is no death");
}

/// Not a test: what the next one starts, to kill it.
#[tokio::test]
#[ignore = "a helper process of another test"]
async fn holds_postgres_until_killed() {
    let Some(dir) = std::env::var_os(HOLD) else {
        return;
    };
    let dir = PathBuf::from(dir);
    let postgres = start(&dir).await;
    fs::write(dir.join("cluster"), postgres.cluster().to_str().expect("UTF-8")).expect("write");
    fs::rename(dir.join("cluster"), dir.join("holding")).expect("rename");
    std::future::pending::<()>().await;
}

fn hold(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "--ignored", "postgres::tests::holds_postgres_until_killed"])
        .env(HOLD, dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("the helper starts")
}

#[tokio::test]
async fn a_killed_host_leaves_no_orphan() {
    let dir = reachable_dir();
    let mut holder = hold(dir.path());
    let holding = dir.path().join("holding");
    until("the helper's Postgres", || holding.exists()).await;
    let cluster = PathBuf::from(fs::read_to_string(&holding).expect("the cluster's path"));
    assert!(processes(&cluster) > 1);
    holder.kill().expect("kill");
    holder.wait().expect("wait");
    until("the end of every process", || processes(&cluster) == 0).await;
    // It was a clean stop, by the death signal: nothing to recover.
    assert!(!cluster.join("postmaster.pid").exists());

    // And again, without waiting for it to be over.
    fs::remove_file(&holding).expect("remove");
    let mut holder = hold(dir.path());
    until("the helper's Postgres", || holding.exists()).await;
    holder.kill().expect("kill");
    holder.wait().expect("wait");
    let postgres = start(dir.path()).await;
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    postgres.stop().await.expect("stop");
}

#[tokio::test]
async fn a_postmaster_without_its_host_is_ended_at_start() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let cluster = postgres.cluster().to_owned();
    let home = cluster.parent().expect("a home").to_owned();
    postgres.stop().await.expect("stop");

    let account = Account::of_cluster(&cluster).expect("its owner");
    let binaries = super::find_binaries(None).expect("binaries");
    let mut orphan = account::command(&binaries.postgres(), account.as_ref(), &home)
        .arg("-D")
        .arg(&cluster)
        .args(["-c", "listen_addresses=", "-k"])
        .arg(home.join("run"))
        .stderr(Stdio::null())
        .spawn()
        .expect("an orphan");
    until("the orphan", || processes(&cluster) > 1).await;
    let reaper = std::thread::spawn(move || orphan.wait());

    let postgres = start(dir.path()).await;
    reaper.join().expect("join").expect("the orphan has ended");
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    postgres.stop().await.expect("stop");
}

#[tokio::test]
async fn stale_pid_files_that_name_a_stranger_are_no_hindrance() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let cluster = postgres.cluster().to_owned();
    let home = cluster.parent().expect("a home").to_owned();
    postgres.stop().await.expect("stop");

    // A stranger with the account of Postgres: it would refuse to start.
    let account = Account::of_cluster(&cluster).expect("its owner");
    let mut stranger = account::command(Path::new("/bin/sleep"), account.as_ref(), &home).arg("600").spawn().expect("a stranger");
    let text = format!("{}\n{}\n1\n5432\n\n\n", stranger.id(), cluster.display());
    let stale = [cluster.join("postmaster.pid"), home.join("run/.s.PGSQL.5432.lock")];
    for path in &stale {
        fs::write(path, &text).expect("write");
        account::give(path, account.as_ref()).expect("chown");
    }
    drop(std::os::unix::net::UnixListener::bind(home.join("run/.s.PGSQL.5432")).expect("bind"));

    let postgres = start(dir.path()).await;
    postgres.stop().await.expect("stop");
    assert!(stranger.try_wait().expect("a look").is_none(), "the stranger lives on");
    stranger.kill().expect("kill");
    stranger.wait().expect("wait");
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let dir = reachable_dir();
    // As a start leaves it that was killed during initdb: a password, and half a cluster.
    let home = dir.path().join("postgres");
    fs::create_dir(&home).expect("mkdir");
    fs::set_permissions(&home, Permissions::from_mode(0o711)).expect("chmod");
    let half = home.join("half-made-0123/base");
    fs::create_dir_all(&half).expect("mkdir");
    fs::write(home.join("half-made-0123/PG_VERSION"), "15\n").expect("write");
    let account = Account::for_new_cluster().expect("an account");
    fs::write(home.join("password"), "abc\n").expect("write");
    fs::set_permissions(home.join("password"), Permissions::from_mode(0o600)).expect("chmod");
    account::give(&home.join("password"), account.as_ref()).expect("chown");

    let postgres = start(dir.path()).await;
    assert!(postgres.url().contains(":abc@"));
    assert!(!half.exists());
    postgres.stop().await.expect("stop");
}

#[tokio::test]
async fn a_start_killed_in_the_middle_is_no_harm() {
    let dir = reachable_dir();
    let mut holder = hold(dir.path());
    let home = dir.path().join("postgres");
    let half_made = || {
        fs::read_dir(&home)
            .into_iter()
            .flatten()
            .flatten()
            .any(|it| it.file_name().to_string_lossy().starts_with("half-made-") && it.path().join("PG_VERSION").exists())
    };
    until("initdb at work", half_made).await;
    holder.kill().expect("kill");
    holder.wait().expect("wait");
    assert!(!home.join("data").exists());
    let postgres = start(dir.path()).await;
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    postgres.stop().await.expect("stop");
}

#[tokio::test]
async fn another_major_version_is_refused_and_nothing_is_touched() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let cluster = postgres.cluster().to_owned();
    postgres.stop().await.expect("stop");

    let bin = dir.path().join("bin");
    fs::create_dir(&bin).expect("mkdir");
    for name in ["postgres", "initdb"] {
        let path = bin.join(name);
        fs::write(&path, "#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n").expect("write");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
    }
    let other = PostgresOptions { pg_bin: Some(bin), ..options(dir.path()) };
    let error = start_with(other).await.expect_err("another major version");
    assert!(matches!(error, PostgresError::WrongMajor { .. }), "{error}");
    assert!(error.to_string().contains("99.1"), "{error}");

    // And the other way round: a cluster that none of the installed versions made.
    let version = cluster.join("PG_VERSION");
    let made_by = fs::read_to_string(&version).expect("read");
    fs::write(&version, "98\n").expect("write");
    let error = start_with(options(dir.path())).await.expect_err("another major version");
    assert!(error.to_string().contains("made by PostgreSQL 98"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("install PostgreSQL 98")));

    fs::write(&version, made_by).expect("write");
    start(dir.path()).await.stop().await.expect("stop");
}

#[tokio::test]
async fn missing_binaries_are_named() {
    let dir = reachable_dir();
    let error = super::find_binaries(Some(dir.path())).expect_err("nothing is there");
    assert!(error.to_string().contains("no `initdb`"), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_says_what_postgres_said() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let control = postgres.cluster().join("global/pg_control");
    postgres.stop().await.expect("stop");
    fs::remove_file(control).expect("remove");
    let error = start_with(options(dir.path())).await.expect_err("a broken cluster");
    assert!(matches!(error, PostgresError::EndedAtStart { .. }), "{error}");
    assert!(error.to_string().contains("pg_control"), "{error}");
}

#[tokio::test]
async fn a_lost_cluster_is_not_replaced_by_an_empty_one() {
    let dir = reachable_dir();
    let postgres = start(dir.path()).await;
    let cluster = postgres.cluster().to_owned();
    postgres.stop().await.expect("stop");
    fs::remove_dir_all(&cluster).expect("remove");
    let error = start_with(options(dir.path())).await.expect_err("it is gone");
    assert!(matches!(error, PostgresError::ClusterGone { .. }), "{error}");
    assert!(!cluster.exists());
}

/// Removes what a test made outside its temporary directory, also when it fails.
struct SystemHome(PathBuf);

impl Drop for SystemHome {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Goes only if it is empty: another test, or a real host, may have its own there.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

#[tokio::test]
async fn a_directory_out_of_reach_gets_its_cluster_elsewhere() {
    if !account::we_are_root() {
        return;
    }
    // As tempdir makes it: 0700 of root.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data_dir = dir.path().join("data");
    let postgres = start(&data_dir).await;
    let home = postgres.cluster().parent().expect("a home").to_owned();
    let _cleaner = SystemHome(home.clone());
    assert_eq!(home.parent(), Some(Path::new("/var/lib/manman")));
    assert!(postgres.log_path().starts_with(&data_dir));
    let record = fs::read_to_string(data_dir.join("postgres.toml")).expect("a record");
    assert!(record.contains(home.to_str().expect("UTF-8")), "{record}");
    let url = postgres.url();
    postgres.stop().await.expect("stop");

    // A moved data directory keeps its database, and a copy does not get the original's.
    let moved = dir.path().join("moved");
    fs::rename(&data_dir, &moved).expect("rename");
    let postgres = start(&moved).await;
    assert_eq!(postgres.url(), url);
    postgres.stop().await.expect("stop");
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).expect("mkdir");
    fs::copy(moved.join("postgres.toml"), copy.join("postgres.toml")).expect("copy");
    let error = start_with(options(&copy)).await.expect_err("a copy");
    assert!(matches!(error, PostgresError::CopiedDataDir { .. }), "{error}");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let dir = reachable_dir();
    let data_dir = dir.path().join("long, \"with 'care'".repeat(6));
    fs::create_dir(&data_dir).expect("mkdir");
    fs::set_permissions(&data_dir, Permissions::from_mode(0o755)).expect("chmod");
    let postgres = start(&data_dir).await;
    let socket_dir = postgres.socket_dir.clone();
    assert!(socket_dir.as_os_str().len() < 50, "{}", socket_dir.display());
    assert_eq!(fs::metadata(&socket_dir).expect("metadata").mode() & 0o777, 0o700);
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    postgres.stop().await.expect("stop");
    assert!(!socket_dir.exists());

    // Somebody else was there first.
    fs::create_dir(&socket_dir).expect("mkdir");
    fs::set_permissions(&socket_dir, Permissions::from_mode(0o777)).expect("chmod");
    let error = start_with(options(&data_dir)).await.expect_err("not ours");
    fs::remove_dir(&socket_dir).expect("rmdir");
    assert!(matches!(error, PostgresError::SocketDirTaken { .. }), "{error}");
}

#[tokio::test]
async fn odd_characters_in_the_path_do_no_harm() {
    let dir = reachable_dir();
    let data_dir = dir.path().join("a, \"b\" 'c' %d é");
    fs::create_dir(&data_dir).expect("mkdir");
    fs::set_permissions(&data_dir, Permissions::from_mode(0o755)).expect("chmod");
    let postgres = start(&data_dir).await;
    assert_eq!(ask(&postgres, "SELECT 'well'").await, "well");
    assert!(postgres.socket_dir.starts_with(&data_dir));
    postgres.stop().await.expect("stop");
}

/// The same as an ordinary user: whoever runs as root tries that as well, in a helper process.
#[test]
fn an_ordinary_user_needs_nothing_special() {
    if !account::we_are_root() {
        return;
    }
    let Ok(Some(account)) = Account::for_new_cluster() else {
        return;
    };
    let dir = reachable_dir();
    account::give(dir.path(), Some(&account)).expect("chown");
    let ran = Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "postgres::tests::a_second_host_is_refused_and_the_first_goes_on"])
        .env("TMPDIR", dir.path())
        .uid(account.uid)
        .gid(account.gid)
        .stdout(Stdio::null())
        .status();
    // A test binary below a closed directory cannot be run by others: nothing to see then.
    if let Ok(status) = ran {
        assert!(status.success(), "{status}");
    }
}
