//! What host and worker have to say while they run: on stderr, since stdout is for data.

use std::io::{self, IsTerminal};

/// On a terminal a person wants to hear of trouble alone; a journal keeps the story, too. `MANMAN_LOG`
/// says otherwise, in the words of `RUST_LOG`.
pub(super) fn begin() {
    let default = if io::stderr().is_terminal() { "warn" } else { "info,sqlx=warn" };
    let filter = manman_host::secrecy::log_filter(default);
    // Only a second beginning can fail, and then the first one listens.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(crate::style::stderr_has_colour()).try_init();
}
