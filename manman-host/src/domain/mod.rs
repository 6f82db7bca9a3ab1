//! Pure rules: they are given all they need and touch nothing.

pub(crate) mod liveness;
