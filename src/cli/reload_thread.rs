//! The thread that reads the configuration again: whoever waits for signals must not wait for files.

use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use gateway::gateway::ReloadHandle;
use tracing::error;

use crate::cli::service_manager::ServiceManager;

/// Reloads when it is asked to, one time after the other. Nobody waits for its end: a disk that hangs would hold up the end of
/// the process.
pub(crate) struct ReloadThread {
    asked: SyncSender<()>,
}

impl ReloadThread {
    /// # Errors
    /// The machine gives no thread.
    pub(crate) fn start(gateway: ReloadHandle, manager: ServiceManager) -> io::Result<Self> {
        // One that waits stands for all that come meanwhile: it reads what there is by then.
        let (asked, wishes) = sync_channel(1);
        thread::Builder::new().name("reload".to_owned()).spawn(move || {
            while wishes.recv().is_ok() {
                manager.reloading();
                // The log says how that went as well.
                let refused = gateway.reload().err().map(|error| error.to_string());
                manager.reloaded(refused.as_deref());
            }
        })?;
        Ok(Self { asked })
    }

    /// Returns at once.
    pub(crate) fn ask(&self) {
        if let Err(TrySendError::Disconnected(())) = self.asked.try_send(()) {
            error!(event = "reload", "an earlier reload panicked, and there are no more. Please report this");
        }
    }
}
