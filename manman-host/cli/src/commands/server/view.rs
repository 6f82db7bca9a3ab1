//! A server as a row and as a page.

use manman_common::status::Players;
use manman_common::wire::ServerView;

use crate::clock;
use crate::parse::{show_duration, show_size};
use crate::style;
use crate::table::{Cell, Sheet, Table};
use crate::wait;

pub(crate) fn table(servers: &[ServerView]) -> Table {
    let mut table = Table::new(&["SERVER", "PHASE", "PLAYERS", "ADDRESS", "CPU", "MEMORY", "WORKER", "GAME"]);
    for server in servers {
        table.row(vec![
            server.name.to_string().into(),
            Cell::coloured(phase_word(server), style::of_phase(server.phase)),
            server.players.as_ref().map_or_else(|| "-".into(), |players| Cell::number(players.to_string())),
            address(server).unwrap_or_default().into(),
            server.usage.map_or_else(|| "-".into(), |usage| Cell::number(cores(usage.cpu_millis))),
            server.usage.map_or_else(|| "-".into(), |usage| Cell::number(show_size(usage.memory_bytes))),
            server.worker_name.to_string().into(),
            server.game_id.to_string().into(),
        ]);
    }
    table
}

fn cores(millis: u32) -> String {
    format!("{:.2}", f64::from(millis) / 1000.0)
}

fn phase_word(server: &ServerView) -> String {
    let mut word = format!("{:?}", server.phase);
    if let Some(percent) =
        server.progress.as_ref().and_then(|progress| progress.percent).filter(|_| server.phase == manman_common::Phase::Installing)
    {
        word.push_str(&format!(" {percent} %"));
    }
    if let Some(last) = server.last_phase.filter(|last| *last != server.phase) {
        word.push_str(&format!(" (was {last:?})"));
    }
    if server.pending_restart {
        word.push_str(", restart pending");
    }
    word
}

fn address(server: &ServerView) -> Option<String> {
    server.url.clone().or_else(|| server.ports.first().map(|port| format!("{}:{}", port.address, port.port)))
}

/// `2 of 8: Ada, Bob`.
fn players(players: &Players) -> String {
    let mut text = match players.max {
        0 => players.online.to_string(),
        max => format!("{} of {max}", players.online),
    };
    if !players.names.is_empty() {
        text.push_str(&format!(": {}", players.names.join(", ")));
    }
    text
}

pub(super) fn sheet(server: &ServerView) -> Sheet {
    let mut sheet = Sheet::new();
    sheet.line("name", server.name.to_string());
    sheet.line("id", server.id.to_string());
    sheet.line("game", server.game_id.to_string());
    sheet.line("phase", Cell::coloured(phase_word(server), style::of_phase(server.phase)));
    sheet.line("desired", format!("{:?}", server.desired).to_lowercase());
    sheet.maybe("doing", server.progress.as_ref().map(|progress| progress.step.clone()));
    sheet.maybe("tries again in", server.backoff_until.map(|until| show_duration(until.since(clock::now()))));
    sheet.maybe("address", address(server));
    for port in &server.ports {
        sheet.line("port", format!("{} {}:{}/{}", port.name, port.address, port.port, port.protocol.as_str()));
    }
    sheet.maybe("players", server.players.as_ref().map(players));
    sheet.line("worker", server.worker_name.to_string());
    sheet.maybe("cpu", server.usage.map(|usage| format!("{} cores", cores(usage.cpu_millis))));
    sheet.maybe("memory", server.usage.map(|usage| show_size(usage.memory_bytes)));
    let limits = &server.limits;
    sheet.maybe("memory limit", limits.memory_bytes.map(show_size));
    sheet.maybe("cpu limit", limits.cpu_millis.map(|millis| format!("{} cores", cores(millis))));
    sheet.maybe("lease", server.lease_seconds.map(|seconds| format!("{seconds} s without the host")));
    sheet.line("generation", format!("{} (runs {})", server.generation, server.applied_generation));
    sheet.maybe("instance", server.instance.map(|instance| instance.to_string()));
    sheet.line("restarts", server.restarts.to_string());
    let exit = server.exit.as_ref();
    sheet.maybe("last exit", exit.and_then(wait::exit_word));
    for (name, value) in &server.variables {
        sheet.line("setting", format!("{name}={}", value.as_deref().unwrap_or("(secret)")));
    }
    if !server.actions.is_empty() {
        sheet.line("actions", server.actions.join(", "));
    }
    for condition in &server.conditions {
        let hint = condition.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        sheet.line("note", format!("{}: {}{hint}", condition.kind, condition.message));
    }
    for (name, value) in &server.extra {
        sheet.line(name, value.to_string());
    }
    sheet.line("created", server.created_at.to_string());
    sheet
}
