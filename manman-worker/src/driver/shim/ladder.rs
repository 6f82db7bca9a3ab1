//! The stop plan in the shim's words.

use std::time::Duration;

use manman_common::spec::{StopRung, StopStep};
use manman_shim::rung::Rung;

/// The rungs that a shim can climb, and beside each the one of the spec that it is.
pub(crate) fn rungs(ladder: &[StopRung]) -> Vec<(Rung, StopRung)> {
    ladder.iter().filter_map(|rung| Some((of(rung)?, rung.clone()))).collect()
}

/// `None` for what only the worker can do, and for what no shim would take.
fn of(rung: &StopRung) -> Option<Rung> {
    let wait = Duration::from_secs(u64::from(rung.wait_seconds)).as_millis();
    let text = match &rung.step {
        StopStep::Console(line) => format!("{wait} console {line}"),
        StopStep::Signal(name) => format!("{wait} signal {}", name.trim_start_matches("SIG")),
        StopStep::Action(_) => return None,
    };
    Rung::parse(&text)
}

/// The body of a stop request.
pub(crate) fn text(rungs: &[(Rung, StopRung)]) -> Vec<u8> {
    rungs.iter().map(|(rung, _)| rung.to_string()).collect::<Vec<_>>().join("\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rung_is_said_as_the_shim_reads_it() {
        let rung = |step, wait_seconds| StopRung { step, wait_seconds };
        let ladder = [
            rung(StopStep::Action("save".to_owned()), 9),
            rung(StopStep::Console("quit now".to_owned()), 2),
            rung(StopStep::Signal("INT".to_owned()), 3),
            rung(StopStep::Signal("NONSENSE".to_owned()), 3),
        ];
        assert_eq!(String::from_utf8_lossy(&text(&rungs(&ladder))), "2000 console quit now\n3000 signal INT");
    }
}
