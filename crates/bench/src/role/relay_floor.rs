//! The floor of whatever stands between: for each connection one to a server behind, and bytes carried both ways.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Listening, raise_file_limit};

/// Its name among the roles.
pub(crate) const NAME: &str = "relay-floor";

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RelayFloor {
    pub(crate) listen: SocketAddr,
    pub(crate) behind: SocketAddr,
}

const LISTENER: Token = Token(usize::MAX);
const CONTROL: Token = Token(usize::MAX - 1);

/// Bytes of one read.
const READ: usize = 64 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let RelayFloor { listen, behind } = control::parse(argument)?;
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
    // The two ends of a connection are neighbours.
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut buffer = vec![0; READ];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).doing(|| "cannot wait".to_owned())?;
        for event in &events {
            match event.token() {
                CONTROL if questions.are_over() => return Ok(()),
                CONTROL => {}
                LISTENER => accept(&poll, &listener, behind, &mut sockets)?,
                Token(index) => carry(&mut sockets, index, &mut buffer),
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    behind: SocketAddr,
    sockets: &mut Vec<TcpStream>,
) -> Result<(), BenchError> {
    loop {
        let front = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).doing(|| "cannot accept".to_owned()),
        };
        // It waits for the connection: nothing is measured while there are new ones.
        let open = || -> io::Result<TcpStream> {
            let back = std::net::TcpStream::connect(behind)?;
            back.set_nonblocking(true)?;
            Ok(TcpStream::from_std(back))
        };
        let back = open().doing(|| format!("cannot connect to {behind}"))?;
        for mut socket in [front, back] {
            socket.set_nodelay(true).doing(|| "cannot set TCP_NODELAY".to_owned())?;
            poll.registry()
                .register(&mut socket, Token(sockets.len()), Interest::READABLE)
                .doing(|| "cannot watch a socket".to_owned())?;
            sockets.push(socket);
        }
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
