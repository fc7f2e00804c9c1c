//! Clients whose network is gone: nothing says so, neither a FIN nor a reset (row D1). It takes a network of its own,
//! so the tests run themselves once more within one; where that is not permitted they say so and pass.
#![cfg(target_os = "linux")]

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, Tcp, Tls, Ws, Wss};
use crate::support::raw::Target;
use crate::support::{PATIENCE, soon};

/// Set in the run within a network of its own.
const WITHIN: &str = "GATEWAY_TEST_WITHIN";

/// Makes a network that is this test's alone, with its loopback up and a rule that can be added to.
const NETWORK: &str = "ip link set lo up && nft add table ip t && \
                       nft 'add chain ip t input { type filter hook input priority 0; }' && exec \"$@\"";

/// True within the network. Outside it runs the test there and checks its outcome.
async fn is_within(test: &str) -> bool {
    if std::env::var_os(WITHIN).is_some() {
        return true;
    }
    let permitted = run(unshare(&["true"])).await;
    if !permitted.is_ok_and(|output| output.status.success()) {
        println!("skipped: no network namespaces with nftables here");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = unshare(&[program.to_str().unwrap(), test, "--exact", "--nocapture"]);
    command.env(WITHIN, "1");
    let output = run(command).await.unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn unshare(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", NETWORK, "sh"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// Runs a program to its end without holding up the test's runtime.
async fn run(mut command: Command) -> std::io::Result<Output> {
    soon("the end of a program", tokio::task::spawn_blocking(move || command.output())).await.unwrap()
}

/// Whatever the clients of these ports send is lost from now on.
async fn lose(port: u16) {
    let rule = ["add", "rule", "ip", "t", "input", "tcp", "dport", &port.to_string(), "drop"];
    let mut command = Command::new("nft");
    command.args(rule);
    let output = run(command).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[rstest]
#[case::tcp(Tcp, "vanishing::d1_a_client_that_acknowledges_nothing_is_signed_out_once_as_lost::case_1_tcp")]
#[case::tls(Tls, "vanishing::d1_a_client_that_acknowledges_nothing_is_signed_out_once_as_lost::case_2_tls")]
#[case::ws(Ws, "vanishing::d1_a_client_that_acknowledges_nothing_is_signed_out_once_as_lost::case_3_ws")]
#[case::wss(Wss, "vanishing::d1_a_client_that_acknowledges_nothing_is_signed_out_once_as_lost::case_4_wss")]
#[tokio::test]
async fn d1_a_client_that_acknowledges_nothing_is_signed_out_once_as_lost(
    #[case] kind: Kind,
    #[case] test: &str,
) {
    if !is_within(test).await {
        return;
    }
    let user_timeout = Duration::from_secs(1);
    let harness = TestGateway::with_limits(|limits| limits.tcp_user_timeout = user_timeout).await;
    let (_alice, channel) = harness.client(kind, "alice").await;
    let Target { tcp, tls, ws, wss, .. } = harness.target;
    let address = match kind {
        Tcp => tcp,
        Ws => ws,
        Wss => wss,
        _ => tls,
    };
    lose(address.port()).await;
    let since = Instant::now();
    harness.chat.push(&[&channel], 1, b"into the void").await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "peer_lost");
    let took = since.elapsed();
    // Far from the 130 s of read-idle, and from the quarter of an hour the kernel tries by itself.
    assert!(took >= user_timeout / 2 && took < PATIENCE / 2, "{took:?}");
    println!("lost {took:?} after the first byte nobody acknowledged");
    harness.metric_is("gateway_connections", &[], 0.0).await;
    assert_eq!(harness.login.packets("login.signout").len(), 1, "once");
}
