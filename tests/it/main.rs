//! The integration tests, one binary: the codec against vectors and properties, then a whole gateway against
//! raw clients and scripted logic services.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod auto;
mod codec;
mod consul;
mod contested;
mod drain_window;
mod draining;
mod embedded;
mod ends;
mod events;
mod exhaustion;
mod faults;
mod groups;
mod heartbeats;
mod instances;
mod keys;
mod links;
mod login;
mod malformed;
mod metrics;
mod overload;
mod program;
mod pushes;
mod reconnect;
mod refusals;
mod requests;
mod resolving;
mod shaped_link;
mod slow_clients;
mod streams;
mod support;
mod tls;
mod vanishing;
mod vectors;
mod workers;
