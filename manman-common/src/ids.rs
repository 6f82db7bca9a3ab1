//! Typed identities: a worker's id can not be handed in where a server's is meant.
//!
//! All are UUIDs of version 7, so that they sort by the time they were made; they are made only
//! where randomness is allowed (host and worker), never here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(Uuid);

        impl $name {
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

typed_id!(
    /// A worker as the host knows it.
    WorkerId
);
typed_id!(
    /// A game server, from its creation to its tombstone.
    ServerId
);
typed_id!(
    /// One start of a server: a restart makes a new instance of the same server.
    InstanceId
);
typed_id!(
    /// A command sent once, however often its frame is delivered.
    CommandId
);
typed_id!(
    /// One run of a worker process.
    RunId
);
typed_id!(
    /// An access token; the token's secret is another thing and is never stored.
    TokenId
);
typed_id!(
    /// A person's account.
    AccountId
);
