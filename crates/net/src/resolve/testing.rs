//! What tests connect to and ask: an address that swallows packets, and resolvers that hang.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// An address on which nobody answers and nobody refuses: its backlog is full, so the kernel drops what comes.
pub struct Silent {
    /// Accepts nothing.
    pub listener: TcpListener,
    /// What fills it.
    _filling: TcpStream,
}

impl Silent {
    /// Makes one there.
    ///
    /// # Errors
    /// The port is taken, or the system refuses.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&address.into())?;
        socket.listen(0)?;
        let listener = TcpListener::from(socket);
        let filling = TcpStream::connect(listener.local_addr()?)?;
        Ok(Self { listener, _filling: filling })
    }
}

/// Two addresses of one port: the first is silent, the second listens.
///
/// # Panics
/// No port can be had.
pub fn silent_and_listening() -> (Silent, TcpListener) {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 3), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Ok(silent) = Silent::at((Ipv4Addr::new(127, 0, 0, 2), port).into()) {
            listener.set_nonblocking(true).unwrap();
            return (silent, listener);
        }
    }
}

/// The addresses of [`silent_and_listening`], as a resolver says them.
pub fn both() -> Vec<SocketAddr> {
    [2, 3].map(|host| SocketAddr::from(([127, 0, 0, host], 0))).to_vec()
}

/// Where look-ups wait until the sender is dropped.
pub struct Barrier(Mutex<Receiver<()>>);

impl Barrier {
    /// A closed one, and what opens it when it is dropped.
    pub fn new() -> (Sender<()>, Self) {
        let (open, closed) = channel();
        (open, Self(Mutex::new(closed)))
    }

    /// Blocks until it is open.
    pub fn pass(&self) {
        let _open = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}
