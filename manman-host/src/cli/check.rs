//! `manman-host check`: everything that a start would stumble over, without starting.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use super::{say, try_tls};
use crate::config::{Config, Database, Tls};
use crate::games::Catalogue;
use crate::postgres::find_binaries;
use crate::run::chain;
use crate::{clock, database};

pub(super) async fn check(config: &Config) -> ExitCode {
    let began = clock::instant();
    let mut report = Report::default();
    match &config.data {
        Some(data) if data.is_dir() => report.good("data", &format!("`{}`", data.display())),
        Some(data) => report.good("data", &format!("`{}` will be made", data.display())),
        None => report.bad("data", "there is no data directory", Some("name one with --data")),
    }
    check_database(config, &mut report).await;
    check_port("public", "--public", config.public, &mut report);
    check_port("internal", "--internal", config.internal, &mut report);
    match (try_tls(config), &config.tls) {
        (Ok(_), Tls::Off) => report.good("tls", "off"),
        (Ok(_), Tls::Own) => report.good("tls", "a certificate of our own"),
        (Ok(_), Tls::Files { certificate, .. }) => report.good("tls", &format!("`{}`", certificate.display())),
        (Err(error), _) => report.bad("tls", &chain(&error), None),
    }
    let games = Catalogue::load(&config.game_folders());
    for error in games.left_out() {
        report.bad("games", &chain(error), None);
    }
    report.good("games", &format!("{} definitions", games.iter().count()));
    tracing::debug!(elapsed_ms = began.elapsed().as_millis(), "checked");
    if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn check_database(config: &Config, report: &mut Report) {
    match &config.database {
        Database::External { url } => match database::look(url).await {
            Ok((version, 0)) => report.good("database", &format!("PostgreSQL {version}, up to date")),
            Ok((version, missing)) => report.good("database", &format!("PostgreSQL {version}, {missing} migrations will be run")),
            Err(error) => report.bad("database", &chain(&error), error.hint().as_deref()),
        },
        Database::Asked { orchestrator } => report.good("database", &format!("asked for at {orchestrator}")),
        Database::Embedded { pg_bin } => match find_binaries(pg_bin.as_deref()) {
            Ok(binaries) => report.good("database", &format!("a private PostgreSQL {}", binaries.version)),
            Err(error) => report.bad("database", &chain(&error), error.hint().as_deref()),
        },
    }
}

fn check_port(name: &str, flag: &str, address: SocketAddr, report: &mut Report) {
    match TcpListener::bind(address) {
        Ok(_) => report.good(name, &address.to_string()),
        Err(error) => {
            report.bad(name, &format!("could not listen on {address}: {error}"), Some(&format!("choose another address with {flag}")))
        }
    }
}

#[derive(Debug, Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn good(&mut self, name: &str, words: &str) {
        say(&format!("ok    {name:9} {words}"));
    }

    fn bad(&mut self, name: &str, words: &str, hint: Option<&str>) {
        self.failed = true;
        say(&format!("WRONG {name:9} {words}"));
        if let Some(hint) = hint {
            say(&format!("      hint: {hint}"));
        }
    }
}
