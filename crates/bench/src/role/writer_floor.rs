//! The floor of a push over TCP: a loop that writes the same bytes to every socket, some messages in each write.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use gateway_wire::dialect::Dialect;

use crate::error::{BenchError, Trying as _};
use crate::frames;
use crate::role::control::{self, Listening, raise_file_limit};

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

const LISTENER: Token = Token(usize::MAX);
const CONTROL: Token = Token(usize::MAX - 1);

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let WriterFloor { listen, body, count } = control::parse(argument)?;
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
    let message = frames::delivered_push(Dialect::default(), &vec![b'x'; body]);
    let messages = message.repeat(count);
    let mut receivers: Vec<Receiver> = Vec::new();
    let mut buffer = vec![0; 4096];
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).doing(|| "cannot wait".to_owned())?;
        for event in &events {
            match event.token() {
                CONTROL if questions.are_over() => return Ok(()),
                CONTROL => {}
                LISTENER => accept(&poll, &listener, &mut receivers)?,
                Token(index) => {
                    receivers[index].write(&messages);
                    // Whatever it says asks for the next messages to everybody.
                    if receivers[index].socket.read(&mut buffer).is_ok_and(|read| read > 0) {
                        for receiver in &mut receivers {
                            receiver.left += messages.len();
                            receiver.write(&messages);
                        }
                    }
                }
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, receivers: &mut Vec<Receiver>) -> Result<(), BenchError> {
    loop {
        let mut socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).doing(|| "cannot accept".to_owned()),
        };
        socket.set_nodelay(true).doing(|| "cannot set TCP_NODELAY".to_owned())?;
        poll.registry()
            .register(&mut socket, Token(receivers.len()), Interest::READABLE | Interest::WRITABLE)
            .doing(|| "cannot watch a socket".to_owned())?;
        receivers.push(Receiver { socket, left: 0 });
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
