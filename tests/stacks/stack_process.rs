//! [`StackProcess`]: one client program, spoken to by lines as README.md has them.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;

/// What a client program says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The handshake is complete.
    Connected,
    /// Bytes of stream 0.
    Stream0(Bytes),
    /// Bytes of the stream that the gateway opened.
    Pushes(Bytes),
    /// The connection ended, with what the stack says of it.
    Closed(String),
}

/// See the module. Killed when it is dropped.
pub(crate) struct StackProcess {
    child: Child,
    stdin: ChildStdin,
    heard: Receiver<Heard>,
}

impl StackProcess {
    /// Starts the program against this address; it trusts what `ca` has signed.
    pub(crate) fn start(program: &Path, server: SocketAddr, ca: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(server.to_string()).arg(ca).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            for line in lines.filter_map(|line| parse(&line)) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, heard })
    }

    /// Writes bytes on stream 0.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        writeln!(self.stdin, "send {}", hex(bytes))
    }

    /// What it says next; none when nothing came for so long, or when it has ended.
    pub(crate) fn hear(&self, patience: Duration) -> Option<Heard> {
        self.heard.recv_timeout(patience).ok()
    }

    /// Has it say goodbye and end.
    pub(crate) fn quit(&mut self) -> io::Result<()> {
        writeln!(self.stdin, "quit")
    }
}

impl Drop for StackProcess {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Lines that are none of these are a library's own, and are passed over.
fn parse(line: &str) -> Option<Heard> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "connected" => Some(Heard::Connected),
        "bidi" => Some(Heard::Stream0(unhex(rest)?)),
        "uni" => Some(Heard::Pushes(unhex(rest)?)),
        "closed" => Some(Heard::Closed(rest.to_owned())),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[test]
fn lines_are_read_as_they_are_written() {
    let bytes = Bytes::from_static(&[0, 10, 255]);
    assert_eq!(parse(&format!("bidi {}", hex(&bytes))), Some(Heard::Stream0(bytes.clone())));
    assert_eq!(parse("uni 000aff"), Some(Heard::Pushes(bytes)));
    assert_eq!(parse("connected"), Some(Heard::Connected));
    assert_eq!(parse("closed 3501"), Some(Heard::Closed("3501".to_owned())));
    for other in ["", "bidi 0", "bidi zz", "uni é", "INFO connected"] {
        assert_eq!(parse(other), None, "{other}");
    }
}
