//! Lines for a console over the network. The reply goes into the server's log as well, as the
//! manager's words: else whoever follows the log would never see what was asked and answered.

use std::time::Duration;

use manman_common::logs::LogLine;
use manman_common::wire::{CommandAnswer, Done};
use manman_common::{Kind, LogSeq, Problem};
use tokio::time::Instant;

use super::answer::{self, Window};
use super::rcon::{Collected, End, Fault, Patience, Protocol, RemoteError};
use super::read::{Typed, is_stop};
use super::{Console, Target, log_problem};
use crate::logs::LogBook;

impl Console {
    pub(super) async fn run_remote(
        &self,
        target: &Target<'_>,
        typed: &Typed,
        protocol: Protocol,
        book: &LogBook,
        before: LogSeq,
        deadline: Instant,
    ) -> Result<CommandAnswer, Problem> {
        let max = protocol.line_max();
        if let Some(line) = typed.lines.iter().find(|line| line.len() > max) {
            let why = format!("the line has {} bytes; the game's {} takes {max}", line.len(), protocol.name());
            return Err(Problem::invalid("command", why));
        }
        let Some(access) = &target.spec.run.console_access else {
            return Err(Problem::new(Kind::Conflict, format!("nothing says on which port the game's {} listens", protocol.name())));
        };
        let mut talk = self.remotes.open(target.instance.id, protocol, access, deadline).await.map_err(|error| error.problem())?;
        let (first, silence) = match typed.window {
            Some(Window::Exactly(window)) => (window, window),
            Some(Window::UntilSilent) | None => protocol.usual_waits(),
        };
        let patience = Patience { first, silence, deadline, until: typed.answer.as_ref() };
        let mut told = CommandAnswer::default();
        for (line, shown) in typed.lines.iter().zip(&typed.shown) {
            let stops = is_stop(target.spec, line);
            if stops {
                talk.reach().await.map_err(|error| error.problem())?;
                self.tell_stop(target).await;
            }
            let mut reply = Collected::default();
            let said = match &typed.answer {
                None => Said::Ended(talk.say(line, &patience, &mut reply).await),
                Some(pattern) => {
                    let log = answer::wait_for(book, before, pattern, deadline);
                    tokio::select! {
                        biased;
                        ended = talk.say(line, &patience, &mut reply) => Said::Ended(ended),
                        // The conversation is broken off, and its connection with it.
                        Ok(found) = log => Said::SeenInLog(found),
                    }
                }
            };
            told.sent.push(shown.clone());
            let in_reply = typed.answer.as_ref().is_some_and(|pattern| reply.shows(pattern));
            told.answer.extend(self.note_reply(target, book, shown, &reply.lines(talk.secret())).await?);
            match said {
                // A game that ends has nothing to say any more.
                Said::Ended(Err(error)) if stops && error.fault.was_sent() => {}
                Said::Ended(Ok(End::Mute)) if stops => {}
                Said::Ended(Ok(End::Mute)) if protocol.always_answers() && typed.answer.is_none() => {
                    return Err(partly(talk.error(Fault::Silent), typed, &told));
                }
                Said::Ended(Err(error)) => return Err(partly(error, typed, &told)),
                Said::Ended(Ok(End::Whole | End::Quiet | End::Mute | End::Cut | End::Closed)) => {
                    told.done = in_reply.then_some(Done::Reply);
                }
                Said::SeenInLog(found) => tell_log(&mut told, found),
            }
        }
        // Others may speak with the game while its log is waited for.
        drop(talk);
        if let Some(pattern) = typed.answer.as_ref().filter(|_| told.done.is_none()) {
            let found = answer::wait_for(book, before, pattern, deadline).await.map_err(|error| log_problem(target.spec, &error))?;
            tell_log(&mut told, found);
        }
        Ok(told)
    }

    /// Whether the console answers a login, or whatever stands for one; nothing is said to the game.
    pub(crate) async fn ping(&self, target: &Target<'_>, within: Duration) -> Result<(), RemoteError> {
        let (Some(protocol), Some(access)) = (Protocol::of(target.spec.run.console), &target.spec.run.console_access) else {
            return Ok(());
        };
        let talk = self.remotes.open(target.instance.id, protocol, access, Instant::now() + within).await?;
        talk.reach().await
    }

    async fn note_reply(&self, target: &Target<'_>, book: &LogBook, shown: &str, reply: &[String]) -> Result<Vec<LogLine>, Problem> {
        let lines: Vec<String> = std::iter::once(format!("> {shown}")).chain(reply.iter().cloned()).collect();
        let book = book.clone();
        let noted = tokio::task::spawn_blocking(move || book.note_lines(&lines)).await;
        let mut noted = noted.map_err(std::io::Error::other).and_then(|noted| noted).map_err(|error| log_problem(target.spec, &error))?;
        noted.remove(0);
        Ok(noted)
    }
}

enum Said {
    Ended(Result<End, RemoteError>),
    SeenInLog(answer::Found),
}

fn tell_log(told: &mut CommandAnswer, found: answer::Found) {
    told.done = Some(if found.seen { Done::Log } else { Done::Unseen });
    // Of a busy game's chatter only the line that says so.
    told.answer.extend(found.lines.into_iter().next_back().filter(|_| found.seen));
}

fn partly(error: RemoteError, typed: &Typed, told: &CommandAnswer) -> Problem {
    let mut problem = error.problem();
    if typed.lines.len() > 1 {
        problem.detail.push_str(&format!(" (line {} of {})", told.sent.len(), typed.lines.len()));
    }
    problem
}
