//! Keeps a Caddy that stands before us up to date, by its admin API.
//!
//! It is one server of Caddy's, named `manman`, and in it one route that we call ours: every host
//! leads to our own front door and none to a waifu directly, so that the one check of paths stays
//! the one there is. Where that server is there already, its addresses, its TLS and the routes of
//! others in it stay as they are.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::target::Target;
use super::{Orchestrator, chain};
use crate::proxy::AskError;

const WITHIN: Duration = Duration::from_secs(5);
/// Changes are noticed so soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A Caddy that was started anew knows nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
const SERVER: &str = "/config/apps/http/servers/manman";
const ID: &str = "manman-front-door";

#[derive(Debug, thiserror::Error)]
enum CaddyError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the request could not be made")]
    Make(#[from] hyper::http::Error),
    #[error("it answered {status}: {text}")]
    Status { status: StatusCode, text: String },
    #[error("its configuration is not readable")]
    Config(#[from] serde_json::Error),
}

impl Orchestrator {
    /// Tells Caddy of the hosts that are shown here, for as long as it runs.
    pub async fn keep_caddy(self: Arc<Self>, admin: Target) {
        let mut told: Option<(Value, manman_common::lease::Tick)> = None;
        let mut failed = false;
        loop {
            let wanted = self.caddy_route();
            let now = self.tick();
            let is_new = told.as_ref().is_none_or(|(known, at)| *known != wanted || now.since(*at) >= AGAIN_AFTER);
            if is_new {
                match self.tell_caddy(&admin, &wanted).await {
                    Ok(()) => {
                        if std::mem::replace(&mut failed, false) || told.is_none() {
                            tracing::info!(caddy = %admin, "Caddy knows the hosts that are shown here");
                        }
                        told = Some((wanted, now));
                    }
                    Err(error) if !std::mem::replace(&mut failed, true) => {
                        tracing::warn!(caddy = %admin, error = chain(&error), "Caddy could not be told; it is tried again");
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Our route, and the hosts for which no certificate is wanted.
    fn caddy_route(&self) -> Value {
        let hosts = self.hosts();
        let url = self.public_url();
        let (https, dial) = url.strip_prefix("https://").map_or((false, url.trim_start_matches("http://")), |dial| (true, dial));
        let mut proxy = json!({ "handler": "reverse_proxy", "upstreams": [{ "dial": dial }], "flush_interval": -1 });
        if https {
            // It is this machine's own, by an address that no certificate names.
            proxy["transport"] = json!({ "protocol": "http", "tls": { "insecure_skip_verify": true } });
        }
        let plain: Vec<&String> = hosts.iter().filter(|(_, https)| !**https).map(|(host, _)| host).collect();
        let names: Vec<&String> = hosts.keys().collect();
        json!({ "route": { "@id": ID, "match": [{ "host": names }], "handle": [proxy], "terminal": true }, "plain": plain })
    }

    async fn tell_caddy(&self, admin: &Target, wanted: &Value) -> Result<(), CaddyError> {
        let shown = !wanted["route"]["match"][0]["host"].as_array().is_none_or(Vec::is_empty);
        let present = match self.caddy(admin, Method::GET, SERVER, None).await {
            Ok(present) => present,
            // What is above it is not there.
            Err(CaddyError::Status { .. }) => Value::Null,
            Err(error) => return Err(error),
        };
        if present.is_object() {
            let server = with_route(present, wanted, shown);
            return self.caddy(admin, Method::POST, SERVER, Some(&server)).await.map(drop);
        }
        if !shown {
            return Ok(());
        }
        let mut root = self.caddy(admin, Method::GET, "/config/", None).await?;
        let fresh = with_route(json!({ "listen": [":80", ":443"], "routes": [] }), wanted, shown);
        if root.is_null() {
            root = json!({});
        }
        root["apps"]["http"]["servers"]["manman"] = fresh;
        self.caddy(admin, Method::POST, "/load", Some(&root)).await.map(drop)
    }

    async fn caddy(&self, admin: &Target, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CaddyError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", admin.base))
            .header(header::HOST, admin.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))?;
        let answer = self.connector.ask(admin, request, WITHIN).await?;
        let (status, body) = (answer.status(), answer.into_body());
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(CaddyError::Status { status, text });
        }
        if body.trim_ascii().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) }
    }
}

/// That server with our route first, and with everybody else's as they were.
fn with_route(mut server: Value, wanted: &Value, shown: bool) -> Value {
    let mut routes: Vec<Value> = server["routes"].as_array().cloned().unwrap_or_default();
    routes.retain(|route| route["@id"] != ID);
    if shown {
        routes.insert(0, wanted["route"].clone());
    }
    server["routes"] = Value::Array(routes);
    server["automatic_https"]["skip"] = wanted["plain"].clone();
    server
}
