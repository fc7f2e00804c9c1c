//! `auto` of the client library through a real gateway: what is used where UDP is blocked, and that there is one login
//! (row C22).

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use gateway::wire::command::LOGIN_SIGNIN;
use gateway_client::{Auto, Client, ConnectError, Connected, Plain, Requests as _, Transport, TrustedCa};
use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::identity::{CERTIFICATES, token};
use crate::support::soon;

/// The promise: signed in, and the first message answered, within it where UDP is blocked.
const PROMISED: Duration = Duration::from_secs(1);

fn ca() -> TrustedCa {
    TrustedCa::from_der(vec![CERTIFICATES.ca.clone()]).unwrap()
}

/// An `auto` towards this address for QUIC and plain TCP, and the TLS port of the bench.
fn auto(harness: &TestGateway, server: SocketAddr) -> Auto {
    let mut auto = Auto::new(server.to_string(), ca());
    auto.tls_port = harness.target.tls.port();
    auto
}

/// Signs in, sends one message, and leaves; then exactly one login has reached the service.
async fn talk_and_leave(harness: &TestGateway, client: &Client) -> Duration {
    let begun = Instant::now();
    client.login(&token("alice")).await.unwrap();
    assert!(client.request("chat.user.talk", "bob", "").await.unwrap().is_success());
    let took = begun.elapsed();
    let channel = client.session().unwrap().channel_id.clone();
    client.close().await;
    harness.login.signout(&channel).await;
    assert_eq!(harness.login.packets(LOGIN_SIGNIN).len(), 1, "one login, whoever took part in the race");
    took
}

/// By a port that is closed, of which the system tells, and by one where nobody answers.
#[rstest]
#[tokio::test]
async fn c22_with_udp_blocked_the_first_message_is_answered_over_tls_within_a_second(
    #[values(true, false)] silent: bool,
) {
    let harness = TestGateway::start().await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let auto = auto(&harness, udp.local_addr().unwrap());
    let _udp = silent.then_some(udp);
    let begun = Instant::now();
    let Connected { client, pushes: _pushes, .. } = soon("a connection", auto.connect()).await.unwrap();
    let connected = begun.elapsed();
    assert_eq!(client.transport(), Transport::Tls);
    let talked = talk_and_leave(&harness, &client).await;
    println!(
        "UDP blocked, silent={silent}: connected after {connected:?}, first answer after {:?}",
        connected + talked
    );
    assert!(connected + talked < PROMISED, "{connected:?} + {talked:?}");
    assert_eq!(harness.metric("gateway_auto_logins_total", &["transport=\"tls\""]).await, 1.0);
    assert_eq!(harness.metric("gateway_auto_logins_total", &[]).await, 1.0);
    assert_eq!(auto.memory.remembered(&auto.options.server), Some(Transport::Tls));
}

#[tokio::test]
async fn c22_quic_wins_where_both_work_and_there_is_one_login() {
    let harness = TestGateway::start().await;
    let auto = auto(&harness, harness.target.quic);
    let Connected { client, failed, .. } = soon("a connection", auto.connect()).await.unwrap();
    assert_eq!(client.transport(), Transport::Quic);
    assert!(failed.is_empty());
    talk_and_leave(&harness, &client).await;
    assert_eq!(harness.metric("gateway_auto_logins_total", &["transport=\"quic\""]).await, 1.0);
}

/// Who does not believe the gateway's certificate stays away from its plain port, too.
#[tokio::test]
async fn c22_a_stranger_with_a_certificate_of_its_own_gets_no_token_in_clear() {
    let harness = TestGateway::start().await;
    let mut stranger = rcgen::CertificateParams::new(Vec::new()).unwrap();
    stranger.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let believed = stranger.self_signed(&key).unwrap().der().clone();
    // Plain TCP would work there.
    let mut auto = auto(&harness, harness.target.tcp);
    auto.options.ca = Some(TrustedCa::from_der(vec![believed]).unwrap());
    auto.options.connect_timeout = Duration::from_secs(2);
    auto.allow_plain = true;
    let error = soon("the refusal", auto.connect()).await.unwrap_err();
    let ConnectError::NoTransport(tried) = &error else { panic!("{error:?}") };
    assert_eq!(tried.plain, Plain::Withheld, "{error}");
    assert!(error.to_string().contains("pretends to be the gateway"), "{error}");
    assert_eq!(harness.login.packets(LOGIN_SIGNIN).len(), 0);
    harness.metric_is("gateway_connections", &["transport=\"tcp\""], 0.0).await;
}
