//! Faults that tests ask for, by the name of an account that signs in. Only in builds with the feature `faults`; may be
//! called from anywhere in a worker, and does nothing for other accounts.

#[cfg(not(debug_assertions))]
compile_error!(
    "the feature `faults` lets a client end the process: it is for tests, never for a release build"
);

use std::rc::Rc;

use tokio::sync::Notify;

/// Signing in with an account that begins so makes the task of the connection panic.
pub const PANIC_TASK: &str = "fault-panic-task";

/// Signing in with this account makes the worker panic that has the connection.
pub const PANIC_WORKER: &str = "fault-panic-worker";

/// Signing in with this account blocks the worker that has the connection, for as long as the process lives.
pub const BLOCK_WORKER: &str = "fault-block-worker";

thread_local! {
    static WORKER: Rc<Notify> = Rc::default();
}

/// A client with this account was let in.
pub(crate) fn on_login(account: &str) {
    match account {
        _ if account.starts_with(PANIC_TASK) => panic!("a test asked this task to panic"),
        BLOCK_WORKER => {
            tracing::warn!("a test asked for it: the worker is blocked");
            loop {
                std::thread::park();
            }
        }
        PANIC_WORKER => WORKER.with(|worker| worker.notify_one()),
        _ => {}
    }
}

/// One of the worker's own tasks: it panics when a test asks for it.
pub(crate) async fn worker() {
    let asked = WORKER.with(Rc::clone);
    asked.notified().await;
    panic!("a test asked this worker to panic");
}
