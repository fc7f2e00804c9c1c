//! tquic as a client of the harness.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use mio::{Events, Interest, Poll, Token, Waker};
use tquic::{Config, Connection, Endpoint, PacketInfo, PacketSendHandler, TlsConfig, TransportHandler};

const SOCKET: Token = Token(0);
const LINES: Token = Token(1);

struct TquicSocket(mio::net::UdpSocket);

impl PacketSendHandler for TquicSocket {
    fn on_packets_send(&self, packets: &[(Vec<u8>, PacketInfo)]) -> tquic::Result<usize> {
        for (packet, info) in packets {
            let _full = self.0.send_to(packet, info.dst);
        }
        Ok(packets.len())
    }
}

struct TquicStreams;

impl TransportHandler for TquicStreams {
    fn on_conn_created(&mut self, _: &mut Connection) {}

    fn on_conn_established(&mut self, _: &mut Connection) {
        println!("connected");
    }

    fn on_conn_closed(&mut self, connection: &mut Connection) {
        println!("closed {:?} {:?}", connection.peer_error(), connection.local_error());
    }

    fn on_stream_created(&mut self, _: &mut Connection, _: u64) {}

    fn on_stream_readable(&mut self, connection: &mut Connection, stream: u64) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length, _)) = connection.stream_read(stream, &mut buffer) {
            lines::show(stream, &buffer[..length]);
        }
    }

    fn on_stream_writable(&mut self, _: &mut Connection, _: u64) {}
    fn on_stream_closed(&mut self, _: &mut Connection, _: u64) {}
    fn on_new_token(&mut self, _: &mut Connection, _: Vec<u8>) {}
}

fn config(ca: &str) -> tquic::Result<Config> {
    let mut tls = TlsConfig::new_client_config(vec![b"x-im/1".to_vec()], false)?;
    tls.set_ca_certs(ca)?;
    tls.set_verify(true);
    let mut config = Config::new()?;
    config.set_tls_config(tls);
    config.set_max_idle_timeout(120_000);
    Ok(config)
}

fn main() {
    let (server, ca) = lines::arguments();
    let mut poll = Poll::new().expect("a poll");
    let mut socket = mio::net::UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let local = socket.local_addr().expect("it is bound");
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE).expect("a registration");
    let socket = Rc::new(TquicSocket(socket));
    let waker = Arc::new(Waker::new(poll.registry(), LINES).expect("a waker"));
    let (sender, told) = mpsc::channel();
    lines::read(move |line| {
        let _gone = sender.send(line);
        waker.wake().expect("the poll lives");
    });
    let config = Box::new(config(&ca).expect("a configuration"));
    let mut endpoint = Endpoint::new(config, false, Box::new(TquicStreams), socket.clone());
    let index = endpoint.connect(local, server, Some("localhost"), None, None, None).expect("a client");
    let mut buffer = vec![0; 1 << 16];
    let mut events = Events::with_capacity(16);
    loop {
        endpoint.process_connections().expect("the endpoint lives");
        poll.poll(&mut events, endpoint.timeout()).expect("a poll");
        endpoint.on_timeout(Instant::now());
        while let Ok((length, src)) = socket.0.recv_from(&mut buffer) {
            let info = PacketInfo { src, dst: local, time: Instant::now() };
            // What cannot be read is dropped, as a datagram that got lost.
            let _malformed = endpoint.recv(&mut buffer[..length], &info);
        }
        for line in told.try_iter() {
            let Some(connection) = endpoint.conn_get_mut(index) else { return };
            match line {
                // Its window is far larger than what the harness sends.
                Some(data) => {
                    drop(connection.stream_write(0, bytes::Bytes::from(data), false).expect("room"))
                }
                None => connection.close(true, 0, b"bye").unwrap_or_default(),
            }
        }
    }
}
