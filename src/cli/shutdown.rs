//! From a running program to its exit code: signals, drain, end.

use std::future::poll_fn;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use gateway::gateway::Gateway;
use gateway::limits::HURRY;
use nix::sys::signal::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::cli::reload_thread::ReloadThread;
use crate::cli::service_manager::ServiceManager;

/// Exit code when SIGINT, given twice, cut the end short: 128 + SIGINT, as shells count.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Signals that would end a process that does not know them, and that mean nothing here. SIGPIPE is ignored by the Rust
/// runtime. Left alone are those that tell of faults or ask for a core dump, SIGQUIT among them.
const IGNORED: &[Number] = &[
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGALRM,
    Number::SIGVTALRM,
    Number::SIGPROF,
    Number::SIGIO,
    // A log file at its limit is a line that is lost.
    Number::SIGXFSZ,
    #[cfg(target_os = "linux")]
    Number::SIGPWR,
];

/// The signals a server listens to. Made before anything says that it is ready: a signal that comes earlier has its
/// default effect.
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    ignored: Vec<(Number, Signal)>,
    /// SIGHUP asks for a reload; else it is ignored.
    reloads: bool,
    stopping: bool,
    interrupts: u32,
}

/// What signals ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownSignal {
    /// To end in order: the first SIGTERM or SIGINT. Comes once.
    Drain,
    /// To wait for nothing any more: the second SIGINT. Comes once.
    Hurry,
    /// To read the configuration again: SIGHUP before the first of these.
    Reload,
}

impl Signals {
    /// Takes over the signals. Must be called within a runtime.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let take = |number: &Number| Ok((*number, signal(SignalKind::from_raw(*number as i32))?));
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            ignored: IGNORED.iter().map(take).collect::<std::io::Result<_>>()?,
            reloads: false,
            stopping: false,
            interrupts: 0,
        })
    }

    /// The same with a configuration that SIGHUP has read again.
    pub(crate) fn with_reloads(self) -> Self {
        Self { reloads: true, ..self }
    }

    /// Waits for a signal that asks for something new. Others are logged and change nothing. Cancel safe.
    pub(crate) async fn next(&mut self) -> ShutdownSignal {
        loop {
            let signal = poll_fn(|cx| self.poll_next(cx)).await;
            self.interrupts += u32::from(signal == Number::SIGINT);
            let is_first = !self.stopping;
            match signal {
                Number::SIGINT | Number::SIGTERM if is_first => {
                    self.stopping = true;
                    info!(event = "signal", %signal, "it ends in order; SIGINT twice hurries it");
                    return ShutdownSignal::Drain;
                }
                Number::SIGINT if self.interrupts == 2 => {
                    warn!(event = "signal", %signal, "the second SIGINT: nothing is waited for any more");
                    return ShutdownSignal::Hurry;
                }
                Number::SIGINT | Number::SIGTERM => {
                    info!(event = "signal", %signal, "it is ending already; SIGINT twice hurries it");
                }
                Number::SIGHUP if self.reloads && is_first => {
                    info!(event = "signal", %signal, "the configuration is read again");
                    return ShutdownSignal::Reload;
                }
                _ => info!(event = "signal", %signal, "ignored"),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Number> {
        let known = [
            (Number::SIGINT, &mut self.interrupt),
            (Number::SIGTERM, &mut self.terminate),
            (Number::SIGHUP, &mut self.hangup),
        ];
        let ignored = self.ignored.iter_mut().map(|(number, signal)| (*number, signal));
        for (number, signal) in known.into_iter().chain(ignored) {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(number);
            }
        }
        Poll::Pending
    }
}

/// Waits for SIGINT or SIGTERM, drains, and says how it went, to the service manager all the while: 0 for an orderly end, 1 for a worker that failed or did
/// not end within the hard stop, 130 when a second SIGINT cut the drain short.
pub(crate) async fn until_end(gateway: Gateway, mut signals: Signals) -> ExitCode {
    let (mut stop_at, mut hurried) = (None, false);
    let mut reloads = None;
    let manager = ServiceManager::of_environment();
    manager.ready();
    loop {
        let signal = tokio::select! {
            () = gateway.ended() => break,
            signal = signals.next() => signal,
            () = at(stop_at) => {
                let hard_stop = gateway.drain_hard_stop();
                error!(event = "hard_stop", ?hard_stop, "a worker does not end; the process ends without it. Please report this");
                // Joining it would take for ever; the end of the process takes its thread along.
                std::mem::forget(gateway);
                return end(false, hurried);
            }
        };
        match signal {
            ShutdownSignal::Drain => {
                stop_at = Some(Instant::now() + gateway.drain_hard_stop());
                manager.stopping(gateway.drain_hard_stop());
                gateway.drain();
            }
            ShutdownSignal::Reload => ask_for_reload(&mut reloads, &gateway, &manager),
            ShutdownSignal::Hurry => {
                hurried = true;
                end_within(HURRY);
                gateway.hurry();
            }
        }
    }
    let orderly = gateway.wait();
    info!(event = "stopped", orderly, hurried);
    end(orderly, hurried)
}

/// The thread is started by the first one who asks.
fn ask_for_reload(reloads: &mut Option<ReloadThread>, gateway: &Gateway, manager: &ServiceManager) {
    if reloads.is_none() {
        match ReloadThread::start(gateway.reload_handle(), manager.clone()) {
            Ok(thread) => *reloads = Some(thread),
            Err(error) => {
                warn!(event = "reload", %error, "no thread can be started for it; nothing was read")
            }
        }
    }
    reloads.iter().for_each(ReloadThread::ask);
}

/// Has the process end in this time, whatever is still under way or blocked then, the log included.
#[expect(clippy::exit, reason = "nothing that is blocked may keep the process")]
fn end_within(limit: Duration) {
    let ending = thread::Builder::new().name("hurry".to_owned()).spawn(move || {
        thread::sleep(limit);
        std::process::exit(i32::from(EXIT_INTERRUPTED));
    });
    if let Err(error) = ending {
        warn!(event = "hurry", %error, "no thread can be started that would end the process after {limit:?}");
    }
}

fn end(orderly: bool, hurried: bool) -> ExitCode {
    match (orderly, hurried) {
        (_, true) => ExitCode::from(EXIT_INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    }
}

/// Waits for a moment, if there is one. Cancel safe.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
