//! How another configuration reaches a source that runs.

use std::fmt;
use std::sync::Arc;

use super::start_error::DiscoveryStartError;
use crate::config::Config;

/// Puts what was checked into effect.
pub(crate) type Apply = Box<dyn FnOnce() + Send>;

/// Checks a configuration.
type Prepare = dyn Fn(&Arc<Config>) -> Result<Apply, DiscoveryStartError> + Send + Sync;

/// Takes other configurations to a source. Clones share it.
#[derive(Clone)]
pub(crate) struct SourceChange(Arc<Prepare>);

impl fmt::Debug for SourceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourceChange")
    }
}

impl SourceChange {
    /// `prepare` checks a configuration, and returns what puts it into effect and cannot fail.
    pub(super) fn new(
        prepare: impl Fn(&Arc<Config>) -> Result<Apply, DiscoveryStartError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(prepare))
    }

    /// Of a source that no configuration is about.
    pub(super) fn none() -> Self {
        Self::new(|_| Ok(Box::new(|| {})))
    }

    /// Checks what a configuration of the same kind would mean for the source.
    ///
    /// # Errors
    /// [`DiscoveryStartError`]; the source goes on as it is.
    pub(crate) fn prepare(&self, config: &Arc<Config>) -> Result<Apply, DiscoveryStartError> {
        (self.0)(config)
    }
}
