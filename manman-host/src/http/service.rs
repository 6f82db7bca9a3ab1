//! `GET /service`: who is found in the house by name, in the registry or at the front door.

use std::collections::BTreeMap;

use axum::extract::State;
use manman_common::Problem;
use manman_common::wire::registry::ServiceHealth;
use manman_common::wire::{Page, ServiceKind, ServiceView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Permission};
use super::error::ApiResult;
use crate::app::{App, AppRef};

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(list))
}

/// All services of the registry and all waifus of the front door, by name.
///
/// A name that both know is shown as the front door has it.
#[utoipa::path(get, path = "/service", tag = "service", responses((status = 200, body = Page<ServiceView>), (status = 403, body = Problem)))]
async fn list(State(app): State<AppRef>, caller: Caller) -> ApiResult<axum::Json<Page<ServiceView>>> {
    caller.require(Permission::SeeFleet)?;
    Ok(axum::Json(Page { items: all(&app).await, next: None }))
}

pub(super) async fn all(app: &App) -> Vec<ServiceView> {
    let mut found = BTreeMap::new();
    for (name, service) in app.registry.services() {
        let status = match service.status {
            ServiceHealth::Unknown => "unknown",
            ServiceHealth::Passing => "passing",
            ServiceHealth::Critical => "critical",
        };
        let view = ServiceView {
            kind: ServiceKind::Service,
            ip: service.ip,
            port: service.port,
            status: status.to_owned(),
            expires_in: service.expires_in,
            url: None,
            binds: Vec::new(),
            tags: service.tags,
            name: name.clone(),
        };
        found.insert(name, view);
    }
    if let Some(door) = app.front_door.get() {
        let base = app.bound.get().map_or("", |bound| bound.public_url.trim_end_matches('/'));
        for waifu in door.orchestrator().waifus().await {
            let name = waifu.name.to_string();
            let target = reqwest::Url::parse(&waifu.target).ok();
            let view = ServiceView {
                kind: ServiceKind::Waifu,
                ip: target.as_ref().and_then(|url| url.host_str()).unwrap_or_default().trim_matches(['[', ']']).to_owned(),
                port: target.as_ref().and_then(reqwest::Url::port_or_known_default).unwrap_or_default(),
                status: waifu.health.to_owned(),
                expires_in: waifu.expires_in.map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
                url: Some(format!("{base}/{name}")),
                binds: waifu.binds,
                tags: Vec::new(),
                name: name.clone(),
            };
            found.insert(name, view);
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use manman_common::wire::Scope;
    use manman_front_door::registry::HostLease;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use crate::testing::TestHost;

    #[tokio::test]
    async fn services_are_listed_for_who_sees_the_fleet() {
        let host = TestHost::start().await;
        let lease = HostLease {
            name: "links".parse().expect("a name"),
            address: SocketAddr::from(([192, 168, 1, 9], 8000)),
            id: Uuid::from_u128(7),
            expire: 60,
            tags: vec!["web".to_owned()],
        };
        assert!(host.app.registry.lease(lease));
        let listed = host.get("/service").await.expect(200);
        let links = listed["items"].as_array().expect("items").iter().find(|item| item["name"] == "links").expect("it is there").clone();
        assert_eq!((&links["kind"], &links["ip"], &links["port"]), (&"service".into(), &"192.168.1.9".into(), &8000.into()));
        assert!(links["expires_in"].as_u64().is_some_and(|left| left <= 60), "{links:#}");
        let (_, worker) = host.worker("attic").await;
        host.call_as(&worker, "GET", "/service", Value::Null).await.problem(403, "forbidden");
        let server = host.call("POST", "/server", json!({ "game_id": "docker:manman/openarena" })).await.expect(201);
        let server = server["id"].as_str().expect("an id").parse().expect("an id");
        let confined = host.token(Scope::Viewer, |token| token.server_id = Some(server)).await;
        host.call_as(&confined, "GET", "/service", Value::Null).await.problem(403, "forbidden");
    }
}
