//! Counters that only ever grow, each with a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(u64);

        impl $name {
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The value after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        /// From a database's signed column; a negative value is nobody's and becomes an error.
        impl TryFrom<i64> for $name {
            type Error = std::num::TryFromIntError;

            fn try_from(value: i64) -> Result<Self, Self::Error> {
                u64::try_from(value).map(Self)
            }
        }

        /// To a database's signed column. The counters start at 0 and step by 1, so the top bit
        /// is never reached; should it be, the value saturates.
        impl From<$name> for i64 {
            fn from(value: $name) -> i64 {
                i64::try_from(value.0).unwrap_or(i64::MAX)
            }
        }
    };
}

counter!(
    /// Per server, +1 with each change of what it should be.
    Generation
);
counter!(
    /// Per worker, +1 with each change of anything that it should do.
    Revision
);
counter!(
    /// Per worker, +1 with each new session; of two copies of one worker only the newest is heard.
    SessionEpoch
);
counter!(
    /// Number of a line in a server's log, counted from 1 and never used again.
    LogSeq
);
