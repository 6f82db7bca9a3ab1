//! Of a route only where it leads.

pub struct Target {
    pub host: String,
}

pub struct Route {
    pub authority: axum::http::uri::Authority,
    pub target: Target,
}
