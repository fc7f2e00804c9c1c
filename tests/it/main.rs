//! The integration tests, one binary: the codec against vectors and properties, then a whole gateway against
//! raw clients and scripted logic services.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod auto;
mod codec;
mod draining;
mod embedded;
mod ends;
mod faults;
mod groups;
mod heartbeats;
mod keys;
mod links;
mod login;
mod malformed;
mod metrics;
mod program;
mod pushes;
mod refusals;
mod requests;
mod streams;
mod support;
mod tls;
mod vectors;
mod workers;
