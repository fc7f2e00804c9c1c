//! quinn as a client of the harness: the gateway's own stack, without what the gateway puts around it.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[tokio::main]
async fn main() {
    let (server, ca) = lines::arguments();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
    let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"x-im/1".to_vec()];
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(120).try_into().expect("it is short")));
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let connecting = endpoint.connect_with(config, server, "localhost").expect("a connection");
    let connection = connecting.await.expect("a handshake");
    println!("connected");
    let (mut send, recv) = connection.open_bi().await.expect("a stream");
    tokio::spawn(show(0, recv));
    let accepting = connection.clone();
    tokio::spawn(async move {
        while let Ok(recv) = accepting.accept_uni().await {
            tokio::spawn(show(3, recv));
        }
        println!("closed {}", accepting.closed().await);
    });
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    lines::read(move |line| {
        let _gone = sender.send(line);
    });
    while let Some(Some(data)) = told.recv().await {
        send.write_all(&data).await.expect("the connection lives");
    }
    connection.close(0u32.into(), b"bye");
    endpoint.wait_idle().await;
}

async fn show(stream: u64, mut recv: quinn::RecvStream) {
    while let Ok(Some(chunk)) = recv.read_chunk(1 << 16, true).await {
        lines::show(stream, &chunk.bytes);
    }
}
