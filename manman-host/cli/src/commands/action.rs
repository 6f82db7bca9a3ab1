use clap::Args;
use manman_common::wire::{ActionCommand, CommandRequest};

use crate::commands::send::print_answer;
use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output;
use crate::parse;

/// Carry out one of the game's own actions; without a name, list them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manman action oa\n  manman action oa change_map map=oa_dm2")]
pub(crate) struct Action {
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
        let Self { server, name, inputs } = self;
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        let Some(name) = name else {
            if app.output.json {
                return app.output.object(&server.actions);
            }
            if server.actions.is_empty() {
                output::talk("this game has no actions; `manman send` types a line into its console");
            }
            return output::text(&server.actions.iter().map(|action| format!("{action}\n")).collect::<String>());
        };
        let inputs = inputs.into_iter().map(|(key, value)| (key, serde_json::Value::String(value))).collect();
        let request = CommandRequest::Action(ActionCommand { action: name.clone(), inputs });
        let sent = client.server_command(&server.id.to_string(), &request).await;
        let answer = sent.map_err(|error| refused(format!("could not carry out `{name}` on `{}`", server.name), error))?;
        print_answer(app.output, &answer)
    }
}
