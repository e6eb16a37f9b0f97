//! Statistics: counters that live outside the configuration and survive its updates.
//!
//! Hot counters are plain relaxed atomics reached by reference; names exist only when they are
//! printed.

mod counters;
mod distribution;
mod histogram;
pub(crate) mod istio;
pub(crate) mod istio_text;

pub(crate) use counters::{
    ClusterStats, Codes, Counter, HostStats, HttpStats, Kind, OutlierStats, Registry, TcpStats,
};
pub(crate) use distribution::{Distribution, QUANTILES, Recorded};
pub(crate) use histogram::{BOUNDS, Histogram};
