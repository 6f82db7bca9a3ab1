//! The registry on real sockets: each requirement L1 to L16 of the design by its number.

mod bad_input;
mod discover;
mod health;
mod keep;
mod local;
mod rig;
mod rules;
