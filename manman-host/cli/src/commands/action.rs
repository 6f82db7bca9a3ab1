use std::time::Duration;

use clap::Args;
use manman_common::client::{Client, ClientError};
use manman_common::spec::InputSpec;
use manman_common::wire::{ActionCommand, ActionKind, ActionRun, ActionState, ActionView, CommandRequest, ServerView};
use manman_common::{Kind, Problem};
use serde_json::Value;
use tokio::time::Instant;

use crate::commands::send::print_answer;
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output;
use crate::parse;
use crate::table::Table;

/// Of one question; the host answers earlier where there is news.
const ASK_FOR: Duration = Duration::from_secs(5);
/// Between two questions while its worker can not be asked.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a worker may be away while one of its actions is waited for.
const AWAY_MAX: Duration = Duration::from_secs(300);

/// Carry out an action of a server, such as backup; without a name, list them
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  manman action oa\n  manman action oa change_map map=oa_dm2\n  manman action oa backup note=\"before the update\"\n  manman action oa restore backup=2026-11-20T18-00-00Z.tar.zst stop=true"
)]
pub(crate) struct Action {
    /// Do not wait for its end; print its id
    #[arg(long)]
    no_wait: bool,
    /// Do not ask again before what can not be undone
    #[arg(long, short)]
    yes: bool,
    /// Name, id, or the beginning of the name
    server: String,
    /// The action, as the list has it
    name: Option<String>,
    /// What the action wants to know
    #[arg(value_parser = parse::key_value, value_name = "KEY=VALUE")]
    inputs: Vec<(String, String)>,
}

impl Action {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { no_wait, yes, server, name, inputs } = self;
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        let id = server.id.to_string();
        let Some(name) = name else {
            let actions = client.server_actions(&id).await;
            let actions = actions.map_err(|error| refused(format!("could not list the actions of `{}`", server.name), error))?;
            return list(app, &actions.items);
        };
        if !yes && !is_meant(&client, &server, &name).await {
            return Err(Failure::new("left as it is"));
        }
        let inputs = inputs.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
        let request = CommandRequest::Action(ActionCommand { action: name.clone(), inputs });
        let sent = client.server_command(&id, &request).await;
        let mut answer = sent.map_err(|error| not_done(&name, &server, error))?;
        let Some(run) = answer.action.take() else { return print_answer(app.output, &answer) };
        let run = if no_wait { *run } else { wait(&client, &server, *run).await? };
        print(app, &server, run)
    }
}

fn not_done(name: &str, server: &ServerView, error: ClientError) -> Failure {
    refused(format!("could not carry out `{name}` with `{}`", server.name), error)
}

fn list(app: &App, actions: &[ActionView]) -> Result<(), Failure> {
    app.output.list(actions, "nothing can be done with this server", |actions| {
        let mut table = Table::new(&["ACTION", "WHAT", "INPUTS", "NOTE"]);
        for action in actions {
            let input = |(name, spec): (&String, &InputSpec)| if spec.required { format!("{name}=") } else { format!("[{name}=]") };
            let note = match (action.disabled, action.kind) {
                (true, _) => "disabled",
                (false, ActionKind::Console) => "while the game runs",
                (false, ActionKind::Script | ActionKind::Builtin) => "",
            };
            let inputs = action.inputs.iter().map(input).collect::<Vec<_>>().join(" ");
            table.row(vec![action.name.clone().into(), action.label.clone().into(), inputs.into(), note.into()]);
        }
        table
    })
}

/// What can not be undone is asked twice of a person, and not of a script.
async fn is_meant(client: &Client, server: &ServerView, name: &str) -> bool {
    if !output::can_ask() {
        return true;
    }
    let actions = client.server_actions(&server.id.to_string()).await;
    let confirm = actions.is_ok_and(|page| page.items.iter().any(|action| action.name == name && action.confirm));
    !confirm || output::ask(&format!("`{name}` with `{}` can not be undone. Go on?", server.name))
}

/// Until it has ended, however often the way to its worker breaks meanwhile.
async fn wait(client: &Client, server: &ServerView, mut run: ActionRun) -> Result<ActionRun, Failure> {
    let mut told = None;
    let mut away_since: Option<Instant> = None;
    loop {
        if let Some(progress) = run.progress.as_ref().filter(|progress| told.as_ref() != Some(*progress)) {
            let percent = progress.percent.map(|percent| format!("{percent:>3} % ")).unwrap_or_default();
            output::talk(&format!("{percent}{}", progress.step));
            told = Some(progress.clone());
        }
        match run.state {
            ActionState::Done | ActionState::Failed => return Ok(run),
            ActionState::Running | ActionState::Unknown => {}
        }
        match client.server_action(&server.id.to_string(), run.id, ASK_FOR).await {
            Ok(now) => {
                run = now;
                away_since = None;
            }
            Err(error) => {
                // One that was never begun is known to nobody.
                let gone = error.problem().is_some_and(|problem| problem.kind == Kind::NotFound);
                let passing = error.is_unreachable()
                    || error.problem().is_some_and(|problem| matches!(problem.kind, Kind::NotAlive | Kind::Timeout | Kind::Unavailable));
                let since = *away_since.get_or_insert_with(crate::clock::instant);
                if gone && run.state == ActionState::Unknown {
                    return Err(
                        Failure::new(format!("`{}` was not begun: the link to its worker broke", run.action)).hint("ask for it again")
                    );
                }
                if !passing || since.elapsed() > AWAY_MAX {
                    return Err(not_done(&run.action, server, error)
                        .hint(format!("it may go on all the same: GET /server/{}/action/{}", server.id, run.id)));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn print(app: &App, server: &ServerView, run: ActionRun) -> Result<(), Failure> {
    if run.state == ActionState::Failed {
        let problem = run.problem.unwrap_or_else(|| Problem::new(Kind::BadGateway, "nothing says why"));
        return Err(not_done(&run.action, server, ClientError::Refused(Box::new(problem))));
    }
    if app.output.json {
        return app.output.object(&run);
    }
    if run.state == ActionState::Running || run.state == ActionState::Unknown {
        return output::text(&format!("{}\n", run.id));
    }
    match &run.answer {
        Value::Null => {
            output::talk(&format!("({} is done)", run.action));
            Ok(())
        }
        answer => output::text(&plain(answer)),
    }
}

/// An answer for people: text as it is, an object line by line, a list of objects likewise.
fn plain(answer: &Value) -> String {
    let scalar = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match answer {
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::Object(fields) => fields.values().map(scalar).collect::<Vec<_>>().join("  ") + "\n",
                other => scalar(other) + "\n",
            })
            .collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| format!("{name}: {}\n", scalar(value))).collect(),
        other => scalar(other) + "\n",
    }
}
