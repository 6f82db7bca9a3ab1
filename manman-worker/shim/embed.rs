//! Builds the static shim that a worker carries; included by the worker's build script:
//!
//! ```ignore
//! #[path = "shim/embed.rs"]
//! mod embed;
//! fn main() { embed::build(); }            // build.rs
//! const SHIM: &[u8] = include_bytes!(env!("MANMAN_SHIM_BINARY"));   // in the worker
//! ```
//!
//! A cargo inside cargo deadlocks only over the target directory's lock, which the outer one holds
//! while a build script runs; this one has a target directory of its own below `OUT_DIR`. The lock
//! on the package cache is held while packages are resolved and fetched, which is over by then.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of cargo's own variables, those that a person sets: where packages come from.
const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
const DROPPED: [&str; 12] = [
    "RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "OUT_DIR",
    "NUM_JOBS",
    "MAKEFLAGS",
];

/// Builds it, and sets `MANMAN_SHIM_BINARY` to its path for the crate being built. Whoever has a
/// binary already, such as a packager who cross-compiles, names it in `MANMAN_SHIM_PREBUILT`.
pub(crate) fn build() {
    println!("cargo::rerun-if-env-changed=MANMAN_SHIM_PREBUILT");
    if let Ok(binary) = env::var("MANMAN_SHIM_PREBUILT") {
        println!("cargo::rustc-env=MANMAN_SHIM_BINARY={binary}");
        return;
    }
    let shim = Path::new(&var("CARGO_MANIFEST_DIR")).join("shim");
    for watched in ["src", "Cargo.toml", "embed.rs"] {
        println!("cargo::rerun-if-changed={}", shim.join(watched).display());
    }
    let target = var("TARGET");
    let target_dir = PathBuf::from(var("OUT_DIR")).join("shim");
    let mut cargo = Command::new(var("CARGO"));
    cargo
        .args(["build", "--quiet", "--locked", "--package", "manman-shim", "--bin", "manman-shim"])
        .args(["--profile", "shim", "--target", &target])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&shim);
    // What the outer cargo says to its build scripts and compilers would be taken for orders: its
    // flags (a sanitizer, coverage), clippy as the compiler, its profile, the features of another crate.
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let cargo_own = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
        if cargo_own || DROPPED.contains(&name) {
            cargo.env_remove(name);
        }
    }
    // Whatever a person's configuration says of where to build: not where the outer cargo does.
    cargo.env("CARGO_BUILD_BUILD_DIR", &target_dir);
    // On the gnu target this needs no further toolchain, and musl is static anyway.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().unwrap_or_else(|error| panic!("start cargo for the shim: {error}"));
    assert!(status.success(), "build the shim: {status}");
    let binary = target_dir.join(&target).join("shim").join("manman-shim");
    println!("cargo::rustc-env=MANMAN_SHIM_BINARY={}", binary.display());
}

fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
