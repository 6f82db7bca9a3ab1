//! The machine under a worker (rows 21, 24).
