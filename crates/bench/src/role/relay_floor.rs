//! The floor of whatever stands between: for each connection one to a server behind, and bytes carried both ways.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Trying as _};
use crate::role::control;
use crate::role::epoll_server::{EpollServer, serve, watch};

/// Its name among the roles.
pub(crate) const NAME: &str = "relay-floor";

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RelayFloor {
    pub(crate) listen: SocketAddr,
    pub(crate) behind: SocketAddr,
}

/// Bytes of one read.
const READ: usize = 64 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let RelayFloor { listen, behind } = control::parse(argument)?;
    serve(listen, &mut RelaySockets { behind, sockets: Vec::new(), buffer: vec![0; READ] })
}

struct RelaySockets {
    behind: SocketAddr,
    /// The two ends of a connection are neighbours.
    sockets: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl EpollServer for RelaySockets {
    fn accepted(&mut self, registry: &Registry, front: TcpStream) -> Result<(), BenchError> {
        // It waits for the connection: nothing is measured while there are new ones.
        let open = || -> io::Result<TcpStream> {
            let back = std::net::TcpStream::connect(self.behind)?;
            back.set_nonblocking(true)?;
            Ok(TcpStream::from_std(back))
        };
        let back = open().doing(|| format!("cannot connect to {}", self.behind))?;
        for mut socket in [front, back] {
            watch(registry, &mut socket, self.sockets.len(), Interest::READABLE)?;
            self.sockets.push(socket);
        }
        Ok(())
    }

    fn ready(&mut self, index: usize) -> Result<(), BenchError> {
        carry(&mut self.sockets, index, &mut self.buffer);
        Ok(())
    }
}

/// Reads at one end and writes at the other.
fn carry(sockets: &mut [TcpStream], index: usize, buffer: &mut [u8]) {
    loop {
        match sockets[index].read(buffer) {
            Ok(read) if read > 0 => {
                // What is in flight is far smaller than a socket's buffer; an end that is gone gets nothing.
                let _gone = sockets[index ^ 1].write_all(&buffer[..read]);
                if read < buffer.len() {
                    return;
                }
            }
            _ => return,
        }
    }
}
