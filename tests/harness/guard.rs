//! What a test must not leave behind, done by a process that outlives it: it waits for the end of
//! its input, which comes with the test's own end, however that comes.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Runs a script at the end of the test; dropping it runs it now and waits for its end.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// `script` finds `arguments` as `$1` and on.
    pub(crate) fn new(script: &str, arguments: &[&str]) -> Result<Self> {
        let waiting = format!("cat >/dev/null\n{script}");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &waiting, "guard"]).args(arguments);
        // A group of its own, so that whoever kills the test's group does not end it, too.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Ok(Self { child: command.spawn().context("start a guard")? })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.flush();
        }
        match self.child.wait() {
            Ok(ended) if ended.success() => {}
            other => eprintln!("cleaning up after a test: {other:?}"),
        }
    }
}
