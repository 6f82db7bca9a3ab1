//! A Dockerfile that is new or changed makes a new binary: the games' folder travels in it.

fn main() {
    println!("cargo::rerun-if-changed=../docker/games");
    println!("cargo::rerun-if-changed=build.rs");
}
