//! What a worker can do with every server.

use std::sync::Arc;

use manman_common::spec::Builtin;
use manman_common::{Kind, Problem};

use super::{Begun, Failed, Outcome};
use crate::app::Worker;

pub(super) async fn run(_worker: &Arc<Worker>, builtin: Builtin, _begun: &Begun) -> Outcome {
    Err(Failed::refused(Problem::new(Kind::Conflict, format!("`{}` is not there yet", builtin.name()))))
}
