//! What a ticket saves: the processor time of a QUIC login that resumes, beside that of one that does not.

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

/// A gateway that is measured, and where its clients come from.
struct Measured {
    serve: Serve,
    endpoint: quinn::Endpoint,
}

impl Measured {
    /// The gateway's processor time for so many logins: from the first packet to the answer. The sessions end behind it.
    async fn logins(&self, count: usize, mut ca: impl FnMut() -> TrustedCa) -> Duration {
        /// No more than tickets are kept for a server.
        const AT_ONCE: usize = 8;
        let before = processor_time(self.serve.child.id());
        let mut clients = Vec::new();
        for batch in 0..count / AT_ONCE {
            let logins: Vec<_> = (0..AT_ONCE)
                .map(|n| tokio::spawn(login(self.options(ca()), format!("account{}", batch * AT_ONCE + n))))
                .collect();
            for login in logins {
                clients.push(login.await.unwrap());
            }
        }
        let spent = processor_time(self.serve.child.id()) - before;
        for closing in clients.into_iter().map(|client| tokio::spawn(async move { client.close().await })) {
            closing.await.unwrap();
        }
        spent
    }

    fn options(&self, ca: TrustedCa) -> ConnectOptions {
        let mut options = ConnectOptions::quic(self.serve.target().quic.to_string(), ca);
        options.server_name = Some("localhost".into());
        options.endpoint = Some(self.endpoint.clone());
        options
    }
}

async fn login(options: ConnectOptions, account: String) -> Client {
    let (client, _pushes) = Client::connect(options).await.unwrap();
    client.login(&identity::token(&account)).await.unwrap();
    client
}

/// `just costs`, in a release build, for figures that mean something. All a ticket spares the gateway is its signature, so what it is worth depends on the certificate (docs/tokens-and-tls.md).
#[cfg(target_os = "linux")]
#[rstest]
#[case::p_256(KeyPair::generate().unwrap(), 1.0)]
#[case::rsa_2048(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(), 0.75)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges processor time, and runs alone"]
async fn c28_a_resumed_login_costs_less_than_a_whole_one(#[case] key: KeyPair, #[case] at_most: f64) {
    const BLOCKS: usize = 10;
    const LOGINS: usize = 400;
    let (place, _login, _chat, config) = home();
    let ca = certify(&place, &key);
    let command = place.gateway(&["serve", "--config", &config]);
    let overrides = [
        ("GATEWAY__LIMITS__ACCOUNT_LOGINS_PER_SECOND", "0"),
        ("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0"),
        ("GATEWAY__LIMITS__RETRY_FROM_RATE", "0"),
    ];
    let serve = Serve::run(command, 1, &overrides).await;
    let endpoint = quic_endpoint(serve.target().quic).unwrap();
    let gateway = Measured { serve, endpoint };
    let fresh = || TrustedCa::from_der([ca.clone()]).unwrap();
    let shared = fresh();
    gateway.logins(64, || shared.clone()).await;
    let (mut whole, mut resumed) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..BLOCKS {
        whole += gateway.logins(LOGINS, fresh).await;
        resumed += gateway.logins(LOGINS, || shared.clone()).await;
    }
    let ratio = resumed.as_secs_f64() / whole.as_secs_f64();
    let [whole, resumed] = [whole, resumed].map(|time| time / (BLOCKS * LOGINS) as u32);
    println!("a login costs the gateway {whole:?}, a resumed one {resumed:?}: ratio {ratio:.3}");
    assert!(ratio < at_most, "{ratio:.3}");
}
