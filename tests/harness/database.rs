//! A Postgres of a scenario's own, which it may stop, start again, and ask behind the host's back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::guard::Guard;
use crate::wait::eventually_within;

const UP: Duration = Duration::from_secs(60);

/// SIGQUIT is how a postmaster is told to end at once, with all of its children.
const CLEAN: &str = r#"
file=$1/cluster/postmaster.pid
pid=$(head -n 1 "$file" 2>/dev/null) && kill -QUIT "$pid"
for _ in $(seq 100); do [ -e "$file" ] || break; sleep 0.1; done
rm -rf "$1"
"#;

#[derive(Debug)]
pub struct Database {
    // Before the folder goes.
    _guard: Guard,
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    as_postgres: bool,
}

impl Database {
    /// An empty cluster, running, on a port of its own.
    pub async fn start() -> Result<Self> {
        let programs = newest_programs()?;
        let folder = tempfile::Builder::new().prefix("manman-pg-").tempdir()?;
        let as_postgres = rustix::process::geteuid().is_root();
        let guard = Guard::new(CLEAN, &[folder.path().to_str().context("the path of a database")?])?;
        let database = Self { _guard: guard, folder, programs, port: crate::free_port()?, as_postgres };
        if as_postgres {
            let chown = Command::new("chown").arg("postgres").arg(database.folder.path()).status().await?;
            ensure!(chown.success(), "the cluster's directory could not be given to the account `postgres`");
        }
        let cluster = database.cluster();
        let words = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "-D"];
        database.run("initdb", |command| command.args(words).arg(&cluster)).await?;
        database.again().await?;
        database.sql("create database manman").await?;
        Ok(database)
    }

    fn cluster(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/manman", self.port)
    }

    /// Gone at once, as by a power cut; whoever has asked something gets no answer.
    pub async fn stop(&self) -> Result<()> {
        self.run("pg_ctl", |command| command.args(["stop", "-w", "-m", "immediate", "-D"]).arg(self.cluster())).await.map(drop)
    }

    /// On what is there.
    pub async fn again(&self) -> Result<()> {
        let socket = self.folder.path().display().to_string();
        let options = format!("-p {} -k {socket} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60", self.port);
        let log = self.folder.path().join("log");
        let words = ["start", "-W", "-o", &options, "-l"];
        self.run("pg_ctl", |command| command.args(words).arg(&log).arg("-D").arg(self.cluster())).await?;
        eventually_within(UP, "Postgres is ready", async || {
            let asked = self.ask("postgres", "select 1").await;
            asked.map_err(|error| format!("{error:#}\n{}", std::fs::read_to_string(&log).unwrap_or_default()))
        })
        .await
        .map(drop)
    }

    /// The rows of a query, their columns divided by `|`.
    pub async fn rows(&self, query: &str) -> Result<Vec<String>> {
        let said = self.ask("manman", query).await?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// A query that answers one number.
    pub async fn number(&self, query: &str) -> Result<i64> {
        let rows = self.rows(query).await?;
        rows.first().and_then(|row| row.parse().ok()).with_context(|| format!("`{query}` answered {rows:?}"))
    }

    /// A copy of the database as it is now, under this name; nobody may be using it.
    pub async fn keep(&self, name: &str) -> Result<()> {
        self.sql(&format!("create database {name} template manman")).await
    }

    /// The database as it was when the copy was made.
    pub async fn put_back(&self, name: &str) -> Result<()> {
        self.sql("drop database manman with (force)").await?;
        self.sql(&format!("create database manman template {name}")).await
    }

    async fn sql(&self, statement: &str) -> Result<()> {
        self.ask("postgres", statement).await.map(drop)
    }

    async fn ask(&self, database: &str, query: &str) -> Result<String> {
        let port = self.port.to_string();
        let words =
            ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-d", database, "-c"];
        self.run("psql", |command| command.args(words).arg(query)).await
    }

    async fn run(&self, program: &str, configure: impl FnOnce(&mut Command) -> &mut Command) -> Result<String> {
        let path = self.programs.join(program);
        let mut command = if self.as_postgres && program != "psql" {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&path);
            command
        } else {
            Command::new(&path)
        };
        command.current_dir("/").stdin(std::process::Stdio::null());
        configure(&mut command);
        let output = command.output().await.with_context(|| format!("run {}", path.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        ensure!(output.status.success(), "{program}: {said} {}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }
}

fn newest_programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("read /usr/lib/postgresql")?;
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.flatten().map(|entry| entry.path()).max_by_key(|path| number(path));
    Ok(newest.context("no Postgres is installed")?.join("bin"))
}
