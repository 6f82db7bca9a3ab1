use clap::CommandFactory as _;

use super::*;

fn options(arguments: &[&str]) -> Options {
    let arguments = ["manman-host", "run"].iter().chain(arguments);
    Cli::try_parse_from(arguments).expect("arguments").options
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let data = tempfile::tempdir().expect("a directory");
    std::fs::write(data.path().join("host.toml"), "public = \"127.0.0.1:9000\"\ninternal = \"127.0.0.1:9001\"\nsettle = \"5s\"\n")
        .expect("written");
    let folder = data.path().to_str().expect("UTF-8");
    let config = configure(options(&["--data", folder, "--public", "127.0.0.1:7000"])).expect("a configuration");
    assert_eq!(config.public.port(), 7000);
    assert_eq!(config.internal.port(), 9001);
    assert_eq!(config.settle, Duration::from_secs(5));
    assert_eq!(config.tls, Tls::Off);
    let lan = configure(options(&["--data", folder, "--lan"])).expect("a configuration");
    assert_eq!((lan.tls, lan.public.port()), (Tls::Own, 9000));
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_line() {
    let data = tempfile::tempdir().expect("a directory");
    std::fs::write(data.path().join("host.toml"), "lan = true\npubic = \"127.0.0.1:9000\"\n").expect("written");
    let error = configure(options(&["--data", data.path().to_str().expect("UTF-8")])).expect_err("refused");
    let words = chain(&error);
    assert!(words.contains("line 2") && words.contains("pubic"), "{words}");
}
