//! Where log lines go: to standard error, through a queue that drops rather than blocks (row F8). Lines that are lost,
//! to a pipe that nobody reads or to a full disk, are counted, and the log says so when it goes on.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use gateway::config::{Log, LogFormat};
use gateway::gateway::LogLevel;
use gateway::monitor::log_lines;
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for a slow terminal or pipe; further ones are dropped.
const QUEUED_LINES: usize = 8192;

/// How long the end of the process waits for the last lines to be written.
const FLUSH: Duration = Duration::from_millis(500);

/// Between two looks for a place in a queue that is full, at the end of the process.
const FLUSH_LOOK: Duration = Duration::from_millis(10);

/// Lines that say how many others were lost are so far apart.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Starts logging, and gives what sets the level. Lines are written until the guard is dropped. `RUST_LOG` overrides the level. Panics are logged like
/// everything else: printing one could block for ever, with whatever the thread holds.
///
/// # Errors
/// The machine gives no thread.
pub(crate) fn start(log: Log) -> io::Result<(Guard, LogLevel)> {
    let (queue, lines) = mpsc::sync_channel(QUEUED_LINES);
    let (finish, finished) = mpsc::channel();
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        Appender::new(io::stderr()).run(&lines);
        let _nobody_waits = finish.send(());
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log.level))
        .with_writer(LogQueue(queue.clone()))
        .with_target(false)
        .log_internal_errors(false);
    let level = match log.format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            LogLevel::new(move |level| !is_overridden() && handle.reload(filter(level)).is_ok())
        }
        LogFormat::Text => {
            let builder = builder.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            LogLevel::new(move |level| !is_overridden() && handle.reload(filter(level)).is_ok())
        }
    };
    panic::set_hook(Box::new(log_panic));
    Ok((Guard { queue, finished }, level))
}

/// Returns `true` if `RUST_LOG` says what is written, and no level counts.
fn is_overridden() -> bool {
    std::env::var_os(EnvFilter::DEFAULT_ENV).is_some_and(|directives| !directives.is_empty())
}

/// What is written at a level, unless `RUST_LOG` says something else.
fn filter(level: tracing::Level) -> EnvFilter {
    EnvFilter::builder().with_default_directive(LevelFilter::from_level(level).into()).from_env_lossy()
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let current = thread::current();
    let (thread, message) =
        (current.name().unwrap_or("unnamed"), panic.payload_as_str().unwrap_or("unknown"));
    let location = panic.location().map(tracing::field::display);
    // Only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    let backtrace = captured.then(|| tracing::field::display(backtrace));
    error!(event = "panic", thread, location, backtrace, "panicked: {message}. Please report this");
}

enum LogEntry {
    Line(Vec<u8>),
    End,
}

/// Takes lines without waiting.
struct LogQueue(SyncSender<LogEntry>);

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &LogQueue {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(LogEntry::Line(line.to_vec())).is_err() {
            log_lines::drop_lines(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends the log when it is dropped: what waits is still written, within [`FLUSH`].
#[must_use]
pub(crate) struct Guard {
    queue: SyncSender<LogEntry>,
    finished: Receiver<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let by = Instant::now() + FLUSH;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(LogEntry::End) {
            if Instant::now() >= by {
                return;
            }
            thread::sleep(FLUSH_LOOK);
        }
        let _in_time = self.finished.recv_timeout(by.saturating_duration_since(Instant::now()));
    }
}

/// Writes lines, and goes on whatever becomes of them.
struct Appender<W> {
    to: W,
    /// A line was left in its middle.
    torn: bool,
    /// Of the lost lines, how many the log has told of.
    told: u64,
    told_at: Option<Instant>,
}

impl<W: Write> Appender<W> {
    fn new(to: W) -> Self {
        Self { to, torn: false, told: log_lines::dropped(), told_at: None }
    }

    fn run(mut self, lines: &Receiver<LogEntry>) {
        loop {
            match lines.recv_timeout(TELL_EVERY) {
                Ok(LogEntry::Line(line)) => self.write(&line),
                Ok(LogEntry::End) | Err(RecvTimeoutError::Disconnected) => return,
                // Losses that were not told of yet, because others had been.
                Err(RecvTimeoutError::Timeout) => self.tell_of_losses(),
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        let after_torn;
        let mut rest = line;
        if self.torn {
            after_torn = [b"\n", line].concat();
            rest = &after_torn;
        }
        let whole = rest.len();
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(written) if written > 0 => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.torn |= rest.len() < whole;
                    log_lines::drop_lines(1);
                    return;
                }
            }
        }
        self.torn = false;
        self.tell_of_losses();
    }

    fn tell_of_losses(&mut self) {
        let lost = log_lines::dropped();
        let now = Instant::now();
        if lost == self.told || self.told_at.is_some_and(|at| now < at + TELL_EVERY) {
            return;
        }
        warn!(event = "log_dropped", lines = lost - self.told, "lines of the log were lost");
        (self.told, self.told_at) = (lost, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then refuses until it has room again.
    struct Disk {
        holds: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.holds.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn f8_lines_go_on_whole_after_a_disk_was_full() {
        let mut appender = Appender::new(Disk { holds: Vec::new(), room: 8 });
        for line in ["one\n", "two two\n", "three\n"] {
            appender.write(line.as_bytes());
        }
        appender.to.room = 100;
        appender.write(b"four\n");
        appender.write(b"five\n");
        assert_eq!(String::from_utf8(appender.to.holds).unwrap(), "one\ntwo \nfour\nfive\n");
        assert!(log_lines::dropped() >= 2);
    }
}
