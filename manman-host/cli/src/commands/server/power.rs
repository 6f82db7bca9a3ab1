use std::time::Duration;

use clap::Args;
use manman_common::Phase;
use manman_common::client::Power;
use manman_common::wire::ServerView;

use crate::commands::{App, refused};
use crate::failure::Failure;
use crate::find::{self, Guess};
use crate::parse;
use crate::wait::{self, Goal, Wait};

/// For `--wait` alone: the slowest first start of the catalogue and some more.
pub(super) const PATIENCE: &str = "15m";

#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// Name, id, or the beginning of the name
    server: String,
    /// Wait until it is done, this long at most [15m where no time is given]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = PATIENCE, value_parser = parse::duration, value_name = "TIME")]
    wait: Option<Duration>,
}

impl Ask {
    pub(super) async fn run(self, app: &App, power: Power) -> Result<(), Failure> {
        let client = app.client()?;
        let before = find::server(&client, &self.server, Guess::Prefix).await?;
        let asked = client.server_power(&before.id.to_string(), power, None).await;
        let answer = asked.map_err(|error| refused(format!("could not {} `{}`", power.as_str(), before.name), error))?;
        let Some(within) = self.wait else {
            let word = match power {
                Power::Start => "is asked to start",
                Power::Stop => "is asked to stop",
                Power::Restart => "is asked to restart",
                Power::Kill => "is being killed",
            };
            return app.output.done(&answer, &format!("{} {word}", before.name));
        };
        let goal = match power {
            Power::Start => Goal::Ready,
            Power::Restart => Goal::ReadyAgain(before.instance),
            Power::Stop | Power::Kill => Goal::Stopped,
        };
        let server = wait::wait(Wait { client: &client, server: answer.server, goal, generation: answer.generation, within }).await?;
        let line = match goal {
            Goal::Ready | Goal::ReadyAgain(_) => ready_line(&server),
            Goal::Stopped => stopped_line(&server),
        };
        app.output.done(&server, &line)
    }
}

/// `oa is Ready: 192.168.1.10:27960`
pub(super) fn ready_line(server: &ServerView) -> String {
    let address = server.url.clone().or_else(|| server.ports.first().map(|port| format!("{}:{}", port.address, port.port)));
    match address {
        Some(address) => format!("{} is Ready: {address}", server.name),
        None => format!("{} is Ready", server.name),
    }
}

/// `oa is stopped, exit code 0`
fn stopped_line(server: &ServerView) -> String {
    let name = &server.name;
    if server.phase == Phase::Deleted {
        return format!("{name} is stopped and deleted");
    }
    let exit = server.exit.as_ref().and_then(|exit| match (exit.code, exit.signal) {
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!("ended by signal {signal}")),
        (None, None) => exit.reason.clone(),
    });
    exit.map_or_else(|| format!("{name} is stopped"), |exit| format!("{name} is stopped, {exit}"))
}
