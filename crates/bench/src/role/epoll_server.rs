//! A server of one thread around one epoll: listens, tells where, takes connections until its standard input ends.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Listening, raise_file_limit};

/// What a role does with its connections.
pub(crate) trait EpollServer {
    /// Takes over a new connection. What it watches is told apart by index.
    fn accepted(&mut self, registry: &Registry, socket: TcpStream) -> Result<(), BenchError>;

    /// Something happened to the socket that is watched under this index.
    fn ready(&mut self, index: usize) -> Result<(), BenchError>;
}

const LISTENER: Token = Token(usize::MAX);
const CONTROL: Token = Token(usize::MAX - 1);

/// Serves until standard input ends.
pub(crate) fn serve(listen: SocketAddr, server: &mut impl EpollServer) -> Result<(), BenchError> {
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
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).doing(|| "cannot wait".to_owned())?;
        for event in &events {
            match event.token() {
                CONTROL if questions.are_over() => return Ok(()),
                CONTROL => {}
                LISTENER => accept(&listener, poll.registry(), server)?,
                Token(index) => server.ready(index)?,
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    registry: &Registry,
    server: &mut impl EpollServer,
) -> Result<(), BenchError> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => server.accepted(registry, socket)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).doing(|| "cannot accept".to_owned()),
        }
    }
}

/// Watches a socket, on which nothing waits for more to be written.
pub(crate) fn watch(
    registry: &Registry,
    socket: &mut TcpStream,
    index: usize,
    interest: Interest,
) -> Result<(), BenchError> {
    socket.set_nodelay(true).doing(|| "cannot set TCP_NODELAY".to_owned())?;
    registry.register(socket, Token(index), interest).doing(|| "cannot watch a socket".to_owned())
}
