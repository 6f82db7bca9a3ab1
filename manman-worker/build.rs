//! The games' folder and the shim travel in the binary: a Dockerfile or a shim that is new or changed
//! makes a new one.

#[path = "shim/embed.rs"]
mod embed;

fn main() {
    println!("cargo::rerun-if-changed=../docker/games");
    println!("cargo::rerun-if-changed=build.rs");
    embed::build();
}
