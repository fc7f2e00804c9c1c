//! `gateway chat` replaces its token before it runs out.

use std::io::Read as _;

use super::*;
use crate::support::harness::TestGateway;
use crate::support::identity::SECRET;

#[tokio::test]
async fn b23_a_chat_renews_its_token_and_stays_where_sessions_end_with_theirs() {
    let harness = TestGateway::with(|config| {
        config.leeway = Duration::ZERO;
        config.on_expiry = gateway::config::OnExpiry::Close(Duration::ZERO);
    })
    .await;
    let place = Place::new();
    fs::write(place.0.join("jwt.secret"), SECRET).unwrap();
    let server = harness.target.tcp.to_string();
    let arguments = [
        "chat",
        "--account",
        "bob",
        "--transport",
        "tcp",
        "--server",
        &server,
        "--secret-file",
        "jwt.secret",
        "--ttl",
        "4s",
    ];
    let mut child = place.gateway(&arguments).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    // Twice as long as a token lives, and each is renewed when half of its time is over.
    harness.metric_is("gateway_renewals_total", &["\"ok\""], 4.0).await;
    assert_eq!(harness.metric("gateway_logins_total", &["\"ok\""]).await, 1.0, "it never had to come back");
    drop(child.stdin.take());
    tokio::task::spawn_blocking(move || finish(child)).await.unwrap();
    let mut lines = String::new();
    stdout.read_to_string(&mut lines).unwrap();
    assert!(lines.contains("online account=bob") && !lines.contains("token_expired"), "{lines}");
}
