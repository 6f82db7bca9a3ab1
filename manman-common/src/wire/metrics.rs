//! What servers and machines have used over time, as their worker keeps it.

use serde::{Deserialize, Serialize};

/// How far back, and so how fine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MetricsRange {
    /// 360 points of 10 s.
    #[default]
    Hour,
    /// 720 points of 2 min.
    Day,
    /// 672 points of 15 min.
    Week,
}

impl MetricsRange {
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    #[must_use]
    pub const fn step_seconds(self) -> u32 {
        match self {
            Self::Hour => 10,
            Self::Day => 120,
            Self::Week => 900,
        }
    }

    /// How many points each series of this range has.
    #[must_use]
    pub const fn points(self) -> u32 {
        match self {
            Self::Hour => 360,
            Self::Day => 720,
            Self::Week => 672,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }
}

/// The query of `GET /server/{id}/metrics` and `GET /worker/{id}/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct MetricsQuery {
    /// `hour` (where it is absent), `day` or `week`: the time up to now that is looked at.
    #[cfg_attr(feature = "openapi", param(inline))]
    pub range: MetricsRange,
}

/// What a server or a machine has used. Point `i` of every series is about the time from
/// `from + i * step_seconds` on, for `step_seconds`; the last one is still under way. Time is the
/// worker's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricsHistory {
    pub range: MetricsRange,
    pub step_seconds: u32,
    /// Seconds since 1970, a multiple of the step.
    pub from: i64,
    pub series: MetricsSeries,
    pub limits: MetricsLimits,
}

/// Series of equal length; `null` where nothing was measured: the server did not run, the worker
/// was away, or nobody can tell. A series that makes no sense for its subject is an empty list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricsSeries {
    /// Cores, in the mean.
    pub cpu: Vec<Option<f64>>,
    /// Bytes, in the mean.
    pub memory: Vec<Option<u64>>,
    /// Bytes received per second, in the mean; `null` for games that share the machine's network.
    pub rx: Vec<Option<u64>>,
    /// Bytes sent per second, in the mean.
    pub tx: Vec<Option<u64>>,
    /// The most players that were on at once; empty for a machine.
    pub players: Vec<Option<u32>>,
    /// Bytes in use on the disk of the worker's data, in the mean; empty for a server.
    pub disk: Vec<Option<u64>>,
}

/// Where the series end: a server's own limits, or what the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MetricsLimits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Cores.
    pub cpu: Option<f64>,
    /// Bytes; `null` for a server.
    pub disk: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_word_and_covers_its_time() {
        let spans = MetricsRange::ALL.map(|range| range.step_seconds() * range.points());
        assert_eq!(spans, [3600, 24 * 3600, 7 * 24 * 3600]);
        for range in MetricsRange::ALL {
            assert_eq!(serde_json::to_value(range).expect("text"), range.as_str());
        }
        let query: MetricsQuery = serde_json::from_str("{}").expect("it has a default");
        assert_eq!(query.range, MetricsRange::Hour);
    }
}
