//! The floor of an echo over QUIC: quinn alone, on one thread, with no thought about what it carries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use gateway_net::udp::unmarked;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, TransportConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Listening};
use crate::role::quic_client::ALPN;

/// Its name among the roles.
pub(crate) const NAME: &str = "quinn-echo";

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct QuinnEcho {
    pub(crate) listen: SocketAddr,
    /// Where the gateway's certificate is.
    pub(crate) certificates: PathBuf,
    /// Transport settings as quinn has them, and not the gateway's.
    pub(crate) is_stock: bool,
}

/// Bytes of one read.
const READ: usize = 64 * 1024;

pub(crate) fn run(argument: &str, gateways: fn() -> TransportConfig) -> Result<(), BenchError> {
    let config: QuinnEcho = control::parse(argument)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(|| "no runtime".to_owned())?.block_on(serve(config, gateways))
}

async fn serve(config: QuinnEcho, gateways: fn() -> TransportConfig) -> Result<(), BenchError> {
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto(&config.certificates)?));
    if !config.is_stock {
        server.transport_config(Arc::new(gateways()));
    }
    let open = || -> std::io::Result<Endpoint> {
        let socket = std::net::UdpSocket::bind(config.listen)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::EndpointConfig::default();
        if config.is_stock {
            return Endpoint::new(endpoint, Some(server), socket, runtime);
        }
        Endpoint::new_with_abstract_socket(endpoint, Some(server), unmarked(socket)?, runtime)
    };
    let endpoint = open().doing(|| "cannot listen for QUIC".to_owned())?;
    let address = endpoint.local_addr().doing(|| "cannot tell the address".to_owned())?;
    let (sender, mut questions) = mpsc::channel(1);
    control::each_question(move |()| sender.blocking_send(()).is_ok());
    control::answer(&Listening { address })?;
    loop {
        tokio::select! {
            Some(incoming) = endpoint.accept() => { tokio::spawn(connection(incoming)); }
            question = questions.recv() => if question.is_none() { return Ok(()) },
        }
    }
}

fn crypto(certificates: &std::path::Path) -> Result<QuicServerConfig, BenchError> {
    let failed = |error: &dyn std::fmt::Display| BenchError::failed(format!("the certificate: {error}"));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificates.join("server.pem"))
        .map_err(|error| failed(&error))?
        .collect();
    let key =
        PrivateKeyDer::from_pem_file(certificates.join("server.key")).map_err(|error| failed(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|error| failed(&error))?, key)
        .map_err(|error| failed(&error))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    QuicServerConfig::try_from(tls).map_err(|error| failed(&error))
}

/// Sends back what comes, until the connection ends.
async fn connection(incoming: Incoming) {
    let Ok(connection) = incoming.await else { return };
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = recv.read_chunk(READ, true).await {
                if send.write_chunk(chunk.bytes).await.is_err() {
                    return;
                }
            }
        });
    }
}
