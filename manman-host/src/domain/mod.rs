//! Pure rules: they are given all they need and touch nothing.

pub mod liveness;
pub mod placement;
pub mod ports;
pub mod template;
pub mod variables;
