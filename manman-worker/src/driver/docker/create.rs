//! The container of an instance: its limits, its ports, its rights.

use std::collections::{HashMap, HashSet};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use manman_common::spec::{PortSpec, Protocol};
use manman_common::{RunSpec, ServerSpec, SessionEpoch};

use super::fields::Fields;
use super::volumes::Volume;

/// Docker's default less NET_RAW, MKNOD, AUDIT_WRITE, SETFCAP and SETPCAP. Images whose entrypoint
/// starts as root and switches user need CHOWN, SETUID and SETGID.
const CAPABILITIES: [&str; 9] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE", "SYS_CHROOT"];

/// Where a spec names no limit: enough for a modded Java server's threads, too few for a fork bomb.
const PIDS_DEFAULT: u32 = 1024;

/// 192 MB of output can wait for a worker that is away.
const LOG_FILE_SIZE: &str = "64m";
const LOG_FILES: &str = "3";

pub(super) fn body(spec: &ServerSpec, image: &str, fields: &Fields, epoch: SessionEpoch, volumes: &[Volume]) -> ContainerCreateBody {
    let run = &spec.run;
    let inner = |port: &PortSpec| format!("{}/{}", port.inner_port(), port.protocol.as_str());
    let exposed: HashSet<String> = run.ports.iter().map(inner).collect();
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &run.ports {
        let host_ip = if is_console_alone(run, port) { "127.0.0.1" } else { "0.0.0.0" };
        let outer = PortBinding { host_ip: Some(host_ip.to_owned()), host_port: Some(port.port.to_string()) };
        bindings.entry(inner(port)).or_default().get_or_insert_default().push(outer);
    }
    let given = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let memory = run.limits.memory_bytes.map(saturate);
    ContainerCreateBody {
        image: Some(image.to_owned()),
        user: run.docker.user.clone(),
        cmd: given(&run.argv),
        entrypoint: given(&run.docker.entrypoint),
        env: Some(run.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(fields.to_labels(epoch)),
        tty: Some(run.docker.tty),
        // Kept open whoever comes and goes: with `stdin_once` the worker's end would be the game's.
        open_stdin: Some(true),
        stdin_once: Some(false),
        exposed_ports: Some(exposed.into_iter().collect()),
        host_config: Some(HostConfig {
            memory,
            // The same number: no swap on top.
            memory_swap: memory,
            nano_cpus: run.limits.cpu_millis.map(|millis| i64::from(millis) * 1_000_000),
            pids_limit: Some(i64::from(run.limits.pids.unwrap_or(PIDS_DEFAULT))),
            init: run.docker.init.then_some(true),
            port_bindings: Some(bindings),
            mounts: Some(volumes.iter().map(mount).collect()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), LOG_FILE_SIZE.to_owned()),
                    ("max-file".to_owned(), LOG_FILES.to_owned()),
                ])),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Whether a port is there for the remote console and nothing else: the worker reaches it on the
/// loopback, and its password is all that would keep strangers out. Players come by UDP, or by the
/// port that is named for them.
fn is_console_alone(run: &RunSpec, port: &PortSpec) -> bool {
    let asked = run.query.as_ref().is_some_and(|query| query.port == port.port);
    let console = run.console_access.as_ref().is_some_and(|access| access.port == port.port);
    console && !asked && port.protocol == Protocol::Tcp && port.name != "game"
}

/// A bind whose source must exist: the older form would have the engine make it, as root.
fn mount(volume: &Volume) -> Mount {
    Mount {
        target: Some(volume.target.clone()),
        source: Some(volume.source.to_string_lossy().into_owned()),
        typ: Some(MountType::BIND),
        ..Mount::default()
    }
}

fn saturate(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use manman_common::spec::{ConsoleAccess, QuerySpec};

    use super::*;

    fn port(name: &str, protocol: Protocol, port: u16) -> PortSpec {
        PortSpec { name: name.to_owned(), protocol, port, container_port: None }
    }

    #[test]
    fn a_port_of_the_console_alone_is_for_this_machine() {
        let mut run = RunSpec::new("docker:itzg/minecraft-server".parse().expect("a game"));
        run.console_access = Some(ConsoleAccess { port: 25575, secret: Some("s".to_owned()) });
        assert!(is_console_alone(&run, &port("rcon", Protocol::Tcp, 25575)));
        assert!(!is_console_alone(&run, &port("game", Protocol::Tcp, 25565)));
        // Quake's console is the game's own port; so is that of whoever plays by TCP.
        assert!(!is_console_alone(&run, &port("game", Protocol::Udp, 25575)));
        assert!(!is_console_alone(&run, &port("game", Protocol::Tcp, 25575)));
        run.query = Some(QuerySpec { protocol: "valve".to_owned(), port: 25575 });
        assert!(!is_console_alone(&run, &port("rcon", Protocol::Tcp, 25575)));
    }
}
