use utoipa_axum::router::OpenApiRouter;

use crate::app::AppRef;

pub(crate) fn routes() -> OpenApiRouter<AppRef> {
    OpenApiRouter::new()
}
