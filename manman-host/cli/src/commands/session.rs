use clap::Subcommand;
use manman_common::wire::SessionView;

use crate::commands::account::ago;
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::all_pages;
use crate::table::Table;

/// Browsers that are signed in
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List them: those made with this token, or everybody's
    #[command(after_help = "Example:\n  manman session list --all")]
    List {
        /// Everybody's; for admins
        #[arg(long)]
        all: bool,
    },
    /// End a session at once; its open pages are signed out
    #[command(after_help = "Example:\n  manman session revoke 0199f000-0000-7000-8000-000000000000")]
    Revoke {
        /// Its id, see `manman session list --all`
        session: String,
    },
}

impl Session {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        match self {
            Self::List { all } => {
                let sessions = all_pages("could not list the sessions", async |page| client.session_list(all, &page).await).await?;
                let none = if all { "nobody is signed in" } else { "no sessions of this token; --all lists everybody's" };
                app.output.list(&sessions, none, table)
            }
            Self::Revoke { session } => {
                client.session_revoke(&session).await.map_err(|error| refused(format!("could not end the session `{session}`"), error))?;
                app.output.done(&serde_json::json!({ "id": session }), &format!("{session} has ended"))
            }
        }
    }
}

fn table(sessions: &[SessionView]) -> Table {
    let mut table = Table::new(&["SESSION", "NAME", "ROLE", "FROM", "BROWSER", "BEGAN", "USED"]);
    for session in sessions {
        table.row(vec![
            session.id.to_string().into(),
            session.name.clone().into(),
            session.role.as_str().into(),
            session.peer.clone().unwrap_or_default().into(),
            session.user_agent.as_deref().map(|agent| agent.chars().take(40).collect::<String>()).unwrap_or_default().into(),
            ago(Some(session.created_at)).into(),
            ago(session.last_used_at).into(),
        ]);
    }
    table
}
