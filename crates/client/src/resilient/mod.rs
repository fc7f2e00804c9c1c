//! A session that lasts: it comes back after a loss, moves when its gateway goes away, and keeps requests meanwhile.
//!
//! In reading order: `options` and `tokens` (what a program gives), `events` (what it is told), `retry_policy` (which end
//! invites back), `servers` (where), `named_server` (where it is told to go), `quiet_period` (when nothing is sent), `step` and `state_machine` (all decisions, without I/O),
//! `request_queue` (requests that wait), `token_end` and `renewal` (a new token in time), `driver` (the task that does it), `handle` (what a program holds), `pushes` (what arrives unasked).

mod doing;
mod driver;
mod events;
mod handle;
mod named_server;
mod options;
mod pushes;
mod quiet_period;
mod renewal;
mod request_queue;
mod retry_policy;
mod servers;
mod state_machine;
mod step;
mod token_end;
mod tokens;

pub use events::{End, Event, Events, Online, Phase};
pub use handle::{PendingReply, ResilientClient};
pub use options::{ResilientOptions, Server};
pub use pushes::ResilientPushes;
pub use tokens::{Need, NoToken, Tokens};
