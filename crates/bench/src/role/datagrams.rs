//! The floor of a push over QUIC: one socket, a loop that sends a datagram to each of many others; and its load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use crate::bench::ANY;
use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Listening, Ready, raise_file_limit};
use crate::role::window::{Measure, Measured, Window};

/// Names among the roles.
pub(crate) const FLOOR: &str = "sendto-floor";
pub(crate) const LOAD: &str = "datagram-load";

/// What the floor is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SendtoFloor {
    /// Bytes of a datagram.
    pub(crate) size: usize,
}

/// What the load is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DatagramLoad {
    pub(crate) target: SocketAddr,
    pub(crate) receivers: usize,
}

/// What a receiver says first, and what one says to have everybody sent something.
const HELLO: &[u8] = b"h";
const ASK: &[u8] = b"ask";

const CONTROL: Token = Token(usize::MAX);

/// How long the last datagrams may take; on loopback they are lost only by a full buffer.
const LOST: Duration = Duration::from_millis(200);

pub(crate) fn floor(argument: &str) -> Result<(), BenchError> {
    let SendtoFloor { size } = control::parse(argument)?;
    let mut poll = Poll::new().doing(|| "cannot make an epoll".to_owned())?;
    let waker = Waker::new(poll.registry(), CONTROL).doing(|| "cannot make a waker".to_owned())?;
    let mut socket = UdpSocket::bind(ANY).doing(|| "cannot open a UDP socket".to_owned())?;
    let address = socket.local_addr().doing(|| "cannot tell the address".to_owned())?;
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)
        .doing(|| "cannot watch a socket".to_owned())?;
    let questions = control::questions::<()>(waker);
    control::answer(&Listening { address })?;
    let datagram = vec![b'x'; size];
    let (mut receivers, mut buffer, mut events) = (Vec::new(), [0; 64], Events::with_capacity(64));
    loop {
        poll.poll(&mut events, None).doing(|| "cannot wait".to_owned())?;
        if events.iter().any(|event| event.token() == CONTROL) && questions.are_over() {
            return Ok(());
        }
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            if &buffer[..read] == HELLO {
                receivers.push(from);
                continue;
            }
            for receiver in &receivers {
                // One that is lost is not counted by whoever waits for it.
                let _lost = socket.send_to(&datagram, *receiver);
            }
        }
    }
}

pub(crate) fn load(argument: &str) -> Result<(), BenchError> {
    let config: DatagramLoad = control::parse(argument)?;
    raise_file_limit();
    let mut poll = Poll::new().doing(|| "cannot make an epoll".to_owned())?;
    let waker = Waker::new(poll.registry(), CONTROL).doing(|| "cannot make a waker".to_owned())?;
    let mut sockets = Vec::with_capacity(config.receivers);
    for index in 0..config.receivers {
        let mut socket = UdpSocket::bind(ANY).doing(|| "cannot open a UDP socket".to_owned())?;
        socket.connect(config.target).doing(|| "cannot connect a UDP socket".to_owned())?;
        socket.send(HELLO).doing(|| "cannot send".to_owned())?;
        poll.registry()
            .register(&mut socket, Token(index), Interest::READABLE)
            .doing(|| "cannot watch a socket".to_owned())?;
        sockets.push(socket);
    }
    let questions = control::questions::<Measure>(waker);
    control::answer(&Ready {})?;
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None).doing(|| "cannot wait".to_owned())?;
        match questions.try_take() {
            Ok(question) => control::answer(&measure(question, &mut poll, &sockets)?)?,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
        }
    }
}

fn measure(measure: Measure, poll: &mut Poll, sockets: &[UdpSocket]) -> Result<Measured, BenchError> {
    let mut window = Window::new(measure, Instant::now());
    let (mut units, mut due, mut buffer) = (0, 0, [0; 2048]);
    let mut events = Events::with_capacity(1024);
    let mut asked = Instant::now();
    loop {
        if units >= due || asked.elapsed() > LOST {
            due = units + sockets.len() as u64;
            asked = Instant::now();
            sockets[0].send(ASK).doing(|| "cannot send".to_owned())?;
        }
        poll.poll(&mut events, Some(LOST)).doing(|| "cannot wait".to_owned())?;
        for event in events.iter().filter(|event| event.token() != CONTROL) {
            while sockets[event.token().0].recv(&mut buffer).is_ok() {
                units += 1;
            }
        }
        if let Some(measured) = window.turn(Instant::now(), units)? {
            return Ok(measured);
        }
    }
}
