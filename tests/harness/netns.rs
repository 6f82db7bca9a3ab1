//! Two machines, each a network namespace, with a cable in between: what is seen there depends on no
//! other network.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::guard::Guard;
use crate::process::binary;

/// Two network namespaces with a cable; they and all in them go with this. The host is at
/// 10.77.0.1, the worker at 10.77.0.2.
#[derive(Debug)]
pub struct Cable {
    pub host: String,
    pub worker: String,
    _guard: Guard,
}

/// What a story has left at a machine, games above all: they outlive their worker.
const CLEAN: &str = r#"
for machine in "$@"; do
    for pid in $(ip netns pids "$machine" 2>/dev/null); do kill -9 "$pid"; done
    ip netns delete "$machine" 2>/dev/null
done
true
"#;

async fn run(program: &str, words: &str) -> Result<()> {
    let output = Command::new(program).args(words.split(' ')).output().await.with_context(|| format!("run `{program}`"))?;
    ensure!(output.status.success(), "`{program} {words}` (as root): {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Cable {
    /// `story` tells the namespaces of one process from each other, in a letter or two.
    pub async fn new(story: &str) -> Result<Self> {
        let pid = std::process::id();
        let (host, worker) = (format!("mm{story}h{pid}"), format!("mm{story}w{pid}"));
        let guard = Guard::new(CLEAN, &[&worker, &host])?;
        let cable = Self { host, worker, _guard: guard };
        let (a, b) = (&cable.host, &cable.worker);
        for words in [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("-n {a} link add cable type veth peer name cable netns {b}"),
            format!("-n {a} address add 10.77.0.1/24 dev cable"),
            format!("-n {b} address add 10.77.0.2/24 dev cable"),
        ] {
            ip(&words).await?;
        }
        for machine in [a, b] {
            ip(&format!("-n {machine} link set lo up")).await?;
            ip(&format!("-n {machine} link set cable up")).await?;
        }
        Ok(cable)
    }

    /// Nothing leaves a machine by the cable any more, acknowledgements neither; what comes to it comes.
    pub async fn mute(&self, machine: &str) -> Result<()> {
        run("nsenter", &format!("--net=/run/netns/{machine} iptables -A OUTPUT -o cable -j DROP")).await
    }

    pub async fn unmute(&self, machine: &str) -> Result<()> {
        run("nsenter", &format!("--net=/run/netns/{machine} iptables -D OUTPUT -o cable -j DROP")).await
    }
}

/// `ip WORDS`.
pub async fn ip(words: &str) -> Result<()> {
    run("ip", words).await
}

/// A program of the workspace at a machine.
pub fn on(machine: &str, program: &str) -> Result<Command> {
    let mut command = inside(machine);
    command.arg(binary(program)?);
    Ok(command)
}

/// A command line that is at another machine. `ip netns exec` would take the control groups away.
#[must_use]
pub fn inside(machine: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{machine}"));
    command
}
