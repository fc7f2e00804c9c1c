//! What `fuzz/` and `benches/` reach of the private parts. Compiled with the feature `internals` only, and in tests, which
//! replay the corpora of the targets; no part of the API.

pub mod push_fan_out;
pub mod targets;
