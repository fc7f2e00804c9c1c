//! From a running program to its exit code: signals, drain, end.

use std::process::ExitCode;
use std::time::Duration;

use gateway::gateway::Gateway;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

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

/// Waits for SIGINT or SIGTERM, drains, and says how it went: 0 for an orderly end, 1 for a worker that failed or did
/// not end within the hard stop, 130 when a second signal cut the drain short.
pub(crate) async fn until_end(gateway: Gateway, mut signals: Signals, hard_stop: Duration) -> ExitCode {
    let mut stop_at = None;
    loop {
        let name = tokio::select! {
            () = gateway.ended() => break,
            name = signals.stop() => name,
            () = at(stop_at) => {
                error!(event = "hard_stop", ?hard_stop, "a worker does not end; the process ends without it. Please report this");
                // Joining it would take for ever; the end of the process takes its thread along.
                std::mem::forget(gateway);
                return ExitCode::FAILURE;
            }
        };
        if stop_at.replace(Instant::now() + hard_stop).is_some() {
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

/// Waits for a moment, if there is one. Cancel safe.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
