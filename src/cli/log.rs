//! Where log lines go: to standard error, through a queue that drops rather than blocks (row F8).

use std::io::{self, IsTerminal as _};

use gateway::config::{Log, LogFormat};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Lines that wait for a slow terminal or pipe; further ones are dropped.
const QUEUED_LINES: usize = 8192;

/// Starts logging. Lines are written until the guard is dropped. `RUST_LOG` overrides the level.
pub(crate) fn start(log: Log) -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES).lossy(true).finish(io::stderr());
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::from_level(log.level).into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
    }
    guard
}
