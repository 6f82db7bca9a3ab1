use std::time::Duration;

use clap::Subcommand;
use manman_common::wire::{CreateToken, Scope, TokenView};

use crate::clock;
use crate::commands::account::{ago, server_id};
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::all_pages;
use crate::output;
use crate::parse::show_duration;
use crate::table::Table;

/// Secrets for programs, scripts and new machines
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// List the tokens that are valid; their secrets are shown once only, when they are made
    #[command(after_help = "Example:\n  manman token list")]
    List,
    /// Make a token and print it
    #[command(
        after_help = "Examples:\n  manman token create --scope viewer --label grafana --expires-in 720h\n  manman token create --scope operator --server oa --label restart-script"
    )]
    Create {
        /// admin: everything; operator: run servers; viewer: look; join: admit machines
        #[arg(long, value_parser = scope, value_name = "SCOPE")]
        scope: Scope,
        /// What it is for; shown in lists and events
        #[arg(long, default_value = "")]
        label: String,
        /// How long it is good; for ever where it is absent, one hour with the scope join
        #[arg(long, value_parser = crate::parse::duration, value_name = "TIME")]
        expires_in: Option<Duration>,
        /// Only this one server
        #[arg(long, value_name = "SERVER")]
        server: Option<String>,
    },
    /// Revoke a token at once; the sessions that were made from it end, too
    #[command(after_help = "Example:\n  manman token revoke 0199f000-0000-7000-8000-000000000000")]
    Revoke {
        /// Its id, see `manman token list`; or its label, where only one has it
        // Not called `token`: that is what everybody shows to the host.
        #[arg(value_name = "TOKEN")]
        key: String,
    },
}

fn scope(text: &str) -> Result<Scope, String> {
    match text {
        "admin" => Ok(Scope::Admin),
        "operator" => Ok(Scope::Operator),
        "viewer" => Ok(Scope::Viewer),
        "join" => Ok(Scope::Join),
        _ => Err("it is `admin`, `operator`, `viewer` or `join`".to_owned()),
    }
}

impl Token {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        let all = async || all_pages("could not list the tokens", async |page| client.token_list(&page).await).await;
        match self {
            Self::List => app.output.list(&all().await?, "no tokens", table),
            Self::Create { scope, label, expires_in, server } => {
                let server_id = server_id(&client, server.as_deref()).await?;
                let create = CreateToken { scope, label, expires_in: expires_in.map(|life| life.as_secs()), server_id };
                let made = client.token_create(&create).await.map_err(|error| refused("could not make a token", error))?;
                output::talk("this is the only time that it is shown:");
                app.output.done(&made, &made.token)
            }
            Self::Revoke { key } => {
                let tokens = all().await?;
                let mut named = tokens.iter().filter(|known| known.id.to_string() == key || (known.label == key && !key.is_empty()));
                let known = match (named.next(), named.next()) {
                    (Some(known), None) => known,
                    (None, _) => return Err(Failure::new(format!("there is no token `{key}`")).hint("see `manman token list`")),
                    (Some(_), Some(_)) => {
                        return Err(Failure::new(format!("several tokens are called `{key}`")).hint("name its id, see `manman token list`"));
                    }
                };
                client.token_revoke(&known.id.to_string()).await.map_err(|error| refused("could not revoke it", error))?;
                app.output.done(known, &format!("{key} is revoked"))
            }
        }
    }
}

fn table(tokens: &[TokenView]) -> Table {
    let mut table = Table::new(&["TOKEN", "SCOPE", "LABEL", "SERVER", "MADE", "USED", "EXPIRES"]);
    for token in tokens {
        let left = |at: manman_common::Timestamp| format!("in {}", show_duration(at.since(clock::now())));
        table.row(vec![
            token.id.to_string().into(),
            scope_word(token.scope).into(),
            token.label.clone().into(),
            token.server_id.map(|id| id.to_string()).unwrap_or_default().into(),
            ago(Some(token.created_at)).into(),
            ago(token.last_used_at).into(),
            token.expires_at.map_or_else(|| "never".to_owned(), left).into(),
        ]);
    }
    table
}

const fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Admin => "admin",
        Scope::Operator => "operator",
        Scope::Viewer => "viewer",
        Scope::Worker => "worker",
        Scope::Join => "join",
    }
}
