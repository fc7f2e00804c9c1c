//! From a running program to its exit code: signals, drain, end.

use std::process::ExitCode;

use gateway::gateway::Gateway;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Exit code when a second signal ended the drain: 128 + SIGINT, as shells count.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// The signals a server listens to. Made before anything says that it is ready: a signal that comes earlier has its
/// default effect.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes over the signals. Must be called within a runtime.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGINT or SIGTERM and says which. SIGHUP is logged and ignored; SIGPIPE is ignored by the Rust
    /// runtime. Cancel safe.
    pub(crate) async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.hangup.recv() => {
                    info!(event = "signal", signal = "SIGHUP", "ignored; restart to change the configuration");
                }
            }
        }
    }
}

/// Waits for SIGINT or SIGTERM, drains, and says how it went: 0 for an orderly end, 1 for a worker that failed, 130
/// when a second signal cut the drain short.
pub(crate) async fn until_end(gateway: Gateway, mut signals: Signals) -> ExitCode {
    let mut draining = false;
    loop {
        let name = tokio::select! {
            () = gateway.ended() => break,
            name = signals.stop() => name,
        };
        if std::mem::replace(&mut draining, true) {
            warn!(event = "signal", signal = name, "second signal: ending at once");
            drop(gateway);
            return ExitCode::from(EXIT_INTERRUPTED);
        }
        info!(event = "signal", signal = name, "a second one ends the gateway at once");
        gateway.drain();
    }
    let orderly = gateway.wait();
    info!(event = "stopped", orderly);
    if orderly { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
