//! What other QUIC stacks do and ours does not: it is allowed, and a whole session must work with it. (A client that
//! grants no stream for pushes, and one whose other streams speak before the login, are in `streams`.)

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RandomConnectionIdGenerator;
use rstest::rstest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::harness::TestGateway;
use crate::support::identity;
use crate::support::raw::{Raw, request};
use crate::support::soon;
use crate::support::stream::StreamOf;

/// Four times the 25 ms for which an acknowledgement may be held back.
const QUIET: Duration = Duration::from_millis(100);

/// Connects with this transport, and connection ids of so many bytes.
async fn connect(gateway: SocketAddr, transport: quinn::TransportConfig, id_length: usize) -> Raw {
    let mut config = quinn::EndpointConfig::default();
    config.cid_generator(move || Box::new(RandomConnectionIdGenerator::new(id_length)));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime)).unwrap();
    let client = identity::quic_client(&[identity::ALPN], transport);
    let connecting = endpoint.connect_with(client, gateway, "localhost").unwrap();
    let connection = soon("a QUIC connection", connecting).await.expect("the gateway accepts");
    Raw::on(endpoint, connection)
}

/// Bytes of the large ones.
const LARGE: usize = 60_000;

/// Requests, answers, pushes and heartbeats, small and large.
async fn exchange(harness: &TestGateway, client: &mut Raw, channel: &str) {
    harness.chat.answer_with("chat.large", 0, vec![b'a'; LARGE]);
    for n in 0..5 {
        let sequence = client.talk("bob", "hello").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
        harness.chat.push(&[channel], n, b"small").await;
        assert_eq!(client.push().await.header.sequence, n);
        client.heartbeat(n % 2 == 0).await;
    }
    let sequence = client.request("chat.large", "", &[b'q'; LARGE / 2]).await;
    harness.chat.push(&[channel], 9, &[b'p'; LARGE]).await;
    assert_eq!(client.response(sequence).await.body.len(), LARGE);
    let push = client.push().await;
    assert_eq!((push.header.sequence, push.body.len()), (9, LARGE));
}

async fn leave(harness: &TestGateway, mut client: Raw, channel: &str) {
    client.bye().await;
    assert_eq!(harness.login.signout(channel).await.meta("reason"), "bye");
    assert_eq!(harness.login.packets("login.signin").len(), 1);
}

#[rstest]
#[tokio::test]
async fn connection_ids_of_no_bytes_and_of_twenty_are_as_good_as_others(
    #[values(0, 1, 20)] id_length: usize,
    #[values(1, 2)] workers: usize,
) {
    let harness = TestGateway::with(|config| config.workers = workers).await;
    let mut client = connect(harness.target.quic, quinn::TransportConfig::default(), id_length).await;
    let channel = client.login("alice").await;
    if workers == 1 {
        exchange(&harness, &mut client, &channel).await;
    }
    // Whose it is shows by the gateway's id alone, also from another address.
    client.quic().0.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let sequence = client.talk("bob", "from elsewhere").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
    leave(&harness, client, &channel).await;
}

#[tokio::test]
async fn a_client_may_change_its_keys_again_and_again() {
    let harness = TestGateway::start().await;
    let mut client = connect(harness.target.quic, quinn::TransportConfig::default(), 8).await;
    let channel = client.login("alice").await;
    for _ in 0..4 {
        client.quic().1.force_key_update();
        exchange(&harness, &mut client, &channel).await;
        // The next one is possible when the old keys are gone, three probe timeouts later.
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(300) {
            client.heartbeat(true).await;
        }
    }
    leave(&harness, client, &channel).await;
}

/// Sixty times what may be under way: it comes in sixty parts.
#[tokio::test]
async fn windows_of_a_kibibyte_slow_a_client_down_and_lose_nothing() {
    let harness = TestGateway::start().await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(1024u32.into()).receive_window(1024u32.into()).send_window(1024);
    let mut client = connect(harness.target.quic, transport, 8).await;
    let channel = client.login("alice").await;
    exchange(&harness, &mut client, &channel).await;
    leave(&harness, client, &channel).await;
}

/// The last stream speaks first, and the login stream after all others.
#[tokio::test]
async fn streams_may_speak_in_the_reverse_of_their_order() {
    const LAST: usize = 7;
    let harness = TestGateway::start().await;
    let mut client = connect(harness.target.quic, quinn::TransportConfig::default(), 8).await;
    client.open(LAST).await;
    for stream in (1..=LAST).rev() {
        let sequence = 100 + stream as u32;
        client.send_on(stream, &request("chat.user.talk", sequence, "bob"), b"early").await;
    }
    let channel = client.login("alice").await;
    for stream in 1..=LAST {
        let answer = client.response(100 + stream as u32).await;
        assert_eq!((answer.header.status, answer.stream), (0, StreamOf::Own(stream)));
    }
    exchange(&harness, &mut client, &channel).await;
    leave(&harness, client, &channel).await;
}

/// An address translator that may forget its mapping.
struct Translator {
    address: SocketAddr,
    forget: Option<oneshot::Sender<()>>,
    /// Gives the socket that the gateway still believes in.
    task: JoinHandle<()>,
    dead: oneshot::Receiver<UdpSocket>,
}

impl Translator {
    /// In front of this gateway, for one client.
    async fn new(gateway: SocketAddr) -> Self {
        let outside = async || {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.connect(gateway).await.unwrap();
            socket
        };
        let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = inside.local_addr().unwrap();
        let (first, second) = (outside().await, outside().await);
        let (forget, mut forgotten) = oneshot::channel();
        let (bury, dead) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut client = address;
            tokio::select! {
                _ = &mut forgotten => {}
                () = relay(&inside, &first, &mut client) => {}
            }
            let _ = bury.send(first);
            relay(&inside, &second, &mut client).await;
        });
        Self { address, forget: Some(forget), task, dead }
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(inside: &UdpSocket, outside: &UdpSocket, client: &mut SocketAddr) {
    let (mut there, mut back) = ([0; 2048], [0; 2048]);
    loop {
        tokio::select! {
            Ok((length, from)) = inside.recv_from(&mut there) => {
                *client = from;
                let _lost = outside.send(&there[..length]).await;
            }
            Ok(length) = outside.recv(&mut back) => {
                let _lost = inside.send_to(&back[..length], *client).await;
            }
        }
    }
}

/// Awaits a time without a packet that is longer than any acknowledgement is held back.
async fn quiet(connection: &quinn::Connection) {
    let packets = || {
        let stats = connection.stats();
        (stats.udp_tx.datagrams, stats.udp_rx.datagrams)
    };
    let mut seen = None;
    while seen != Some(packets()) {
        seen = Some(packets());
        tokio::time::sleep(QUIET).await;
    }
}

/// Nobody notices until the client speaks: what was pushed meanwhile is lost on the way, and must come then.
#[tokio::test]
async fn c15_a_push_to_an_address_that_is_dead_arrives_with_the_ping_from_the_new_one() {
    /// More than an acknowledgement, bytes.
    const LOST: usize = 500;
    let harness = TestGateway::start().await;
    let mut translator = Translator::new(harness.target.quic).await;
    let mut client = connect(translator.address, quinn::TransportConfig::default(), 8).await;
    let channel = client.login("alice").await;
    exchange(&harness, &mut client, &channel).await;

    // A late acknowledgement would make the new address known before anything is lost.
    quiet(client.quic().1).await;
    translator.forget.take().unwrap().send(()).unwrap();
    let dead = soon("the old mapping", &mut translator.dead).await.unwrap();
    for n in 0..3 {
        harness.chat.push(&[&channel], n, &[b'p'; LOST]).await;
    }
    let mut lost = [0; 2048];
    while soon("a push, at the dead address", dead.recv(&mut lost)).await.unwrap() < LOST {}
    let since = Instant::now();
    client.heartbeat(true).await;
    for n in 0..3 {
        assert_eq!(client.push().await.header.sequence, n);
    }
    println!("{:?} from the ping to the last push", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    exchange(&harness, &mut client, &channel).await;
    leave(&harness, client, &channel).await;
}
