//! How the types that are text on the wire stand in `/openapi.json`.

use std::borrow::Cow;

use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::message::MessageType;
use crate::{GameId, Name, Timestamp};

fn text(description: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).examples([example])
}

macro_rules! schema_of {
    ($type:ident, $builder:expr) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $builder.build().into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($type))
            }
        }
    };
}

schema_of!(GameId, text("`install_method:install_identifier`", "docker:manman/openarena"));
schema_of!(
    Name,
    text("1 to 63 of a-z A-Z 0-9 - _ . beginning with a letter or digit", "oa").pattern(Some("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))
);
schema_of!(MessageType, text("HEALTH (1), START (2), STOP (3), KILL (4), COMMAND (200 and above); a name or a number", "COMMAND"));
schema_of!(
    Timestamp,
    text("A moment in UTC", "2026-11-20T12:00:00.000000Z").format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
);
