//! A service behind a NATS server that sends back what it is asked.

use std::io::{Read as _, Write as _, stdin};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Ready};

/// Its name among the roles.
pub(crate) const NAME: &str = "nats-echo";

/// Which server it answers behind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NatsEcho {
    pub(crate) server: SocketAddr,
}

/// Bytes of one read.
const READ: usize = 256 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let NatsEcho { server } = control::parse(argument)?;
    let mut socket = TcpStream::connect(server).doing(|| format!("cannot connect to {server}"))?;
    socket.set_nodelay(true).doing(|| "cannot set TCP_NODELAY".to_owned())?;
    let ended = socket.try_clone().doing(|| "cannot share a socket".to_owned())?;
    thread::spawn(move || {
        let _nothing_is_said = stdin().read_to_end(&mut Vec::new());
        let _ended_before = ended.shutdown(Shutdown::Both);
    });
    socket
        .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB echo 1\r\nPING\r\n")
        .doing(|| "cannot subscribe".to_owned())?;
    let (mut input, mut output, mut buffer) = (Vec::new(), Vec::new(), vec![0; READ]);
    let mut is_ready = false;
    loop {
        let read = socket.read(&mut buffer).doing(|| "the server is gone".to_owned())?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..read]);
        let mut at = 0;
        while let Some(line) = line(&input[at..]) {
            if !is_ready && line.starts_with(b"PONG") {
                is_ready = true;
                control::answer(&Ready {})?;
            }
            let Some(len) = answer(line, &input[at..], &mut output) else { break };
            at += len;
        }
        input.drain(..at);
        socket.write_all(&output).doing(|| "the server is gone".to_owned())?;
        output.clear();
    }
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|pair| pair == b"\r\n").map(|end| &bytes[..end + 2])
}

/// Appends the answer to what begins with this line, and returns its length; none while its end is missing.
fn answer(line: &[u8], bytes: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    if line == b"PING\r\n" {
        output.extend_from_slice(b"PONG\r\n");
    }
    // MSG subject sid reply size
    let words: Vec<&[u8]> = line[..line.len() - 2].split(|byte| *byte == b' ').collect();
    let [b"MSG", _, _, reply, size] = words[..] else { return Some(line.len()) };
    let size_of_payload: usize = std::str::from_utf8(size).ok()?.parse().ok()?;
    let end = line.len() + size_of_payload + 2;
    let payload = bytes.get(line.len()..end)?;
    for piece in [&b"PUB "[..], reply, b" ", size, b"\r\n", payload] {
        output.extend_from_slice(piece);
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_once_it_is_whole() {
        let message = b"MSG echo 1 inbox.7 2\r\nab\r\n";
        let mut output = Vec::new();
        assert_eq!(answer(line(message).unwrap(), &message[..24], &mut output), None);
        assert_eq!(answer(line(message).unwrap(), message, &mut output), Some(message.len()));
        assert_eq!(output, b"PUB inbox.7 2\r\nab\r\n");
    }
}
