//! What an operator sees: counters, readiness, and the small HTTP server that shows both.
//!
//! [`metrics`] is a struct that is passed in, never a global. [`labels`] are the closed sets its counters are
//! split by, so nothing a client sends can create a series (row F9).

mod beat;
mod catalogue;
mod collector;
pub mod discovery;
mod family;
mod histogram;
pub mod http;
pub mod labels;
pub mod link;
mod listener;
pub mod memory;
pub mod metrics;
pub mod overload;
pub mod pressure;
pub mod readiness;
pub mod watchdog;
pub mod worker;
