//! One client of the load over QUIC: the connection, the stream that asks, and the one pushes come on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway_net::ack_frequency::ack_frequency;
use gateway_net::congestion;
use gateway_net::udp::unmarked;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{Frame, FrameDecoder, HEAD_LEN, Opcode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{BenchError, Trying as _};
use crate::frames;
use crate::role::speech::{AnswerKind, kind_of_payload};

/// The ALPN protocol of the wire (protocol §7).
pub(crate) const ALPN: &[u8] = b"x-im/1";

/// The name in the certificate.
const NAME: &str = "localhost";

/// As the client library has it.
const IDLE_MS: u32 = 120_000;

/// Receive window of a stream, bytes: a burst of pushes fits.
const WINDOW: u32 = 256 * 1024;

/// Largest frame a client is sent, bytes.
const MAX_FRAME: usize = 1024 * 1024;

/// Bytes of one read.
const READ: usize = 64 * 1024;

/// Buffers of the socket all clients share, bytes; the system may give less.
const UDP_BUFFER: usize = 4 * 1024 * 1024;

/// How long a handshake or a login may take.
pub(crate) const LOGIN: Duration = Duration::from_secs(20);

/// A socket for any number of clients.
pub(crate) fn endpoint() -> Result<Endpoint, BenchError> {
    let open = || -> std::io::Result<Endpoint> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let buffers = socket2::SockRef::from(&socket);
        // Less than asked for is no fault: QUIC repeats what the system drops.
        let _less = buffers.set_recv_buffer_size(UDP_BUFFER);
        let _less = buffers.set_send_buffer_size(UDP_BUFFER);
        let config = quinn::EndpointConfig::default();
        Endpoint::new_with_abstract_socket(config, None, unmarked(socket)?, Arc::new(quinn::TokioRuntime))
    };
    open().doing(|| "cannot open a UDP socket".to_owned())
}

/// TLS of a client that trusts a CA.
pub(crate) fn tls(ca: &Path) -> Result<rustls::ClientConfig, BenchError> {
    let broken = |error: &dyn std::fmt::Display| BenchError::failed(format!("{}: {error}", ca.display()));
    let certificate = CertificateDer::from_pem_file(ca).map_err(|error| broken(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| broken(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken(&error))?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(tls)
}

/// As the client library's, with a window for bursts and nothing that is sent by itself.
pub(crate) fn config(tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, BenchError> {
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| BenchError::failed(format!("TLS for QUIC: {error}")))?;
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(ack_frequency()))
        .congestion_controller_factory(congestion::lifting())
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(8 * WINDOW));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A stream of frames both ways.
pub(crate) struct FrameStream {
    pub(crate) send: SendStream,
    pub(crate) frames: AnswerReader,
}

/// Connects and opens the first stream.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    config: &quinn::ClientConfig,
    target: SocketAddr,
) -> Result<(Connection, FrameStream), BenchError> {
    let lost =
        |error: &dyn std::fmt::Display| BenchError::failed(format!("no connection to {target}: {error}"));
    let connecting = endpoint.connect_with(config.clone(), target, NAME).map_err(|error| lost(&error))?;
    let connection = connecting.await.map_err(|error| lost(&error))?;
    let (send, recv) = connection.open_bi().await.map_err(|error| lost(&error))?;
    Ok((connection, FrameStream { send, frames: AnswerReader::new(recv) }))
}

/// Signs in on the first stream.
pub(crate) async fn login(stream: &mut FrameStream, dialect: Dialect, token: &str) -> Result<(), BenchError> {
    stream.write(&frames::login(dialect, token)).await?;
    match stream.frames.next().await? {
        Some(frame) if kind_of_payload(&frame.payload) == AnswerKind::Success => Ok(()),
        other => Err(BenchError::failed(format!("a login was refused: {other:?}"))),
    }
}

impl FrameStream {
    pub(crate) async fn write(&mut self, frame: &Bytes) -> Result<(), BenchError> {
        let written = self.send.write_chunk(frame.clone()).await;
        written.map_err(|error| BenchError::failed(format!("a stream broke: {error}")))
    }
}

/// Frames of one stream.
pub(crate) struct AnswerReader {
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl AnswerReader {
    pub(crate) const fn new(recv: RecvStream) -> Self {
        Self { recv, decoder: FrameDecoder::new(MAX_FRAME) }
    }

    /// The next frame, none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, BenchError> {
        let broke = |error: &dyn std::fmt::Display| BenchError::failed(format!("a stream broke: {error}"));
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(|error| broke(&error))? {
                return Ok(Some(frame));
            }
            match self.recv.read_chunk(READ, true).await.map_err(|error| broke(&error))? {
                Some(chunk) => self.decoder.push(chunk.bytes),
                None => return Ok(None),
            }
        }
    }
}

/// What clients count together.
#[derive(Debug, Default)]
pub(crate) struct AnswerCounts {
    /// Answers or pushes.
    pub(crate) units: AtomicU64,
    /// What was none.
    pub(crate) wrong: AtomicU64,
}

fn kind_of_frame(frame: &Frame) -> AnswerKind {
    match frame.opcode {
        Opcode::Binary => kind_of_payload(&frame.payload),
        Opcode::Pong => AnswerKind::Pong,
        _ => AnswerKind::Other,
    }
}

/// Frames of one kind on one stream: the first is looked at, the others must have its length.
pub(crate) struct CheckedAnswers {
    kind: AnswerKind,
    len: Option<usize>,
}

impl CheckedAnswers {
    pub(crate) const fn new(kind: AnswerKind) -> Self {
        Self { kind, len: None }
    }

    /// AnswerCounts a frame.
    pub(crate) fn count(&mut self, frame: &Frame, counts: &AnswerCounts) {
        let len = HEAD_LEN + frame.payload.len();
        if self.len.is_none() && kind_of_frame(frame) == self.kind {
            self.len = Some(len);
        }
        counts.units.fetch_add(1, Ordering::Relaxed);
        if self.len != Some(len) {
            counts.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
}
