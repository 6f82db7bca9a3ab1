use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output;

/// Write the completion script of a shell to stdout
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manman completion bash > ~/.local/share/bash-completion/completions/manman")]
pub(crate) struct Completion {
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "manman", &mut script);
        output::text(&String::from_utf8_lossy(&script))
    }
}
