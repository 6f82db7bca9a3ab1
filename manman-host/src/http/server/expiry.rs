//! A restart is meant for now: one that its worker has not taken within a minute is withdrawn, so
//! that no world restarts under its players an hour later, when a link is back. What should run is a
//! level and stays wished for; only the restart expires.

use std::sync::Arc;
use std::time::Duration;

use manman_common::{DesiredState, Revision, ServerId, Timestamp};
use sqlx::PgConnection;

use super::power::TRIES;
use crate::app::{App, AppRef};
use crate::clock;
use crate::db::event::{NewEvent, event_insert};
use crate::db::restart::{PendingRestart, restart_find, restart_forget, restart_list, restart_put};
use crate::db::server::{Server, Wish, revision_bump, server_change, server_get};

/// Longer than a worker needs to come back from its own restart.
const WITHIN: Duration = Duration::from_secs(60);

/// The time that a restart has to reach its worker; tests have less of it.
fn within() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(millis) = std::env::var("MANMAN_RESTART_WITHIN_MS").ok().and_then(|millis| millis.parse().ok()) {
        return Duration::from_millis(millis);
    }
    WITHIN
}

/// Writes down, with the wish itself, that a restart may expire: a host that dies knows of it again.
pub(super) async fn record(
    app: &App,
    conn: &mut PgConnection,
    server: &Server,
    asked: u64,
    revision: Revision,
    now: Timestamp,
) -> sqlx::Result<()> {
    let earlier = restart_find(conn, server.id).await?;
    // Of several that wait the worker has heard none: all of them are taken back with the last.
    let before = earlier.filter(|earlier| !is_taken(app, earlier)).map_or(server.restart_seq, |earlier| earlier.before);
    restart_put(conn, &PendingRestart { server_id: server.id, worker_id: server.worker_id, before, asked, revision, asked_at: now }).await
}

/// Sees to it that a recorded restart is withdrawn after this time, if it has not been taken by then.
pub(super) fn watch(app: &AppRef, server: ServerId, asked: u64) {
    watch_for(app, server, asked, within());
}

fn watch_for(app: &AppRef, server: ServerId, asked: u64, wait: Duration) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        if let Err(error) = settle(&app, server, asked).await {
            tracing::warn!(server.id = %server, %error, "a restart that has expired could not be withdrawn; the next start of the host tries again");
        }
    });
}

/// What an earlier host has left. To be called before any worker can connect: what has expired in
/// the meantime is not to reach one.
pub async fn resume(app: &AppRef) -> sqlx::Result<()> {
    let left = restart_list(&mut *app.db.acquire().await?).await?;
    let now = clock::now();
    for restart in left {
        match within().saturating_sub(now.since(restart.asked_at)) {
            Duration::ZERO => settle(app, restart.server_id, restart.asked).await?,
            wait => watch_for(app, restart.server_id, restart.asked, wait),
        }
    }
    Ok(())
}

fn is_taken(app: &App, restart: &PendingRestart) -> bool {
    app.fleet.machine(restart.worker_id).is_none_or(|machine| machine.lock().observed_revision >= restart.revision)
}

/// Takes the restarts off the wish, unless they were taken. A worker that has taken one, and whose
/// word of it was lost, has carried it out, and does nothing again.
async fn settle(app: &AppRef, id: ServerId, asked: u64) -> sqlx::Result<()> {
    for _ in 0..TRIES {
        let mut tx = app.db.begin().await?;
        let Some(restart) = restart_find(&mut tx, id).await?.filter(|newest| newest.asked == asked) else { return Ok(()) };
        let server = server_get(&mut tx, id).await?;
        // Somebody may have asked for something newer, or nothing is to run any more.
        let is_wished = |server: &Server| server.desired == DesiredState::Running && server.restart_seq == asked;
        let Some(server) = server.filter(|server| is_wished(server) && !is_taken(app, &restart)) else {
            restart_forget(&mut tx, &restart).await?;
            return tx.commit().await;
        };
        let wish = Wish {
            name: server.name.clone(),
            request: server.request.clone(),
            run: server.run.clone(),
            run_changed: false,
            desired: server.desired,
            stop_mode: server.stop_mode,
            restart_seq: restart.before,
            purge: server.purge,
        };
        let now = clock::now();
        let revision = revision_bump(&mut tx, server.worker_id).await?;
        if server_change(&mut tx, id, server.generation, &wish, revision, now).await?.is_none() {
            tx.rollback().await?;
            continue;
        }
        restart_forget(&mut tx, &restart).await?;
        let event = NewEvent {
            actor: "host".to_owned(),
            kind: "server.restart_expired",
            worker_id: Some(server.worker_id),
            server_id: Some(id),
            message: format!(
                "the restart of server `{}` has expired: worker `{}` did not say within {} s that it had heard of it",
                server.name,
                server.worker_name,
                within().as_secs()
            ),
            data: serde_json::Value::Null,
        };
        event_insert(&mut tx, now, &event).await?;
        tx.commit().await?;
        app.fleet.event_recorded();
        app.fleet.desired_changed(app, server.worker_id);
        app.fleet.server_changed(id);
        return Ok(());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use manman_common::WorkerId;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::TestHost;

    async fn restart_seq(host: &TestHost, id: ServerId) -> u64 {
        let mut conn = host.app.db.acquire().await.expect("a connection");
        server_get(&mut conn, id).await.expect("it is read").expect("a server").restart_seq
    }

    async fn restart(host: &TestHost, id: ServerId) -> u64 {
        host.call("POST", "/server/oa/restart", Value::Null).await.expect(202);
        restart_seq(host, id).await
    }

    async fn heard(host: &TestHost, worker: WorkerId, token: &str) {
        let seen = host.get(&format!("/worker/{worker}")).await.expect(200);
        let beat = json!({ "observed_revision": seen["desired_revision"], "servers": [] });
        host.call_as(token, "POST", &format!("/worker/{worker}/health"), beat).await.expect(200);
    }

    #[tokio::test]
    async fn what_nobody_heard_is_taken_back_together_and_what_was_heard_is_not() {
        let host = TestHost::start().await;
        let (worker, token) = host.worker("attic").await;
        let made = host.call("POST", "/server", json!({ "game_id": "docker:manman/openarena", "name": "oa" })).await.expect(201);
        let id: ServerId = made["id"].as_str().expect("an id").parse().expect("an id");
        let status = json!({ "id": id, "generation": 1, "applied_generation": 1, "phase": "Ready" });
        host.call_as(&token, "POST", &format!("/worker/{worker}/health"), json!({ "servers": [status] })).await.expect(200);

        let before = restart_seq(&host, id).await;
        let (first, second) = (restart(&host, id).await, restart(&host, id).await);
        assert!(before < first && first < second, "{before} {first} {second}");
        settle(&host.app, id, first).await.expect("it settles");
        assert_eq!(restart_seq(&host, id).await, second, "a newer one waits");
        settle(&host.app, id, second).await.expect("it settles");
        assert_eq!(restart_seq(&host, id).await, before);
        settle(&host.app, id, second).await.expect("once is enough");

        let first = restart(&host, id).await;
        heard(&host, worker, &token).await;
        let second = restart(&host, id).await;
        settle(&host.app, id, second).await.expect("it settles");
        assert_eq!(restart_seq(&host, id).await, first, "the one before was carried out");
        let third = restart(&host, id).await;
        heard(&host, worker, &token).await;
        // As the next host does.
        resume(&host.app).await.expect("it goes on");
        settle(&host.app, id, third).await.expect("it settles");
        assert_eq!(restart_seq(&host, id).await, third);
        assert_eq!(restart_list(&mut host.app.db.acquire().await.expect("a connection")).await.expect("they are read"), []);
    }
}
