//! Standard input of the chat: lines of bounded length, and whom they are for.

use std::io;

use gateway_net::files;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Stdin, stdin};

/// Longest line, bytes: half of a frame, so that the packet around it fits as well.
const MAX_LINE: usize = 32 * 1024;

/// Lines of standard input.
#[derive(Debug)]
pub(super) struct Lines<R = BufReader<Stdin>> {
    from: R,
    line: Vec<u8>,
    /// The line is too long; its rest is skipped.
    skipping: bool,
    /// The first line is behind us: what marks a text stands in front of it.
    begun: bool,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InputLine {
    /// A line without its end; bytes that are not UTF-8 are replaced.
    Line(String),
    /// A line above the limit, which was skipped.
    TooLong,
    /// There is no more.
    End,
}

impl Lines {
    pub(super) fn of_stdin() -> Self {
        Self::new(BufReader::new(stdin()))
    }
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, line: Vec::new(), skipping: false, begun: false }
    }

    /// The next line. Cancel safe.
    ///
    /// # Errors
    /// What the system says, and text that is not UTF-8 from its beginning on.
    pub(super) async fn next(&mut self) -> io::Result<InputLine> {
        loop {
            let bytes = self.from.fill_buf().await?;
            if bytes.is_empty() {
                let nothing_left = self.line.is_empty() && !self.skipping;
                return if nothing_left { Ok(InputLine::End) } else { self.take() };
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            self.skipping |= self.line.len() + piece.len() > MAX_LINE;
            if !self.skipping {
                self.line.extend_from_slice(piece);
            }
            let used = end.map_or(piece.len(), |end| end + 1);
            self.from.consume(used);
            if end.is_some() {
                return self.take();
            }
        }
    }

    fn take(&mut self) -> io::Result<InputLine> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) {
            if files::is_utf_16(&line) {
                let problem = "it is UTF-16 text; allowed is UTF-8";
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            line.drain(..files::mark_len(&line));
        }
        if std::mem::take(&mut self.skipping) {
            return Ok(InputLine::TooLong);
        }
        let line = String::from_utf8_lossy(&line);
        Ok(InputLine::Line(line.strip_suffix('\r').unwrap_or(&line).to_owned()))
    }
}

/// Whom a line is for and what it says; `None` when it names nobody or says nothing.
pub(super) fn address<'a>(line: &'a str, to: Option<&'a str>) -> Option<(&'a str, &'a str)> {
    match to {
        Some(to) => Some((to, line)),
        None => line.trim_start().split_once(char::is_whitespace).map(|(to, text)| (to, text.trim_start())),
    }
    .filter(|(_, text)| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_bounded_and_the_last_needs_no_end() {
        let long = "x".repeat(MAX_LINE + 1);
        let text = format!("bob hello\r\n\n{long}\nlast");
        let mut lines = Lines::new(BufReader::with_capacity(7, text.as_bytes()));
        assert_eq!(lines.next().await.unwrap(), InputLine::Line("bob hello".to_owned()));
        assert_eq!(lines.next().await.unwrap(), InputLine::Line(String::new()));
        assert_eq!(lines.next().await.unwrap(), InputLine::TooLong);
        assert_eq!(lines.next().await.unwrap(), InputLine::Line("last".to_owned()));
        assert_eq!(lines.next().await.unwrap(), InputLine::End);
    }

    #[tokio::test]
    async fn h17_a_byte_order_mark_before_the_first_line_is_skipped_and_utf_16_is_refused() {
        let text = "\u{feff}bob hello\n\u{feff}bob again\n";
        let mut lines = Lines::new(BufReader::with_capacity(2, text.as_bytes()));
        assert_eq!(lines.next().await.unwrap(), InputLine::Line("bob hello".to_owned()));
        assert_eq!(lines.next().await.unwrap(), InputLine::Line("\u{feff}bob again".to_owned()));
        assert_eq!(lines.next().await.unwrap(), InputLine::End);
        for mark in ["\u{feff}", ""] {
            let wide: Vec<u8> =
                format!("{mark}bob hello\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
            let message = Lines::new(&wide[..]).next().await.unwrap_err().to_string();
            assert!(message.contains("UTF-16"), "{message}");
        }
    }

    #[test]
    fn a_line_begins_with_a_name_unless_there_is_one_already() {
        assert_eq!(address("bob hello you", None), Some(("bob", "hello you")));
        assert_eq!(address(" bob\thello", None), Some(("bob", "hello")));
        assert_eq!(address("bob", None), None);
        assert_eq!(address("bob  ", None), None);
        assert_eq!(address(" hello you ", Some("bob")), Some(("bob", " hello you ")));
        assert_eq!(address(" ", Some("bob")), None);
    }
}
