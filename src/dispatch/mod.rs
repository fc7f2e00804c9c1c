//! From a request to the logic instance that gets it: so far, the decision.

pub mod selector;
