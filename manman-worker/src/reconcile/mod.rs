//! The loop that works towards what the host asked for.

pub mod signals;
