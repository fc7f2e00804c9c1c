//! quiche as a client of the harness.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::{Events, Interest, Poll, Token, Waker};

const SOCKET: Token = Token(0);
const LINES: Token = Token(1);

fn config(ca: &str) -> quiche::Result<quiche::Config> {
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION)?;
    config.load_verify_locations_from_file(ca)?;
    config.verify_peer(true);
    config.set_application_protos(&[b"x-im/1"])?;
    config.set_max_idle_timeout(120_000);
    config.set_initial_max_data(1 << 20);
    config.set_initial_max_stream_data_bidi_local(1 << 20);
    config.set_initial_max_stream_data_uni(1 << 20);
    config.set_initial_max_streams_uni(3);
    Ok(config)
}

fn main() {
    let (server, ca) = lines::arguments();
    let mut poll = Poll::new().expect("a poll");
    let mut socket = mio::net::UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let local = socket.local_addr().expect("it is bound");
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE).expect("a registration");
    let waker = Arc::new(Waker::new(poll.registry(), LINES).expect("a waker"));
    let (sender, told) = mpsc::channel();
    lines::read(move |line| {
        let _gone = sender.send(line);
        waker.wake().expect("the poll lives");
    });
    // One connection in this process: its id need not be hard to guess.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos().to_be_bytes();
    let id = quiche::ConnectionId::from_ref(&now);
    let mut config = config(&ca).expect("a configuration");
    let mut connection =
        quiche::connect(Some("localhost"), &id, local, server, &mut config).expect("a client");
    let mut buffer = vec![0; 1 << 16];
    let mut unsent = Vec::new();
    let mut connected = false;
    let mut events = Events::with_capacity(16);
    loop {
        flush(&mut connection, &socket, &mut buffer);
        if connection.is_closed() {
            return println!("closed {:?} {:?}", connection.peer_error(), connection.local_error());
        }
        poll.poll(&mut events, connection.timeout()).expect("a poll");
        if events.is_empty() {
            connection.on_timeout();
        }
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let info = quiche::RecvInfo { from, to: local };
            // What cannot be read is dropped, as a datagram that got lost.
            let _malformed = connection.recv(&mut buffer[..length], info);
        }
        if connection.is_established() && !connected {
            connected = true;
            println!("connected");
        }
        let readable: Vec<u64> = connection.readable().collect();
        for stream in readable {
            while let Ok((length, _)) = connection.stream_recv(stream, &mut buffer) {
                lines::show(stream, &buffer[..length]);
            }
        }
        for line in told.try_iter() {
            match line {
                Some(data) => unsent.extend(data),
                None => connection.close(true, 0, b"bye").unwrap_or_default(),
            }
        }
        if connected && !unsent.is_empty() {
            let sent = connection.stream_send(0, &unsent, false).unwrap_or_default();
            unsent.drain(..sent);
        }
    }
}

fn flush(connection: &mut quiche::Connection, socket: &mio::net::UdpSocket, buffer: &mut [u8]) {
    while let Ok((length, info)) = connection.send(buffer) {
        let _full = socket.send_to(&buffer[..length], info.to);
    }
}
