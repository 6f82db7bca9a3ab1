use std::path::Path;

use super::Up;
use super::lock::Lock;
use crate::commands::App;
use crate::failure::Failure;

pub(super) async fn run(_up: Up, _app: &App, _data: &Path, _lock: &mut Lock) -> Result<(), Failure> {
    Err(Failure::new("not wired yet"))
}
