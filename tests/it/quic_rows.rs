//! What strangers send over QUIC, and what paths do to it: it is dropped or refused, holds little, and takes nothing
//! from a bystander.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hkdf;
use bytes::Bytes;
use gateway::config::QuicKeys;
use gateway::limits::{NEW_TOKEN_LIFETIME, NEW_TOKENS, RETRY_TOKEN_LIFETIME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::crypto::HandshakeTokenKey as _;
use quinn_proto::{ConnectionError, NoneTokenStore, TokenStore};
use tokio::net::UdpSocket;

use crate::support::harness::TestGateway;
use crate::support::quic::{RawQuic, sizes_until_quiet, socket};
use crate::support::raw::{Kind, Raw, Target};
use crate::support::{identity, soon};

/// Codes of RFC 9000 section 20.1.
const CONNECTION_REFUSED: u64 = 0x02;
const INVALID_TOKEN: u64 = 0x0b;

/// No answer for so long is none.
const QUIET: Duration = Duration::from_millis(300);

/// Gives one token once, and keeps the last that came.
struct OneToken(Mutex<Option<Bytes>>);

impl TokenStore for OneToken {
    fn insert(&self, _: &str, token: Bytes) {
        *self.0.lock().unwrap() = Some(token);
    }

    fn take(&self, _: &str) -> Option<Bytes> {
        self.0.lock().unwrap().take()
    }
}

/// What a token says.
#[derive(Clone, Copy)]
enum Says {
    /// Sent in a Retry packet to this address.
    Retry(SocketAddr),
    /// Sent in a NEW_TOKEN frame to this address.
    New(IpAddr),
}

/// A token as quinn makes it, of any age and key. The nonce must be another for each.
fn token(says: Says, age: Duration, key: [u8; 64], nonce: u8) -> Vec<u8> {
    let put_ip = |bytes: &mut Vec<u8>, ip| {
        let IpAddr::V4(ip) = ip else { panic!("the tests speak IPv4") };
        bytes.push(0);
        bytes.extend_from_slice(&ip.octets());
    };
    let mut bytes = Vec::new();
    match says {
        Says::Retry(address) => {
            bytes.push(0);
            put_ip(&mut bytes, address.ip());
            bytes.extend_from_slice(&address.port().to_be_bytes());
            bytes.extend_from_slice(&[8; 9]);
        }
        Says::New(ip) => {
            bytes.push(1);
            put_ip(&mut bytes, ip);
        }
    }
    let issued = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_secs();
    bytes.extend_from_slice(&issued.to_be_bytes());
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&key);
    key.aead_from_hkdf(&[nonce; 16]).seal(&mut bytes, &[]).unwrap();
    bytes.extend_from_slice(&[nonce; 16]);
    bytes
}

/// The key of a bench.
const TOKEN_KEY: [u8; 64] = [2; 64];

/// Connects from a socket with a token: what ended it, if it did not come to be.
async fn connect_with(harness: &TestGateway, from: UdpSocket, token: Vec<u8>) -> Option<ConnectionError> {
    let tokens = OneToken(Mutex::new(Some(token.into())));
    let mut raw = RawQuic::new(harness.target.quic, Arc::new(tokens)).await;
    raw.socket = from;
    raw.until("an outcome", |raw| raw.is_confirmed() || raw.lost.is_some()).await;
    raw.lost
}

/// A gateway that asks every address that is not proven to prove itself.
async fn distrustful() -> TestGateway {
    TestGateway::with_limits(|limits| limits.retry_from = 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_new_token_that_is_old_used_foreign_or_forged_is_none() {
    let harness = distrustful().await;
    let home = Says::New(Ipv4Addr::LOCALHOST.into());
    let elsewhere = Says::New(Ipv4Addr::new(127, 0, 0, 2).into());
    let expired = NEW_TOKEN_LIFETIME + Duration::from_secs(60);
    let good = token(home, Duration::from_secs(60), TOKEN_KEY, 1);
    let cases = [
        // Before the log of used tokens has begun: it knows nothing of older ones.
        ("expired", token(home, expired, TOKEN_KEY, 2), 1.0),
        ("good", good.clone(), 0.0),
        ("used", good, 1.0),
        ("of another address", token(elsewhere, Duration::ZERO, TOKEN_KEY, 3), 1.0),
        ("of another gateway", token(home, Duration::ZERO, [9; 64], 4), 1.0),
        ("forged", vec![0x5a; 60], 1.0),
        ("short", vec![0x5a; 3], 1.0),
    ];
    for (what, token, asked) in cases {
        let before = harness.metric("gateway_reject_total", &["quic_retry"]).await;
        let end = connect_with(&harness, socket().await, token).await;
        assert!(end.is_none(), "a token that is {what} keeps nobody out: {end:?}");
        let after = harness.metric("gateway_reject_total", &["quic_retry"]).await;
        assert_eq!(after - before, asked, "was a client asked to prove itself whose token is {what}?");
    }
    harness.serves_a_bystander().await;
}

/// Counts the tokens it is given, and has none to give.
struct CountedTokens(AtomicUsize);

impl TokenStore for CountedTokens {
    fn insert(&self, _: &str, _: Bytes) {
        self.0.fetch_add(1, Relaxed);
    }

    fn take(&self, _: &str) -> Option<Bytes> {
        None
    }
}

/// quinn would give two, and each costs the gateway a place in its log of used ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_client_is_given_as_many_tokens_as_the_limits_say() {
    let harness = TestGateway::start().await;
    let tokens = Arc::new(CountedTokens(AtomicUsize::new(0)));
    let mut raw = RawQuic::new(harness.target.quic, Arc::clone(&tokens) as Arc<dyn TokenStore>).await;
    raw.until("a token", |raw| raw.is_confirmed() && tokens.0.load(Relaxed) > 0).await;
    // They come together, so one more would be there by now.
    assert_eq!(tokens.0.load(Relaxed), NEW_TOKENS as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_retry_token_that_is_old_or_of_another_address_is_refused_and_leaves_nothing() {
    let harness = distrustful().await;
    let (home, stranger) = (socket().await, socket().await);
    let address = Says::Retry(home.local_addr().unwrap());
    let old = token(address, RETRY_TOKEN_LIFETIME + Duration::from_secs(2), TOKEN_KEY, 1);
    let good = token(address, Duration::ZERO, TOKEN_KEY, 2);
    for (what, from, token) in [("old", socket_again(&home), old), ("stolen", stranger, good.clone())] {
        match connect_with(&harness, from, token).await {
            Some(ConnectionError::ConnectionClosed(close)) => {
                assert_eq!(u64::from(close.error_code), INVALID_TOKEN, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(harness.metric("gateway_connections_opened_total", &["quic"]).await, 0.0);
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0, "no attempt came as far as admission");
    // The same token from its own address in time is believed; the client knows of no Retry, and leaves.
    let end = connect_with(&harness, home, good).await;
    assert!(matches!(end, Some(ConnectionError::TransportError(_))), "{end:?}");
    harness.serves_a_bystander().await;
}

/// A gateway like that beside the first: another id and other keys, but this one for tokens.
async fn neighbour(token_key: [u8; 64]) -> TestGateway {
    TestGateway::with(|config| {
        config.id = "gate02".into();
        config.quic.as_mut().unwrap().keys = QuicKeys { reset: [7; 64], token: token_key, connection_id: 7 };
        config.limits.retry_from = 0;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_gateways_with_one_token_key_believe_each_others_new_tokens_and_others_ask_again() {
    let (home, partner, foreign) =
        (distrustful().await, neighbour(TOKEN_KEY).await, neighbour([9; 64]).await);
    let given = Arc::new(OneToken(Mutex::new(None)));
    let mut raw = RawQuic::new(home.target.quic, Arc::clone(&given) as Arc<dyn TokenStore>).await;
    raw.until("a token", |_| given.0.lock().unwrap().is_some()).await;
    let token = given.take("localhost").unwrap();
    let cases = [
        ("its maker's partner", &partner, 0.0),
        ("its maker's partner again", &partner, 1.0),
        ("a foreign gateway", &foreign, 1.0),
    ];
    for (what, harness, asked) in cases {
        let before = harness.metric("gateway_reject_total", &["quic_retry"]).await;
        let end = connect_with(harness, socket().await, token.to_vec()).await;
        assert!(end.is_none(), "{what} keeps nobody out: {end:?}");
        let after = harness.metric("gateway_reject_total", &["quic_retry"]).await;
        assert_eq!(after - before, asked, "does {what} ask for a proof?");
    }
}

/// A balancer may send the second Initial of a client elsewhere, when the set of gateways changed between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_gateways_with_one_token_key_believe_each_others_retry_tokens() {
    let (home, partner) = (distrustful().await, neighbour(TOKEN_KEY).await);
    let mut raw = RawQuic::new(home.target.quic, Arc::new(NoneTokenStore)).await;
    raw.flush().await;
    assert_eq!(raw.receive().await[0] & 0xf0, 0xf0, "a Retry");
    raw.to = partner.target.quic;
    raw.until("a handshake", |raw| raw.is_confirmed() || raw.lost.is_some()).await;
    assert!(raw.lost.is_none(), "{:?}", raw.lost);
    raw.sign_in("alice").await;
    assert_eq!(partner.login.signin("alice").await.session().account, "alice");
    assert_eq!(partner.metric("gateway_reject_total", &["quic_retry"]).await, 0.0);
    assert_eq!(home.metric("gateway_connections_opened_total", &["quic"]).await, 0.0);
}

/// A second handle to a socket.
fn socket_again(socket: &UdpSocket) -> UdpSocket {
    let again = socket2::SockRef::from(socket).try_clone().unwrap();
    UdpSocket::from_std(again.into()).unwrap()
}

/// A packet with a long header and two ids of eight bytes, and rubbish behind it.
fn long_header(first: u8, version: u32, size: usize) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend_from_slice(&version.to_be_bytes());
    for id in [0x11, 0x22] {
        packet.push(8);
        packet.extend_from_slice(&[id; 8]);
    }
    // No token, and the length of what follows.
    packet.push(0);
    packet.extend_from_slice(&(0x4000 | u16::try_from(size - packet.len() - 2).unwrap()).to_be_bytes());
    packet.resize(size, 0x77);
    packet
}

/// What is no attempt to connect, and how many answers it may bring.
pub(crate) async fn junk(gateway: SocketAddr) -> [(&'static str, Vec<u8>, usize); 12] {
    let mut honest = RawQuic::new(gateway, Arc::new(NoneTokenStore)).await;
    let initial = honest.datagrams().concat();
    assert_eq!(initial.len(), 1200);
    honest.socket.send_to(&initial, gateway).await.unwrap();
    let answer = honest.receive().await;

    let mut of_another_version = initial.clone();
    of_another_version[1..5].copy_from_slice(&0xff00_001d_u32.to_be_bytes());
    [
        ("another version", of_another_version.clone(), 1),
        ("another version, short", of_another_version[..1199].to_vec(), 0),
        ("a short Initial", initial[..1199].to_vec(), 0),
        ("an Initial that nobody sealed", long_header(0xc0, 1, 1200), 1),
        ("a Handshake packet", long_header(0xe0, 1, 1200), 0),
        ("an early packet", long_header(0xd0, 1, 1200), 0),
        ("a Retry", long_header(0xf0, 1, 1200), 0),
        ("a version negotiation", long_header(0xc0, 0, 1200), 0),
        ("a short header", vec![0x5a; 1200], 0),
        ("a short header, little", vec![0x5a; 22], 0),
        ("a byte", vec![0xff], 0),
        ("the gateway's own answer", answer, 1),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_what_is_no_attempt_to_connect_gets_no_answer_or_one_that_is_no_larger() {
    let harness = TestGateway::start().await;
    let cases = junk(harness.target.quic).await;
    for (what, packet, answers) in cases {
        let stranger = socket().await;
        stranger.send_to(&packet, harness.target.quic).await.unwrap();
        let sizes = sizes_until_quiet(&stranger, QUIET).await;
        println!("{what}: {} bytes brought {sizes:?}", packet.len());
        assert!(sizes.len() <= answers, "{what}: {sizes:?}");
        assert!(sizes.iter().all(|size| *size <= packet.len()), "{what}: {sizes:?} for {}", packet.len());
    }
    harness.serves_a_bystander().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_handshakes_that_never_end_lose_their_places_at_the_deadline() {
    let harness = TestGateway::with_limits(|limits| {
        limits.max_handshakes = 2;
        limits.handshake_deadline = Duration::from_secs(2);
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut raw = RawQuic::new(harness.target.quic, Arc::new(NoneTokenStore)).await;
        // It ends with the answer taken and nothing said to it.
        raw.until("an answer", |raw| raw.traffic.1 > 0).await;
        stalled.push(raw);
    }
    let mut third = RawQuic::new(harness.target.quic, Arc::new(NoneTokenStore)).await;
    assert_eq!(third.closed().await, CONNECTION_REFUSED, "every place is taken");
    harness.metric_is("gateway_reject_total", &["\"handshake_failed\""], 2.0).await;
    harness.serves_a_bystander().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c16_no_client_can_send_early_data() {
    let harness = TestGateway::start().await;
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut tls = identity::tls_client(&[identity::ALPN]);
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    // It would keep a ticket from one connection to the next.
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    for n in 0..2 {
        let connecting = endpoint.connect_with(config.clone(), harness.target.quic, "localhost").unwrap();
        let Err(connecting) = connecting.into_0rtt() else { panic!("connection {n} could send early data") };
        let connection = soon("a connection", connecting).await.unwrap();
        Raw::on(endpoint.clone(), connection).login(&format!("alice{n}")).await;
    }
    harness.serves_a_bystander().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c16_an_early_packet_behind_an_initial_is_dropped() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::new(harness.target.quic, Arc::new(NoneTokenStore)).await;
    let initial = raw.datagrams().concat();
    let ids_end = 6 + usize::from(initial[5]);
    let ids_end = ids_end + 1 + usize::from(initial[ids_end]);
    let mut early = vec![0xd0];
    early.extend_from_slice(&initial[1..ids_end]);
    early.extend_from_slice(&[0x44, 0x00]);
    early.resize(early.len() + 0x400, 0x77);
    for packet in [&initial, &early] {
        raw.socket.send_to(packet, harness.target.quic).await.unwrap();
    }
    raw.until("a handshake", |raw| raw.is_confirmed() || raw.lost.is_some()).await;
    assert!(raw.lost.is_none(), "{:?}", raw.lost);
    harness.serves_a_bystander().await;
}

/// Whoever saw the id of a connection can send such packets, from its address or another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_a_flood_of_rubbish_with_the_id_of_a_connection_neither_ends_it_nor_holds_up_others() {
    const PACKETS: usize = 20_000;
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    let (mut bob, _) = harness.client(Kind::QuicOne, "bob").await;
    let mut packet = vec![0x4f];
    packet.extend_from_slice(raw.id());
    packet.resize(200, 0x77);
    let stranger = socket().await;
    let since = Instant::now();
    let flood = async {
        for n in 0..PACKETS {
            packet[9..17].copy_from_slice(&n.to_be_bytes());
            let from = if n % 2 == 0 { &raw.socket } else { &stranger };
            from.send_to(&packet, harness.target.quic).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut served = 0;
    tokio::select! {
        () = flood => {}
        () = async {
            loop {
                let sequence = bob.talk("carol", "beside the flood").await;
                assert_eq!(bob.response(sequence).await.header.status, 0);
                served += 1;
            }
        } => unreachable!(),
    }
    println!("{PACKETS} packets in {:?}, {served} requests answered beside them", since.elapsed());
    assert!(served > 0, "nobody was served during the flood");
    raw.lives().await;
    println!("it lives {:?} after the first packet", since.elapsed());
    bob.heartbeat(true).await;
    harness.serves_a_bystander().await;
}

/// The most a path of IPv6 must carry as QUIC uses it (RFC 9000 section 14).
const NARROW: usize = 1200;

/// A path that drops every datagram above 1,200 bytes, silently and both ways. Returns where clients connect, and how
/// many were dropped on the way to the gateway and on the way from it.
async fn narrow_path(gateway: SocketAddr) -> (SocketAddr, Arc<[AtomicUsize; 2]>) {
    let (front, back) = (socket().await, socket().await);
    back.connect(gateway).await.unwrap();
    let address = front.local_addr().unwrap();
    let dropped = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counts = Arc::clone(&dropped);
    tokio::spawn(async move {
        let mut client = None;
        let (mut there, mut here) = ([0; 1 << 16], [0; 1 << 16]);
        loop {
            tokio::select! {
                received = front.recv_from(&mut there) => {
                    let (length, from) = received.unwrap();
                    client = Some(from);
                    if length > NARROW {
                        counts[0].fetch_add(1, Relaxed);
                    } else {
                        back.send(&there[..length]).await.unwrap();
                    }
                }
                received = back.recv(&mut here) => {
                    let length = received.unwrap();
                    if length > NARROW {
                        counts[1].fetch_add(1, Relaxed);
                    } else {
                        let client = client.expect("the client speaks first");
                        front.send_to(&here[..length], client).await.unwrap();
                    }
                }
            }
        }
    });
    (address, dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c23_large_messages_pass_a_path_that_drops_everything_above_1200_bytes() {
    const BODY: usize = 40 * 1024;
    let harness = TestGateway::start().await;
    let (address, dropped) = narrow_path(harness.target.quic).await;
    let mut alice = Raw::connect(Kind::QuicMany, &Target { quic: address, ..harness.target }).await;
    let channel = alice.login("alice").await;
    for n in 0..10 {
        let sequence = alice.request("chat.user.talk", "bob", &[7; BODY]).await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
        harness.chat.push(&[&channel], n, &[8; BODY]).await;
        assert_eq!(alice.push().await.body.len(), BODY);
    }
    let [inward, outward] = dropped.each_ref().map(|count| count.load(Relaxed));
    println!("dropped: {inward} probes of the client, {outward} datagrams of the gateway");
    assert!(inward > 0, "the path drops: the client looks for more");
    assert_eq!(outward, 0, "the gateway looks for no more than every path carries");
    harness.serves_a_bystander().await;
}
