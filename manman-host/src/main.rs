use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // The only provider that is linked; a second installation is what would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = manman_host::secrecy::log_filter("info,sqlx=warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    manman_host::secrecy::keep_memory_private();
    Box::pin(manman_host::cli::main()).await
}
