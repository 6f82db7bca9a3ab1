//! The network between host and worker (rows 14–16).
