//! What a lease may be: long enough that a host which is restarted does not cost a game, and only
//! where something beside the worker can hold it.

use manman_common::wire::CreateServer;
use manman_common::{InstallMethod, Kind, Problem, RunSpec};

/// A host that is restarted, or a worker, is back in well less.
const MIN: u32 = 30;
/// A day without its host is no lease any more.
const MAX: u32 = 86_400;

/// The shortest lease; tests can not wait so long.
fn min() -> u32 {
    if cfg!(debug_assertions) && std::env::var_os("MANMAN_TEST_SHORT_LEASES").is_some() { 10 } else { MIN }
}

pub(super) fn check(request: &CreateServer, run: &RunSpec) -> Result<(), Problem> {
    let Some(seconds) = request.lease_seconds else { return Ok(()) };
    if !(min()..=MAX).contains(&seconds) {
        return Err(Problem::invalid("lease_seconds", format!("{seconds} is out of range: {} to {MAX}", min())));
    }
    if run.game_id.method() == InstallMethod::Docker && !run.docker.shim {
        return Err(Problem::new(Kind::Conflict, "a lease needs the shim, which this image runs without")
            .field("lease_seconds")
            .hint("a worker that stands still can not stop a container; only the shim beside the game keeps the time"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_bounds_and_needs_a_shim() {
        let request = |seconds: Option<u32>| -> CreateServer {
            serde_json::from_value(serde_json::json!({ "game_id": "docker:a", "lease_seconds": seconds })).expect("a request")
        };
        let mut run = RunSpec::new("docker:a".parse().expect("a game"));
        assert!(check(&request(None), &run).is_ok());
        assert_eq!(check(&request(Some(60)), &run).expect_err("no shim").kind, Kind::Conflict);
        run.docker.shim = true;
        assert!(check(&request(Some(60)), &run).is_ok());
        for seconds in [0, 9, MAX + 1, u32::MAX] {
            assert_eq!(check(&request(Some(seconds)), &run).expect_err("out of range").field.as_deref(), Some("lease_seconds"));
        }
        let process = RunSpec::new("steamcmd:740".parse().expect("a game"));
        assert!(check(&request(Some(60)), &process).is_ok());
    }
}
