//! A server of a game that has no definition, and the checks of what any request brings.

use std::collections::BTreeMap;

use manman_common::game_id::GameId;
use manman_common::spec::{DockerSpec, Limits, PortSpec, SteamSpec, StopRung, StopStep};
use manman_common::wire::CreateServer;
use manman_common::{Problem, RunSpec};

use super::check::sound_path;
use crate::domain::variables;

const ENV_MAX: usize = 256;
const MOUNTS_MAX: usize = 32;
const ARGV_MAX: usize = 1024;

pub(super) fn resolve_bare(request: &CreateServer, ports: Vec<PortSpec>) -> Result<RunSpec, Problem> {
    if let Some(name) = request.variables.keys().next() {
        return Err(Problem::invalid(format!("variables.{name}"), "a game without a definition has no variables").hint("set `env` instead"));
    }
    let argv = request.start.as_ref().map(|start| start.argv.clone()).unwrap_or_default();
    match &request.game_id {
        GameId::Steamcmd(app) if argv.is_empty() => {
            return Err(Problem::invalid("game_id", format!("there is no definition for the Steam app {app}"))
                .hint("say what to run in `start.argv`, or put a definition into the data directory's `games` folder"));
        }
        GameId::Steamcmd(_) | GameId::Docker(_) => {}
    }
    if argv.len() > ARGV_MAX {
        return Err(Problem::invalid("start.argv", format!("a game is started with at most {ARGV_MAX} arguments")));
    }
    if let Some(at) = argv.iter().position(|argument| argument.contains('\0')) {
        return Err(Problem::invalid(format!("start.argv[{at}]"), "an argument can not hold a zero byte"));
    }
    let docker = request.docker.clone().unwrap_or_default();
    check_docker(&docker)?;
    let steam = match &request.game_id {
        GameId::Steamcmd(_) => {
            if request.docker.is_some() {
                return Err(Problem::invalid("docker", "a game of SteamCMD runs in no container"));
            }
            Some(SteamSpec { expect: program_of(&argv)?, ..SteamSpec::default() })
        }
        GameId::Docker(_) => None,
    };
    Ok(RunSpec {
        steam,
        argv,
        env: request.env.clone(),
        limits: request.limits.clone(),
        stop: default_stop(),
        restart: request.restart.unwrap_or_default(),
        docker,
        ports,
        ..RunSpec::new(request.game_id.clone())
    })
}

/// What must be there after the install: the program, where it is one of the game's own.
fn program_of(argv: &[String]) -> Result<Vec<String>, Problem> {
    match argv.first() {
        Some(program) if program.starts_with('/') => Ok(Vec::new()),
        Some(program) if sound_path(program) => Ok(vec![program.trim_start_matches("./").to_owned()]),
        Some(_) | None => Err(Problem::invalid("start.argv[0]", "what is run lies in the game's own directory, or is an absolute path")),
    }
}

/// What `docker stop` does.
pub(super) fn default_stop() -> Vec<StopRung> {
    vec![StopRung { step: StopStep::Signal("TERM".to_owned()), wait_seconds: 10 }]
}

/// Docker refuses less than 6 MiB.
const MEMORY_MIN: u64 = 6 << 20;

pub(super) fn check_limits(limits: &Limits) -> Result<(), Problem> {
    if limits.memory_bytes.is_some_and(|memory| memory < MEMORY_MIN) {
        return Err(Problem::invalid("limits.memory_bytes", "less than 6 MiB of memory runs nothing"));
    }
    if limits.cpu_millis.is_some_and(|cpu| cpu < 10) {
        return Err(Problem::invalid("limits.cpu_millis", "it is in thousandths of a core, and 10 is the least"));
    }
    if limits.pids.is_some_and(|pids| pids < 2) {
        return Err(Problem::invalid("limits.pids", "a game needs at least 2 processes or threads"));
    }
    Ok(())
}

pub(super) fn check_env(env: &BTreeMap<String, String>) -> Result<(), Problem> {
    if env.len() > ENV_MAX {
        return Err(Problem::invalid("env", format!("there may be at most {ENV_MAX} variables")));
    }
    for (name, value) in env {
        if !is_env_name(name) {
            return Err(Problem::invalid("env", format!("`{name}` is not the name of an environment variable")));
        }
        if value.contains('\0') || value.len() > variables::VALUE_MAX {
            return Err(Problem::invalid(format!("env.{name}"), "the value is too long or holds a zero byte"));
        }
    }
    Ok(())
}

/// What is wrong with the paths of a container, and the field of it.
pub(super) fn docker_fault(docker: &DockerSpec) -> Option<(String, String)> {
    let data = docker.data.iter().map(|path| ("docker.data".to_owned(), path));
    let mounts = docker.mounts.iter().enumerate().map(|(at, path)| (format!("docker.mounts[{at}]"), path));
    data.chain(mounts).find_map(|(field, path)| {
        let sound = path.len() > 1
            && path.starts_with('/')
            && !path.contains([':', '\0'])
            && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        (!sound).then(|| (field, format!("`{path}` is not a path in the container such as `/data`")))
    })
}

fn check_docker(docker: &DockerSpec) -> Result<(), Problem> {
    if docker.build.is_some() {
        return Err(Problem::invalid("docker.build", "only definitions build images"));
    }
    if docker.shim {
        return Err(Problem::invalid("docker.shim", "only definitions say that an image was proven with it"));
    }
    if docker.mounts.len() > MOUNTS_MAX {
        return Err(Problem::invalid("docker.mounts", format!("there may be at most {MOUNTS_MAX}")));
    }
    match docker_fault(docker) {
        Some((field, why)) => Err(Problem::invalid(field, why)
            .hint("what lies there is kept below the server's own directory; a directory of the machine can not be named")),
        None => Ok(()),
    }
}

pub(super) fn is_env_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
