//! What a ticket saves: the processor time of a QUIC login that resumes, beside that of one that does not.

use std::time::Instant;

use gateway_client::{Client, ConnectOptions, TrustedCa, quic_endpoint};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rstest::rstest;
use rustls::pki_types::CertificateDer;

use super::restart::{Serve, home};
use super::*;

/// Processor time of all threads of a process.
fn processor_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = threads.map(|thread| {
        let text = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Gives the gateway of this place a certificate for this key, and returns the authority that signed it.
fn certify(place: &Place, key: &KeyPair) -> CertificateDer<'static> {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&authority_key).unwrap().der().clone();
    let issuer = Issuer::new(authority, authority_key);
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(key, &issuer).unwrap();
    fs::write(place.0.join("server.pem"), leaf.pem()).unwrap();
    fs::write(place.0.join("server.key"), key.serialize_pem()).unwrap();
    ca
}

/// Clients that connect, sign in and leave.
async fn logins(count: usize, endpoint: &quinn::Endpoint, target: Target, mut ca: impl FnMut() -> TrustedCa) {
    // No more than tickets are kept for a server.
    const AT_ONCE: usize = 8;
    for _ in 0..count / AT_ONCE {
        let clients = (0..AT_ONCE).map(|n| {
            let mut options = ConnectOptions::quic(target.quic.to_string(), ca());
            options.server_name = Some("localhost".into());
            options.endpoint = Some(endpoint.clone());
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

/// Of the program that `GATEWAY_MEASURED` names: a release build, for figures that mean something. All a ticket spares the
/// gateway is its signature, so what it is worth depends on the certificate.
#[cfg(target_os = "linux")]
#[rstest]
#[case::p_256(KeyPair::generate().unwrap(), 1.0)]
#[case::rsa_2048(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(), 0.85)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges processor time, and runs alone"]
async fn c28_a_resumed_login_costs_less_than_a_whole_one(#[case] key: KeyPair, #[case] at_most: f64) {
    const BLOCKS: usize = 10;
    const LOGINS: usize = 400;
    let (place, _login, _chat, config) = home();
    let ca = certify(&place, &key);
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
    let endpoint = quic_endpoint(serve.target().quic).unwrap();
    let fresh = || TrustedCa::from_der([ca.clone()]).unwrap();
    let shared = fresh();
    logins(64, &endpoint, serve.target(), || shared.clone()).await;
    let (mut whole, mut resumed) = (Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    for _ in 0..BLOCKS {
        let before = processor_time(serve.child.id());
        logins(LOGINS, &endpoint, serve.target(), fresh).await;
        let between = processor_time(serve.child.id());
        logins(LOGINS, &endpoint, serve.target(), || shared.clone()).await;
        whole += between - before;
        resumed += processor_time(serve.child.id()) - between;
    }
    let ratio = resumed.as_secs_f64() / whole.as_secs_f64();
    let [whole, resumed] = [whole, resumed].map(|time| time / (BLOCKS * LOGINS) as u32);
    println!(
        "a login: {whole:?} of the gateway, resumed {resumed:?}, ratio {ratio:.3}; {:?}",
        begun.elapsed()
    );
    assert!(ratio < at_most, "{ratio:.3}");
}
