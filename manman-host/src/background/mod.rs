//! What the host does by itself. Tasks take no input but the state itself, may be repeated at any
//! time, and end with the host.

mod events;
mod liveness;
mod services;
mod store;
mod told;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::AppRef;

/// Remembers what the tables say and starts all tasks. To be called before the host listens: a
/// beat must find its worker.
pub async fn start(app: &AppRef, shutdown: &CancellationToken) -> sqlx::Result<TaskTracker> {
    let renewed = app.fleet.begin_timeline(app).await?;
    app.fleet.load(app).await?;
    if renewed {
        app.fleet.dismiss_all();
    }
    crate::http::server::resume_restarts(app).await?;
    let newest = events::newest(app).await?;
    if let Err(error) = app.registry.restore().await {
        tracing::error!(error = crate::chain(&error), "who was alive is not known; services register again by themselves");
    }
    let tasks = TaskTracker::new();
    tasks.spawn(until(shutdown.clone(), liveness::run(app.clone())));
    tasks.spawn(until(shutdown.clone(), events::run(app.clone(), newest)));
    // Subscribed before anybody can register.
    tasks.spawn(until(shutdown.clone(), told::run(app.clone(), app.registry.changes())));
    tasks.spawn(app.registry.clone().run(shutdown.clone()));
    tasks.spawn(until(shutdown.clone(), services::run(app.clone())));
    tasks.spawn(until(shutdown.clone(), crate::http::feed::run(app.clone())));
    tasks.spawn(store::run(app.clone(), shutdown.clone()));
    tasks.close();
    Ok(tasks)
}

async fn until(shutdown: CancellationToken, task: impl Future<Output = ()>) {
    // Each task waits between passes only; a pass that is cut off is repeated by the next host.
    shutdown.run_until_cancelled(task).await;
}
