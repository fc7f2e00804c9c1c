//! The thread that looks at the files of certificates and keys now and then.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::Reloader;
use crate::limits::FILES_LOOK;

/// Owns the thread. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub(in crate::gateway) struct FilesWatch {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FilesWatch {
    /// Looks from now on.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub(in crate::gateway) fn start(reloader: Arc<Reloader>) -> io::Result<Self> {
        // Nothing is ever sent: its end is what is said.
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
            while stopped.recv_timeout(FILES_LOOK) == Err::<(), _>(RecvTimeoutError::Timeout) {
                reloader.look_at_keys();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FilesWatch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook.
            let _ended = thread.join();
        }
    }
}
