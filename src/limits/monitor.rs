//! Bounds of what the monitor's visitors cost (rows F12, H21): anybody who reaches its port is one.

use std::time::Duration;

use super::KIB;

/// From accept to the end of the request's head: a visitor of ours writes it at once.
pub const MONITOR_HEAD_DEADLINE: Duration = Duration::from_secs(1);

/// From accept to the last byte of the response. Prometheus gives up after 10 s by default.
pub const MONITOR_DEADLINE: Duration = Duration::from_secs(5);

/// A request's head, bytes: more than a browser sends, and 400 kB with all visitors.
pub const MONITOR_HEAD: usize = 16 * KIB;

/// Visitors that have not asked yet, or ask for a few bytes. A health check is among them for milliseconds; when one more
/// comes, the one that is there longest goes, so that those who say nothing delay nobody.
pub const MONITOR_BRIEF: usize = 16;

/// Visitors that are given the metrics, which can take a while to read. A few scrapers need one each.
pub const MONITOR_LONG: usize = 8;

/// Files that are kept for visitors, who would otherwise find none when clients have them all.
pub const MONITOR_SPARE_FILES: usize = 2;

/// Files of the monitor: one for each visitor, and the spare ones.
pub const MONITOR_FILES: usize = MONITOR_BRIEF + MONITOR_LONG + MONITOR_SPARE_FILES;

/// Spans that wait for the collector, some 500 bytes each. Further ones are dropped and counted.
pub const SPANS_QUEUED: usize = 8192;

/// A command in a trace, bytes: a client or a service may write anything there.
pub const TRACED_COMMAND: usize = 256;

/// Spans of one request to the collector.
pub const SPANS_AT_ONCE: usize = 512;
