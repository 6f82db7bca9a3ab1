//! The API's description, and a page to read it that needs no internet.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use utoipa::Modify;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, Paths, SecurityRequirement};
use utoipa_swagger_ui::SwaggerUi;

use super::auth::COOKIE;
use crate::app::AppRef;

/// What our own pages may load: nothing from elsewhere, no script and no style in the page itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; \
     manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// Swagger UI writes styles into its elements.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     frame-ancestors 'none'; form-action 'self'",
);

/// The description of all routes, completed with what no single one knows.
pub(crate) fn finish(mut openapi: OpenApi) -> OpenApi {
    openapi.info = InfoBuilder::new()
        .title("manman")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Game servers on machines at home. Every request wants `Authorization: Bearer TOKEN` unless it says otherwise; \
             errors are problem details (RFC 9457).",
        ))
        .build();
    openapi.servers = None;
    // Axum's mark of a part that may hold slashes is no part of the name.
    let paths = std::mem::replace(&mut openapi.paths, Paths::new());
    openapi.paths.paths = paths.paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    Security.modify(&mut openapi);
    openapi
}

struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_with(|| ComponentsBuilder::new().build());
        components.add_security_scheme("token", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(COOKIE))));
        openapi.security =
            Some(vec![SecurityRequirement::new("token", Vec::<String>::new()), SecurityRequirement::new("session", Vec::<String>::new())]);
    }
}

/// `/openapi.json` and `/docs`.
pub(super) fn routes(openapi: OpenApi) -> Router<AppRef> {
    let config = utoipa_swagger_ui::Config::new(["/openapi.json"]).try_it_out_enabled(true).persist_authorization(false);
    Router::new().merge(SwaggerUi::new("/docs").url("/openapi.json", openapi).config(config))
}

/// Headers that every answer has.
pub(super) fn secure(path: &str, response: &mut Response) {
    let policy = if path.starts_with("/docs") { DOCS_POLICY } else { POLICY };
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}
