//! A session that lasts: it comes back after a loss, moves when its gateway goes away, and keeps requests meanwhile.
//!
//! In reading order: `options` and `tokens` (what a program gives), `events` (what it is told), `verdict` (which end
//! invites back), `backoff` (after what pause), `servers` (where), `hush` (when nothing is sent), `step` and `course` (all decisions, without I/O),
//! `line` (requests that wait), `keeper` (the task that does it), `handle` (what a program holds), `pushes` (what arrives unasked).

mod backoff;
mod course;
mod events;
mod handle;
mod hush;
mod keeper;
mod line;
mod options;
mod pushes;
mod servers;
mod step;
mod tokens;
mod verdict;

pub use backoff::Backoff;
pub use events::{End, Event, Events, Online, Phase};
pub use handle::{PendingReply, ResilientClient};
pub use options::{ResilientOptions, Server};
pub use pushes::ResilientPushes;
pub use tokens::{Need, NoToken, Tokens};
