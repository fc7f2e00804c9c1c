//! The floor of an echo: one thread, one epoll, one read and one write per message, no thought about what it says.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::role::control;
use crate::role::epoll_server::{EpollServer, serve, watch};

/// Its name among the roles.
pub(crate) const NAME: &str = "echo-floor";

/// Where it listens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EchoFloor {
    pub(crate) listen: SocketAddr,
}

/// Bytes of one read: no message of a run is near it, so that a read that fills less has emptied the socket.
const READ: usize = 64 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let EchoFloor { listen } = control::parse(argument)?;
    serve(listen, &mut EchoSockets { sockets: Vec::new(), buffer: vec![0; READ] })
}

struct EchoSockets {
    sockets: Vec<Option<TcpStream>>,
    buffer: Vec<u8>,
}

impl EpollServer for EchoSockets {
    fn accepted(&mut self, registry: &Registry, mut socket: TcpStream) -> Result<(), BenchError> {
        watch(registry, &mut socket, self.sockets.len(), Interest::READABLE)?;
        self.sockets.push(Some(socket));
        Ok(())
    }

    fn ready(&mut self, index: usize) -> Result<(), BenchError> {
        echo(&mut self.sockets[index], &mut self.buffer);
        Ok(())
    }
}

/// Reads once and writes the same; a socket that ended is dropped.
fn echo(slot: &mut Option<TcpStream>, buffer: &mut [u8]) {
    let Some(socket) = slot else { return };
    loop {
        match socket.read(buffer) {
            Ok(0) => break,
            Ok(read) => {
                // The answer to what a client has in flight is far smaller than a socket's buffer.
                if socket.write_all(&buffer[..read]).is_err() {
                    break;
                }
                if read < buffer.len() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => break,
        }
    }
    *slot = None;
}
