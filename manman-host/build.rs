//! Files that the binary carries: a new one must be noticed, which the macros can not do by
//! themselves.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
    println!("cargo:rerun-if-changed=games");
}
