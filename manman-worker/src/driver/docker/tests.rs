//! Against the engine of this machine: nothing here is simulated.

mod boxed;
mod console;
pub(crate) mod game;
mod life;
mod log;
mod volumes;
