//! How a configuration is read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::route::Route;

/// How a configuration is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where overrides are looked for; only variables that begin with `GATEWAY__` count. Empty: none.
    pub environment: Vec<(OsString, OsString)>,
    /// What relative paths in the file are relative to; empty: the working directory.
    pub base: PathBuf,
    /// Accepts short and well-known JWT secrets (row B14). Only for `gateway dev`.
    pub dev: bool,
    /// Used instead of `route.file`.
    pub route: Option<Arc<Route>>,
}

impl Options {
    /// Options with overrides, normally those of `std::env::vars_os()`.
    pub fn with_environment(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { environment: environment.into_iter().collect(), ..Self::default() }
    }
}
