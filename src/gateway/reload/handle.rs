//! Whoever has a gateway read its configuration again.

use std::sync::Arc;

use super::{ReloadError, ReloadReport, Reloader};
use crate::gateway::Gateway;

/// Has a gateway read its configuration again, from any thread. Clones share everything.
#[derive(Debug, Clone)]
pub struct ReloadHandle(Option<Arc<Reloader>>);

impl ReloadHandle {
    /// Reads the configuration again, with all files it names, and puts what changed into effect: all of it, or nothing if
    /// anything is wrong. One line of the log says which. Blocks: files are read, workers are waited for, and so is another
    /// reload.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing has changed then.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        self.0.as_ref().ok_or(ReloadError::NoFile)?.reload()
    }
}

impl Gateway {
    /// For a thread that may block.
    pub fn reload_handle(&self) -> ReloadHandle {
        ReloadHandle(self.reloader.clone())
    }

    /// [`ReloadHandle::reload`].
    ///
    /// # Errors
    /// [`ReloadError`]; nothing has changed then.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        self.reload_handle().reload()
    }
}
