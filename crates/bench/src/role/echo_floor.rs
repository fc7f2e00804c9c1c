//! The floor of an echo: one thread, one epoll, one read and one write per message, no thought about what it says.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Listening, raise_file_limit};

/// Its name among the roles.
pub(crate) const NAME: &str = "echo-floor";

/// Where it listens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EchoFloor {
    pub(crate) listen: SocketAddr,
}

const LISTENER: Token = Token(usize::MAX);
const CONTROL: Token = Token(usize::MAX - 1);

/// Bytes of one read: no message of a run is near it, so that a read that fills less has emptied the socket.
const READ: usize = 64 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let EchoFloor { listen } = control::parse(argument)?;
    raise_file_limit();
    let mut poll = Poll::new().doing(|| "cannot make an epoll".to_owned())?;
    let waker = Waker::new(poll.registry(), CONTROL).doing(|| "cannot make a waker".to_owned())?;
    let mut listener = TcpListener::bind(listen).doing(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr().doing(|| "cannot tell the address".to_owned())?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)
        .doing(|| "cannot watch a listener".to_owned())?;
    let questions = control::questions::<()>(waker);
    control::answer(&Listening { address })?;
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; READ];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).doing(|| "cannot wait".to_owned())?;
        for event in &events {
            match event.token() {
                CONTROL if questions.are_over() => return Ok(()),
                CONTROL => {}
                LISTENER => accept(&poll, &listener, &mut sockets)?,
                Token(index) => echo(&mut sockets[index], &mut buffer),
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    sockets: &mut Vec<Option<TcpStream>>,
) -> Result<(), BenchError> {
    loop {
        let mut socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).doing(|| "cannot accept".to_owned()),
        };
        socket.set_nodelay(true).doing(|| "cannot set TCP_NODELAY".to_owned())?;
        let token = Token(sockets.len());
        poll.registry()
            .register(&mut socket, token, Interest::READABLE)
            .doing(|| "cannot watch a socket".to_owned())?;
        sockets.push(Some(socket));
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
