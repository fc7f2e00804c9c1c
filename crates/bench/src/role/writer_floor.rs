//! The floor of a push over TCP: a loop that writes the same bytes to every socket, some messages in each write.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use gateway_wire::dialect::Dialect;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::frames;
use crate::role::control;
use crate::role::epoll_server::{EpollServer, serve, watch};

/// Its name among the roles.
pub(crate) const NAME: &str = "writer-floor";

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WriterFloor {
    pub(crate) listen: SocketAddr,
    /// Bytes of the body of a message.
    pub(crate) body: usize,
    /// Messages in one write.
    pub(crate) count: usize,
}

/// Bytes of one read.
const READ: usize = 4096;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let WriterFloor { listen, body, count } = control::parse(argument)?;
    let message = frames::delivered_push(Dialect::default(), &vec![b'x'; body]);
    let messages = message.repeat(count);
    serve(listen, &mut WriterReceivers { messages, receivers: Vec::new(), buffer: vec![0; READ] })
}

struct WriterReceivers {
    /// What one write holds.
    messages: Vec<u8>,
    receivers: Vec<Receiver>,
    buffer: Vec<u8>,
}

impl EpollServer for WriterReceivers {
    fn accepted(&mut self, registry: &Registry, mut socket: TcpStream) -> Result<(), BenchError> {
        watch(registry, &mut socket, self.receivers.len(), Interest::READABLE | Interest::WRITABLE)?;
        self.receivers.push(Receiver { socket, left: 0 });
        Ok(())
    }

    fn ready(&mut self, index: usize) -> Result<(), BenchError> {
        let receiver = &mut self.receivers[index];
        receiver.write(&self.messages);
        // Whatever it says asks for the next messages to everybody.
        if receiver.socket.read(&mut self.buffer).is_ok_and(|read| read > 0) {
            for receiver in &mut self.receivers {
                receiver.left += self.messages.len();
                receiver.write(&self.messages);
            }
        }
        Ok(())
    }
}

struct Receiver {
    socket: TcpStream,
    /// Bytes of the messages that are still to be written.
    left: usize,
}

impl Receiver {
    /// Writes what the socket takes; the rest when it has room again, of which there is an event.
    fn write(&mut self, messages: &[u8]) {
        while self.left > 0 {
            // What was asked for while something was left is whole copies of the messages behind it.
            let at = (messages.len() - self.left % messages.len()) % messages.len();
            match self.socket.write(&messages[at..]) {
                Ok(written) if written > 0 => self.left -= written,
                _ => return,
            }
        }
    }
}
