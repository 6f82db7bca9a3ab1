//! Against the engine of this machine: nothing here is simulated.

mod console;
mod game;
mod life;
mod log;
mod volumes;
