//! What a command says to whoever reads it. An exit code says how the command went, not whether it was listened to: a
//! reader that has gone changes nothing, nor does one that does not read what stands on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a line may take that is not the command's result, when its reader does not read: the program goes on.
const PATIENCE: Duration = Duration::from_millis(500);

/// The result of a command, on standard output. As everywhere, a reader that pauses is waited for.
///
/// # Errors
/// A result that is lost although somebody wants it, as on a full disk. A reader that has gone wants nothing.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A line on standard output beside what the command is there for; see [`within_patience`].
pub(crate) fn tell(text: String) {
    within_patience(move || {
        let mut out = io::stdout().lock();
        let _nobody_reads = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    });
}

/// A line on standard error; see [`within_patience`].
pub(crate) fn complain(line: impl Display) {
    let text = format!("{line}\n");
    within_patience(move || {
        let _nobody_reads = io::stderr().write_all(text.as_bytes());
    });
}

/// Writes on a thread of its own, which is left behind when nobody reads: a pipe that is full blocks for ever, and
/// neither a service nor an exit code waits for its reader.
pub(crate) fn within_patience(write: impl FnOnce() + Send + 'static) {
    let (done, written) = mpsc::channel();
    let writer = thread::Builder::new().spawn(move || {
        write();
        let _in_time = done.send(());
    });
    if writer.is_ok() {
        let _in_time = written.recv_timeout(PATIENCE);
    }
}
