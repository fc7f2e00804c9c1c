//! When the process has too much to do, or too little memory, and how that is told.

use std::time::Duration;

/// Between two looks at the queued bytes of the process, and between two beats of a worker's loop (ARCHITECTURE §5).
pub const PRESSURE_LOOK: Duration = Duration::from_millis(100);

/// Resident memory changes slowly, and reading it costs a system call or three.
pub const RESIDENT_LOOK: Duration = Duration::from_secs(1);

/// Resident memory must be high for so long before it counts: what is freed goes back to the system only later.
pub const RESIDENT_HIGH_FOR: Duration = Duration::from_secs(5);

/// A lower overload level is told only once it has held for so long, so that no edge makes a line every look.
pub const LEVEL_HOLD: Duration = Duration::from_secs(1);

/// Queued bytes above their budget for longer stop the reading of logic services (row E19).
pub const PAUSE_AFTER: Duration = Duration::from_millis(100);

/// At the highest level a worker closes one in so many of its connections with every look: fast enough to help within
/// seconds, slow enough that the next reading can stop it.
pub const NEWEST_SHARE: usize = 100;

/// A worker's loop that is late by more makes a line in the log (row F16).
pub const LAG_ALARM: Duration = Duration::from_millis(200);

/// At most one such line per worker in this time.
pub const LAG_LINE_EVERY: Duration = Duration::from_secs(10);

/// The worst lag shown is that of the period now and of the one before: longer than between two scrapes.
pub const LAG_PERIOD: Duration = Duration::from_secs(15);
