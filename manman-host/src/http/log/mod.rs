//! A server's log: where it is read, and the stream of it.
//!
//! The host keeps no line. It passes on what the worker reads from its disk, at the pace of the
//! slowest of the two sockets, and never more than a window of it at once.

mod body;
mod download;
mod pointer;
mod render;
mod socket;
mod stream;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::AppRef;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new().routes(routes!(pointer::pointer)).routes(routes!(stream::stream)).routes(routes!(download::download))
}

#[cfg(test)]
mod tests;
