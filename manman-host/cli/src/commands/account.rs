use clap::Subcommand;
use manman_common::client::Client;
use manman_common::wire::{AccountView, CreateAccount, Password, PutAccount, Role};
use manman_common::{Name, ServerId};

use crate::clock;
use crate::commands::login::ask_secret;
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess, all_pages};
use crate::output;
use crate::parse::show_duration;
use crate::style::Colour;
use crate::table::{Cell, Table};

/// The people who may use this host
#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// List the accounts
    #[command(after_help = "Example:\n  manman account list")]
    List,
    /// Make an account, and print the link with which its person signs in and chooses a password
    #[command(
        after_help = "Examples:\n  manman account add anna --role operator\n  manman account add bert --role viewer --server oa\n  pass show manman/carl | manman account add carl --role viewer --password"
    )]
    Add {
        /// How the person is called; unique, whatever the case of its letters
        name: Name,
        /// admin: everything; operator: run servers; viewer: look
        #[arg(long, value_parser = role, value_name = "ROLE")]
        role: Role,
        /// Only this one server
        #[arg(long, value_name = "SERVER")]
        server: Option<String>,
        /// Set a password now: asked for on a terminal, else the first line of stdin
        #[arg(long)]
        password: bool,
    },
    /// Change an account
    ///
    /// With another role, another server or --disable everything ends that anybody holds of it:
    /// sessions, tokens, open pages. With another password its sessions end.
    #[command(
        after_help = "Examples:\n  manman account set anna --role admin\n  manman account set bert --disable\n  manman account set anna --login-link"
    )]
    Set {
        /// The name, or the id
        account: String,
        /// Another name
        #[arg(long, value_name = "NAME")]
        rename: Option<Name>,
        /// admin, operator or viewer
        #[arg(long, value_parser = role, value_name = "ROLE")]
        role: Option<Role>,
        /// Only this one server
        #[arg(long, value_name = "SERVER", conflicts_with = "any_server")]
        server: Option<String>,
        /// All servers again
        #[arg(long)]
        any_server: bool,
        /// Another password: asked for on a terminal, else the first line of stdin
        #[arg(long)]
        password: bool,
        /// Let the person in no more, for the time being
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Let the person in again
        #[arg(long)]
        enable: bool,
        /// Print a link with which the person signs in once, and change nothing
        #[arg(long, conflicts_with_all = ["rename", "role", "server", "any_server", "password", "disable", "enable"])]
        login_link: bool,
    },
    /// Delete an account; its sessions and tokens end at once
    #[command(after_help = "Example:\n  manman account remove bert")]
    Remove {
        /// The name, or the id
        account: String,
    },
}

pub(crate) fn role(text: &str) -> Result<Role, String> {
    match text {
        "admin" => Ok(Role::Admin),
        "operator" => Ok(Role::Operator),
        "viewer" => Ok(Role::Viewer),
        _ => Err("it is `admin`, `operator` or `viewer`".to_owned()),
    }
}

impl Account {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let client = app.client()?;
        match self {
            Self::List => app.output.list(&all(&client).await?, "no accounts yet; `manman account add` makes one", table),
            Self::Add { name, role, server, password } => {
                let create = CreateAccount {
                    role,
                    server_id: server_id(&client, server.as_deref()).await?,
                    password: if password { Some(new_password()?) } else { None },
                    name,
                };
                let made = client.account_create(&create).await;
                let made = made.map_err(|error| refused(format!("could not make the account `{}`", create.name), error))?;
                match &made.login_url {
                    Some(url) => {
                        output::talk(&format!("{} has an account; give them this link, it works once:", made.view.name));
                        app.output.done(&made, url)
                    }
                    None => app.output.done(&made, &format!("{} has an account", made.view.name)),
                }
            }
            Self::Set { account, login_link: true, .. } => {
                let account = find(&client, &account).await?;
                let link = client.account_login_link(&account.id.to_string()).await;
                let link = link.map_err(|error| refused(format!("could not make a link for `{}`", account.name), error))?;
                app.output.done(&link, &link.url)
            }
            Self::Set { account, rename, role, server, any_server, password, disable, enable, login_link: false } => {
                let change = PutAccount {
                    name: rename,
                    role,
                    server_id: match server_id(&client, server.as_deref()).await? {
                        Some(id) => Some(Some(id)),
                        None => any_server.then_some(None),
                    },
                    password: if password { Some(new_password()?) } else { None },
                    disabled: (disable || enable).then_some(disable),
                };
                let account = find(&client, &account).await?;
                let changed = client.account_change(&account.id.to_string(), &change).await;
                let changed = changed.map_err(|error| refused(format!("could not change the account `{}`", account.name), error))?;
                app.output.done(&changed, &format!("{} is changed", changed.name))
            }
            Self::Remove { account } => {
                let account = find(&client, &account).await?;
                let removed = client.account_delete(&account.id.to_string()).await;
                removed.map_err(|error| refused(format!("could not remove the account `{}`", account.name), error))?;
                app.output.done(&account, &format!("{} is removed; what was held of the account has ended", account.name))
            }
        }
    }
}

async fn all(client: &Client) -> Result<Vec<AccountView>, Failure> {
    all_pages("could not list the accounts", async |page| client.account_list(&page).await).await
}

/// Nothing is guessed: who is let in or thrown out is named in full.
async fn find(client: &Client, given: &str) -> Result<AccountView, Failure> {
    let accounts = all(client).await?;
    let names: Vec<String> = accounts.iter().take(10).map(|account| account.name.to_string()).collect();
    let found = accounts.into_iter().find(|account| account.name.as_str().eq_ignore_ascii_case(given) || account.id.to_string() == given);
    found.ok_or_else(|| {
        let failure = Failure::new(format!("there is no account `{given}`"));
        if names.is_empty() {
            failure.hint("there are no accounts at all yet")
        } else {
            failure.hint(format!("there are: {}", names.join(", ")))
        }
    })
}

pub(crate) async fn server_id(client: &Client, server: Option<&str>) -> Result<Option<ServerId>, Failure> {
    match server {
        Some(server) => Ok(Some(find::server(client, server, Guess::Never).await?.id)),
        None => Ok(None),
    }
}

fn new_password() -> Result<Password, Failure> {
    let typed = ask_secret("password: ").ok_or_else(|| Failure::usage("no password was given").hint("type one, or pipe one in"))?;
    if output::can_ask() && ask_secret("once more: ").as_ref() != Some(&typed) {
        return Err(Failure::usage("the two are not the same"));
    }
    Ok(Password::new(typed))
}

fn table(accounts: &[AccountView]) -> Table {
    let mut table = Table::new(&["ACCOUNT", "ROLE", "SERVER", "PASSWORD", "STATE", "SEEN"]);
    for account in accounts {
        let state = if account.disabled { Cell::coloured("disabled", Colour::Red) } else { Cell::coloured("enabled", Colour::Green) };
        table.row(vec![
            account.name.to_string().into(),
            account.role.as_str().into(),
            account.server_id.map_or_else(|| "all".to_owned(), |id| id.to_string()).into(),
            if account.has_password { "yes" } else { "no" }.into(),
            state,
            ago(account.last_seen_at).into(),
        ]);
    }
    table
}

pub(crate) fn ago(moment: Option<manman_common::Timestamp>) -> String {
    moment.map_or_else(|| "never".to_owned(), |moment| format!("{} ago", show_duration(clock::now().since(moment))))
}
