use clap::Args;
use manman_common::message::forbidden_character;
use manman_common::wire::{CommandAnswer, CommandRequest, Done, LineCommand, LinesCommand};

use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::output::{self, Output};
use crate::render;

/// Type a line into a server's console and print what the game answers
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  manman send oa status\n  manman send oa say hello everybody\n  manman send --lines oa \"map oa_dm2\" status"
)]
pub(crate) struct Send {
    /// Each LINE is a line of its own; otherwise they are the words of one
    #[arg(long)]
    lines: bool,
    /// Milliseconds to collect the answer for; 0 asks for none
    #[arg(long, value_name = "MS")]
    answer_ms: Option<u32>,
    /// Name, id, or the beginning of the name
    server: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "LINE")]
    words: Vec<String>,
}

impl Send {
    pub(crate) async fn run(self, app: &App) -> Result<(), Failure> {
        let Self { lines, answer_ms, server, words } = self;
        if let Some(word) = words.iter().find(|word| forbidden_character(word).is_some()) {
            return Err(Failure::usage(format!("a console line holds no control characters, but {word:?} does"))
                .hint("several lines are several arguments after --lines"));
        }
        let request = if lines {
            CommandRequest::Lines(LinesCommand { commands: words, answer_ms })
        } else {
            CommandRequest::Line(LineCommand { command: words.join(" "), answer_ms })
        };
        let client = app.client()?;
        let server = find::server(&client, &server, Guess::Prefix).await?;
        let sent = client.server_command(&server.id.to_string(), &request).await;
        let answer = sent.map_err(|error| refused(format!("could not send a line to `{}`", server.name), error))?;
        print_answer(app.output, &answer)
    }
}

/// The game's own lines, and nothing else.
pub(crate) fn print_answer(output: Output, answer: &CommandAnswer) -> Result<(), Failure> {
    if output.json {
        return output.object(answer);
    }
    let mut out = Vec::new();
    for line in &answer.answer {
        render::text(line.text.as_bytes(), render::stdout_is_terminal(), &mut out);
    }
    if answer.answer.is_empty() {
        output::talk("(sent; the game said nothing)");
    }
    if answer.done == Some(Done::Unseen) {
        output::talk("(what tells its end has not been seen in time; it may still come)");
    }
    render::write_stdout(&out)
}
