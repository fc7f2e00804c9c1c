//! What an operator sees: counters, readiness, the small HTTP server that shows both, and [`events`], which go to the
//! log and a webhook.
//!
//! [`metrics`] is a struct that is passed in, never a global. [`labels`] are the closed sets its counters are
//! split by, so nothing a client sends can create a series (row F9).

mod activity;
pub mod admin_labels;
mod administered;
mod cells;
mod collector;
mod counters;
mod descriptors;
pub mod events;
mod family;
pub(crate) mod glance;
pub mod http;
mod instances;
pub mod jwks;
pub mod labels;
pub mod log_lines;
mod login_labels;
mod loop_lag;
pub mod metrics;
pub mod readiness;
pub(crate) mod snapshot;
pub mod trace_spans;
pub(crate) mod visitors;
pub mod worker;
