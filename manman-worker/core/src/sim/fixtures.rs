//! Worlds to start from.

use manman_common::spec::{RestartPolicy, StopMode};
use manman_common::{DesiredState, Generation, InstanceId, RunSpec, ServerId, ServerSpec};
use uuid::Uuid;

pub(crate) fn server_id(number: u128) -> ServerId {
    ServerId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn instance_id(number: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(number))
}

/// A server that should run and is started again whatever happens.
pub(crate) fn spec(number: u128) -> ServerSpec {
    ServerSpec {
        id: server_id(number),
        name: format!("s{number}").parse().expect("a sound name"),
        generation: Generation::new(1),
        desired: DesiredState::Running,
        stop_mode: StopMode::Graceful,
        restart_seq: 0,
        purge: false,
        epoch: 1,
        lease_seconds: None,
        run: RunSpec { restart: RestartPolicy::Always, ..RunSpec::new("docker:manman/openarena".parse().expect("a sound game id")) },
    }
}
