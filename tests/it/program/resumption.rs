//! What a ticket saves: the processor time of a QUIC login that resumes, beside that of one that does not.

use std::time::Instant;

use gateway_client::{Client, ConnectOptions, TrustedCa};

use super::restart::{Serve, home};
use super::*;

/// User and system time of a process, in ticks of the clock.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Fields 14 and 15 of all, the first two of which are gone.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

async fn logins(count: usize, target: Target, mut ca: impl FnMut() -> TrustedCa) {
    const AT_ONCE: usize = 8;
    for _ in 0..count / AT_ONCE {
        let clients = (0..AT_ONCE).map(|n| {
            let mut options = ConnectOptions::quic(target.quic.to_string(), ca());
            options.server_name = Some("localhost".into());
            tokio::spawn(async move {
                let (client, _pushes) = Client::connect(options).await.unwrap();
                client.login(&identity::token(&format!("account{n}"))).await.unwrap();
                client.close().await;
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    }
}

/// Of the program that `GATEWAY_MEASURED` names: a release build, for figures that mean something.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges processor time, and runs alone"]
async fn c28_a_resumed_login_costs_at_most_0_65_of_a_whole_one() {
    const BLOCKS: usize = 10;
    const LOGINS: usize = 400;
    let (place, _login, _chat, config) = home();
    let mut command = place.gateway(&["serve", "--config", &config]);
    if let Some(program) = std::env::var_os("GATEWAY_MEASURED") {
        command = Command::new(program);
        command.args(["serve", "--config", &config]).current_dir(&place.0).stdin(Stdio::piped());
    }
    let overrides = [
        ("GATEWAY__LIMITS__ACCOUNT_LOGINS_PER_SECOND", "0"),
        ("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0"),
        ("GATEWAY__LIMITS__RETRY_FROM_RATE", "0"),
    ];
    let serve = Serve::run(command, 1, &overrides).await;
    let process = serve.child.id();
    let fresh = || TrustedCa::from_der([identity::CERTIFICATES.ca.clone()]).unwrap();
    let shared = fresh();
    logins(64, serve.target(), || shared.clone()).await;
    let (mut whole, mut resumed) = (0, 0);
    let begun = Instant::now();
    for _ in 0..BLOCKS {
        let before = ticks(process);
        logins(LOGINS, serve.target(), fresh).await;
        let between = ticks(process);
        logins(LOGINS, serve.target(), || shared.clone()).await;
        whole += between - before;
        resumed += ticks(process) - between;
    }
    let share = resumed as f64 / whole as f64;
    let count = BLOCKS * LOGINS;
    println!(
        "{count} whole logins: {whole} ticks, {count} resumed: {resumed} ticks, ratio {share:.3}; {:?}",
        begun.elapsed()
    );
    assert!(share <= 0.65, "{share:.3}");
}
