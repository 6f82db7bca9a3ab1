//! The public reverse proxy.
