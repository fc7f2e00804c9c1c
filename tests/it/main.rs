//! The integration tests, one binary: the codec against vectors and properties, then a whole gateway against
//! raw clients and scripted logic services.
#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod codec;
mod vectors;
