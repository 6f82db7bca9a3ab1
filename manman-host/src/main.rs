use std::process::ExitCode;

fn main() -> ExitCode {
    // The only provider that is linked; a second installation is what would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = manman_host::secrecy::log_filter("info,sqlx=warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Before there is a second thread, or a word of the configuration.
    manman_host::secrecy::keep_memory_private();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    Box::pin(manman_host::cli::main()).await
}
