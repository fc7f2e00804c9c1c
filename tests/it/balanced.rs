//! Two gateways behind a balancer that finds them by connection ids (QUIC-LB), and behind one that looks at addresses.

use std::net::UdpSocket;
use std::time::Duration;

use gateway::config::{QuicLb, QuicLbKey};
use quinn::ConnectionError;
use rstest::rstest;

use crate::support::balancer::{Balancer, Routing, by_address};
use crate::support::harness::TestGateway;
use crate::support::quic::{RawQuic, bytes_until_quiet, socket};
use crate::support::raw::Kind::{QuicMany, QuicOne};
use crate::support::raw::{Raw, Target};
use crate::support::soon;

const KEY: QuicLbKey = QuicLbKey([0x8f; 16]);

fn lb(server_id: Vec<u8>, nonce_length: usize, key: Option<QuicLbKey>) -> QuicLb {
    QuicLb { config_id: 3, server_id, nonce_length, key, encode_length: false }
}

/// Ids as the balancer of AWS reads them: 16 bytes in clear.
pub(crate) fn aws(server: u8) -> QuicLb {
    QuicLb { config_id: 0, ..lb(vec![server; 8], 7, None) }
}

/// Three bytes of server id, four of nonce.
fn four_passes(server: u8) -> QuicLb {
    lb(vec![0xaa, 0, server], 4, Some(KEY))
}

/// The longest ids there are, and a server id longer than the nonce.
fn longest(server: u8) -> QuicLb {
    lb(vec![server; 10], 9, Some(KEY))
}

fn single_pass(server: u8) -> QuicLb {
    lb(vec![server; 8], 8, Some(KEY))
}

/// The same for both gateways.
fn both(ids: fn(u8) -> QuicLb) -> [QuicLb; 2] {
    [1, 2].map(ids)
}

/// The second gateway has the next configuration already, with another key and other lengths.
fn in_change() -> [QuicLb; 2] {
    let next = QuicLb { config_id: 4, encode_length: true, ..lb(vec![2; 4], 8, Some(QuicLbKey([0x17; 16]))) };
    [four_passes(1), next]
}

/// Gateways with these ids behind a balancer.
struct Site {
    gateways: Vec<TestGateway>,
    balancer: Balancer,
}

impl Site {
    async fn start(routing: Routing, workers: usize, ids: [QuicLb; 2], quic_idle: Duration) -> Self {
        let mut gateways = Vec::new();
        for (index, ids) in ids.iter().enumerate() {
            let gateway = TestGateway::with(|config| {
                config.id = format!("gate0{}", index + 1);
                config.workers = workers;
                config.limits.quic_idle = quic_idle;
                config.quic.as_mut().unwrap().lb = Some(ids.clone());
            });
            gateways.push(gateway.await);
        }
        let servers = ids.into_iter().zip(&gateways);
        let servers = servers.map(|(ids, gateway)| (gateway.target.quic, ids)).collect();
        Self { balancer: Balancer::start(routing, servers).await, gateways }
    }

    /// A client that has signed in, with its gateway and its channel.
    async fn client(&self, number: usize) -> (Raw, usize, String) {
        let kind = if number.is_multiple_of(2) { QuicOne } else { QuicMany };
        let target = Target { quic: self.balancer.address, ..self.gateways[0].target };
        let mut raw = Raw::connect(kind, &target).await;
        let channel = raw.login(&format!("user{number}")).await;
        let gateway = if channel.starts_with("gate01") { 0 } else { 1 };
        (raw, gateway, channel)
    }

    async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.gateways[0].metric(name, labels).await + self.gateways[1].metric(name, labels).await
    }

    fn packets(&self, command: &str) -> usize {
        self.gateways.iter().map(|gateway| gateway.login.packets(command).len()).sum()
    }
}

/// Moves a client to another port, which a rule by addresses would lead to this gateway.
fn rebind(raw: &Raw, gateway: usize) {
    let port = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let fits = |socket: &UdpSocket| by_address(socket.local_addr().unwrap(), 2) == gateway;
    let socket = std::iter::repeat_with(port).find(fits).unwrap();
    raw.quic().0.rebind(socket).unwrap();
}

async fn is_served(raw: &mut Raw, text: &str) {
    let sequence = raw.talk("bob", text).await;
    assert_eq!(raw.response(sequence).await.header.status, 0, "{text}");
}

/// Every client changes its port, so that its address leads to the other gateway.
async fn clients_that_move_keep_their_sessions(clients: usize, workers: usize, ids: [QuicLb; 2]) {
    let site = Site::start(Routing::ServerId, workers, ids, Duration::from_secs(60)).await;
    let mut moved = Vec::new();
    for number in 0..clients {
        let (mut raw, gateway, channel) = site.client(number).await;
        is_served(&mut raw, "from home").await;
        moved.push((raw, gateway, channel));
    }
    let per_gateway = [0, 1].map(|index| moved.iter().filter(|(_, gateway, _)| *gateway == index).count());
    assert!(per_gateway.iter().all(|count| *count > 0), "both serve: {per_gateway:?}");
    let routed_before = *site.balancer.routed.lock().unwrap();

    for (raw, gateway, channel) in &mut moved {
        rebind(raw, 1 - *gateway);
        is_served(raw, "from elsewhere").await;
        let gate = channel.split('_').next().unwrap().to_owned();
        site.gateways[*gateway].chat.push_to(&gate, &[channel], 7, b"found you");
        assert_eq!(raw.push().await.header.sequence, 7);
    }

    let routed = *site.balancer.routed.lock().unwrap();
    assert_eq!(routed.1, routed_before.1, "no packet of a client that moved went where its address leads");
    assert_eq!(site.packets("login.signin"), clients, "nobody signed in twice");
    assert_eq!(site.packets("login.signout"), 0, "nobody was lost");
    assert_eq!(site.metric("gateway_connections", &["\"quic\""]).await, clients as f64);
    for reason in ["\"quic_other_server\"", "\"quic_misdirected\""] {
        assert_eq!(site.metric("gateway_reject_total", &[reason]).await, 0.0, "{reason}");
    }
    println!(
        "{clients} clients changed port, {per_gateway:?} by gateway: 0 second logins, {} packets by server id, {} by address",
        routed.0, routed.1
    );
}

#[rstest]
#[case::in_clear_as_aws(both(aws))]
#[case::four_passes(both(four_passes))]
#[case::longest(both(longest))]
#[case::single_pass(both(single_pass))]
#[case::two_configurations(in_change())]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c15_clients_that_change_port_behind_a_balancer_keep_their_sessions(#[case] ids: [QuicLb; 2]) {
    let workers = if cfg!(target_os = "linux") { 2 } else { 1 };
    clients_that_move_keep_their_sessions(30, workers, ids).await;
}

/// Run it alone: `just balancer`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time"]
async fn c15_five_hundred_clients_that_change_port_behind_a_balancer_keep_their_sessions() {
    let workers = if cfg!(target_os = "linux") { 4 } else { 1 };
    clients_that_move_keep_their_sessions(500, workers, both(four_passes)).await;
}

/// What the balancer is for: by addresses alone a client that moved arrives at a gateway that does not have it. That one
/// stays silent, so the session is not reset but lost in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c15_h8_by_addresses_alone_a_client_that_changes_port_is_lost_and_not_reset() {
    let site = Site::start(Routing::Address, 1, both(four_passes), Duration::from_secs(3)).await;
    let (mut raw, gateway, _) = site.client(0).await;
    is_served(&mut raw, "from home").await;
    rebind(&raw, 1 - gateway);
    raw.talk("bob", "from elsewhere").await;
    let ended = soon("the end of a connection that nobody answers", raw.quic().1.closed()).await;
    assert_eq!(ended, ConnectionError::TimedOut);
    let strangers =
        site.gateways[1 - gateway].metric("gateway_reject_total", &["\"quic_other_server\""]).await;
    assert!(strangers > 0.0, "its packets arrived at the other gateway");
}

#[rstest]
#[case::in_clear_as_aws(both(aws))]
#[case::four_passes(both(four_passes))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_a_gateway_is_silent_about_the_connections_of_another(#[case] ids: [QuicLb; 2]) {
    /// Longer than any timer of the gateway that answers a packet.
    const QUIET: Duration = Duration::from_millis(1500);
    let site = Site::start(Routing::ServerId, 1, ids, Duration::from_secs(60)).await;
    let [here, there] = [0, 1].map(|index| site.gateways[index].target.quic);
    let mut raw = RawQuic::connect(here).await;
    let packet = raw.sealed(&[0x01]);
    let stranger = socket().await;
    stranger.send_to(&packet, there).await.unwrap();
    assert_eq!(bytes_until_quiet(&stranger, QUIET).await, 0);
    site.gateways[1].metric_is("gateway_reject_total", &["\"quic_other_server\""], 1.0).await;
    raw.lives().await;
}
