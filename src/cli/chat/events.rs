//! Standard output of the chat: one line per event.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use gateway_client::CallError;
use tokio::io::{AsyncWriteExt as _, Stdout, stdout};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a line may take after an interrupt.
const LAST_LINE: Duration = Duration::from_millis(300);

/// Writes event lines, each flushed at once.
///
/// It writes through tokio so that a reader who pauses stops this program's reading, and not its heartbeats.
///
/// A reader that has gone is no fault: the chat goes on without it, for the sake of its exit code.
#[derive(Debug)]
pub(super) struct ChatEvents {
    out: Stdout,
    unread: bool,
    interrupted: CancellationToken,
}

impl ChatEvents {
    /// Once `interrupted`, a reader that pauses is not waited for any more.
    pub(super) fn new(interrupted: CancellationToken) -> Self {
        Self { out: stdout(), unread: false, interrupted }
    }

    /// Returns `true` if the reader has gone.
    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }

    /// One line.
    ///
    /// # Errors
    /// The system's, as of a full disk.
    pub(super) async fn emit(&mut self, line: Line) -> io::Result<()> {
        if self.unread {
            return Ok(());
        }
        let mut line = line.0;
        line.push('\n');
        let write = async {
            self.out.write_all(line.as_bytes()).await?;
            self.out.flush().await
        };
        let given_up = async {
            self.interrupted.cancelled().await;
            sleep(LAST_LINE).await;
        };
        let written = tokio::select! {
            biased;
            written = write => written,
            () = given_up => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(())
            }
            written => written,
        }
    }
}

/// An event line under construction.
#[derive(Debug)]
pub(super) struct Line(String);

impl Line {
    pub(super) fn new(event: &str) -> Self {
        Self(event.to_owned())
    }

    /// ` key=value`; a value that is empty or holds a blank or a quote stands in quotes.
    pub(super) fn field(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        let value = value.to_string();
        let _ = if value.is_empty() || value.contains([' ', '"']) {
            write!(self.0, " {key}={value:?}")
        } else {
            write!(self.0, " {key}={}", escape(&value))
        };
        self
    }

    /// ` status=… reason=…`: why a request failed.
    pub(super) fn error(self, error: &CallError) -> Self {
        match error {
            CallError::Refused { status, message } => self.field("status", status).field("reason", message),
            other => self.field("status", "none").field("reason", other),
        }
    }

    /// The time of a message, nanoseconds since 1970.
    pub(super) fn time(self, nanos: i64) -> Self {
        let time = UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        self.field("time", humantime::format_rfc3339_millis(time))
    }

    /// ` text=…` up to the end of the line.
    pub(super) fn text(mut self, text: &str) -> Self {
        let _ = write!(self.0, " text={}", escape(text));
        self
    }
}

/// Makes a text of strangers harmless for a terminal and for line-wise tools; quotes stay as they are.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for piece in text.split_inclusive(['"', '\'']) {
        let quote = piece.chars().next_back().filter(|last| matches!(last, '"' | '\''));
        let plain = piece.strip_suffix(['"', '\'']).unwrap_or(piece);
        escaped.extend(plain.escape_debug());
        escaped.extend(quote);
    }
    escaped
}

/// Is cancelled by SIGINT. Not looked for in the loop of a session: a line that nobody reads may keep that waiting.
pub(super) fn interrupts() -> CancellationToken {
    let interrupted = CancellationToken::new();
    let told = interrupted.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            told.cancel();
        }
    });
    interrupted
}

/// The beginning of the line of a message.
pub(super) fn message_line(from: &str, group: &str, id: i64) -> Line {
    let line = Line::new("message").field("from", from);
    let line = if group.is_empty() { line } else { line.field("group", group) };
    line.field("id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_strangers_cannot_forge_lines_or_drive_a_terminal() {
        assert_eq!(escape("a\nonline account=eve"), "a\\nonline account=eve");
        assert_eq!(escape("\u{1b}[2J \u{202e}x\r\t\\"), "\\u{1b}[2J \\u{202e}x\\r\\t\\\\");
        assert_eq!(escape("it's \"so\", grüße 你好"), "it's \"so\", grüße 你好");
        assert_eq!(
            Line::new("message").field("from", "a b=\n").text(" x ").0,
            "message from=\"a b=\\n\" text= x "
        );
    }

    #[test]
    fn times_are_utc_and_nonsense_is_the_beginning_of_time() {
        assert_eq!(Line::new("e").time(1_500_000_000).0, "e time=1970-01-01T00:00:01.500Z");
        assert_eq!(Line::new("e").time(-1).0, "e time=1970-01-01T00:00:00.000Z");
        let _ = Line::new("e").time(i64::MAX);
    }
}
