//! Accepts QUIC connections: the endpoint's configuration, admission, and a task for each connection.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::{hmac, rand};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    BloomTokenLog, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig,
    TokioRuntime, TransportConfig, ValidationTokenConfig, VarInt,
};
use quinn_proto::ConnectionIdGenerator;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::ack_frequency;
use crate::config::{Config, NoRandomness, Quic, QuicKeys, QuicLb, QuicLbKey};
use crate::congestion;
use crate::limits::{
    INITIAL_RTT, Limits, MAX_INCOMING, MAX_INCOMING_BYTES, MIN_RESET_INTERVAL, NEW_TOKEN_LIFETIME,
    NEW_TOKENS, RETRY_TOKEN_LIFETIME, TOKEN_LOG_BYTES, TOKEN_LOG_USES,
};
use crate::monitor::metrics::{Reject, Transport, WorkerMetrics};
use crate::server::admission::{
    Admitted, Entrance, HandshakeVerdict, Handshaking, NetworkShare, Newcomer, NewcomerStage,
};
use crate::server::connection::{Accepted, Connection, ConnectionContext};
use crate::server::lb_ids::LbIds;
use crate::server::path::Paths;
use crate::server::quic_transport::QuicTransport;
use crate::server::reaper::reap;
use crate::server::steering::{WorkerIds, WorkerSlot};
use crate::server::tls::{self, TlsParts};
use crate::udp::{QUIC_VERSION, unmarked};
use crate::wire::close::CloseReason;

/// The QUIC part of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuicEndpointError {
    /// Certificate and key, most likely.
    #[error("tls.cert and tls.key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// A limit that QUIC cannot express.
    #[error("limits.quic_idle is longer than QUIC can express")]
    Idle,
    /// rustls without the one cipher suite QUIC must have.
    #[error("the TLS library offers no cipher suite for QUIC")]
    CipherSuite,
    /// Nowhere to begin with the nonces of `quic.lb`.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// An endpoint on a bound socket, for the worker of this slot, and the addresses of its clients. Must be called within
/// the worker's runtime.
pub(crate) fn endpoint(
    socket: UdpSocket,
    gateway_id: &str,
    quic: &Quic,
    tls: &TlsParts,
    limits: &Limits,
    slot: WorkerSlot,
    metrics: &Arc<WorkerMetrics>,
) -> Result<(Endpoint, Arc<Paths>), QuicEndpointError> {
    let server = server_config(quic, tls, limits)?;
    let keys = AddressKeys::derive(&quic.keys, gateway_id, socket.local_addr()?, quic.lb.as_ref());
    let ids = id_generator(quic, &keys, slot, metrics)?;
    let config = endpoint_config(&keys, ids);
    let paths = Paths::new(server.clone(), Arc::clone(metrics), limits.write_stall);
    let socket = paths.guard(unmarked(socket)?);
    let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))?;
    Ok((endpoint, paths))
}

/// The keys of one listening address, the same for all workers there and after a restart.
///
/// A stateless reset for an id comes from whoever knows the key and not the connection: with one key for two addresses
/// anybody who saw an id could fetch the reset that ends its connection from the other address (row H8). The gateway's
/// id keeps apart gateways that share a file of keys by mistake.
struct AddressKeys {
    reset: hmac::Key,
    connection_id: u64,
    nonces: QuicLbKey,
}

impl AddressKeys {
    fn derive(keys: &QuicKeys, gateway_id: &str, address: SocketAddr, lb: Option<&QuicLb>) -> Self {
        let derive = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        // The parts cannot run into each other: neither an address nor a purpose holds a line feed.
        let text = |purpose| format!("{purpose}\n{address}\n{gateway_id}").into_bytes();
        // Under another configuration the same id may go to another client, who must not have the reset of the first
        // (draft-ietf-quic-load-balancers-21 section 9.5).
        let configuration = lb.map_or_else(Vec::new, |lb| {
            let key = lb.key.map_or_else(Vec::new, |key| key.0.to_vec());
            [&b"\n"[..], &[lb.config_id, lb.server_id.len() as u8], &lb.server_id, &key].concat()
        });
        let reset = derive(&keys.reset, &[text("stateless reset"), configuration].concat());
        let connection_id = derive(&keys.connection_id.to_be_bytes(), &text("connection id"));
        // One for all addresses: they draw from the same nonces.
        let nonces = derive(&keys.reset, format!("nonces\n{gateway_id}").as_bytes());
        Self {
            reset: hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref()),
            connection_id: u64::from_be_bytes(first_bytes(&connection_id)),
            nonces: QuicLbKey(first_bytes(&nonces)),
        }
    }
}

fn first_bytes<const N: usize>(tag: &hmac::Tag) -> [u8; N] {
    *tag.as_ref().first_chunk().expect("a tag of SHA-256 has 32 bytes")
}

type IdGenerator = Box<dyn Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync>;

/// Ids for a balancer, if there is one.
fn id_generator(
    quic: &Quic,
    keys: &AddressKeys,
    slot: WorkerSlot,
    metrics: &Arc<WorkerMetrics>,
) -> Result<IdGenerator, QuicEndpointError> {
    let metrics = Arc::clone(metrics);
    let Some(lb) = quic.lb.clone() else {
        let key = keys.connection_id;
        return Ok(Box::new(move || Box::new(WorkerIds::new(key, slot, Arc::clone(&metrics)))));
    };
    let key = keys.nonces;
    let mut start = [0; 8];
    rand::fill(&mut start).map_err(|_| NoRandomness)?;
    let start = u64::from_be_bytes(start);
    Ok(Box::new(move || Box::new(LbIds::new(&lb, &key, start, slot, Arc::clone(&metrics)))))
}

/// Reset key and connection ids outlive the process, so that a restarted gateway can tell its former peers at once
/// (row C19).
fn endpoint_config(keys: &AddressKeys, ids: IdGenerator) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(keys.reset.clone()));
    config.cid_generator(ids);
    config.min_reset_interval(MIN_RESET_INTERVAL);
    config.supported_versions(vec![QUIC_VERSION]);
    config
}

fn server_config(quic: &Quic, tls: &TlsParts, limits: &Limits) -> Result<ServerConfig, QuicEndpointError> {
    let tls = QuicServerConfig::try_from(Arc::new(tls.config(tls::ALPN)?))
        .map_err(|_| QuicEndpointError::CipherSuite)?;
    let token_key = aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, &[]).extract(&quic.keys.token);
    let mut config = ServerConfig::new(Arc::new(tls), Arc::new(token_key));
    config.transport_config(Arc::new(transport_config(limits)?));
    config.migration(quic.migration);
    config.max_incoming(MAX_INCOMING);
    config.incoming_buffer_size_total(MAX_INCOMING_BYTES);
    config.retry_token_lifetime(RETRY_TOKEN_LIFETIME);
    let mut tokens = ValidationTokenConfig::default();
    let log = BloomTokenLog::new_expected_items(TOKEN_LOG_BYTES, TOKEN_LOG_USES);
    tokens.lifetime(NEW_TOKEN_LIFETIME).sent(NEW_TOKENS).log(Arc::new(log));
    config.validation_token_config(tokens);
    Ok(config)
}

/// Connections that begin from now on are as this configuration says; those there are stay as they are. What TLS keeps,
/// tickets among it, stays.
pub(crate) fn follow(endpoint: &Endpoint, paths: &Paths, config: &Config) {
    let Some(quic) = &config.quic else { return };
    // A time that QUIC cannot express is refused with the configuration.
    let Ok(transport) = transport_config(&config.limits) else { return };
    let mut server = paths.server();
    server.transport_config(Arc::new(transport)).migration(quic.migration);
    endpoint.set_server_config(Some(server.clone()));
    paths.follow(server, config.limits.write_stall);
}

fn transport_config(limits: &Limits) -> Result<TransportConfig, QuicEndpointError> {
    let idle = IdleTimeout::try_from(limits.quic_idle).map_err(|_| QuicEndpointError::Idle)?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.quic_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(limits.quic_stream_window))
        .receive_window(VarInt::from_u32(limits.quic_connection_window))
        .send_window(u64::from(limits.quic_send_window))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(None)
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(ack_frequency::ack_frequency()))
        .congestion_controller_factory(congestion::lifting())
        .datagram_receive_buffer_size(None)
        // Messages are small: the probes would cost each login more than they ever bring.
        .mtu_discovery_config(None)
        .allow_spin(false);
    Ok(config)
}

/// The transport settings of connections under the limits of a configuration that names none.
pub(crate) fn default_transport() -> TransportConfig {
    transport_config(&Limits::default()).expect("QUIC can express the default limits")
}

/// Serves an endpoint until it is dropped. From the drain on, new connections are refused; the server configuration
/// stays, because without it clients would get no answer at all.
pub(crate) async fn serve(
    endpoint: Endpoint,
    paths: Arc<Paths>,
    shared: Rc<ConnectionContext>,
    drain: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                if let Some((incoming, attempt)) = screen(incoming, &shared, &drain) {
                    connections.spawn_local(serve_one(incoming, Arc::clone(&paths), Rc::clone(&shared), attempt));
                }
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => reap(ended, &shared.metrics),
        }
    }
}

/// A connection attempt that may shake hands.
struct ConnectionAttempt {
    at: Instant,
    handshaking: Handshaking,
    newcomer: Newcomer,
    /// Only where the address is proven. An address that is not may be anybody's: it is charged when the handshake is
    /// complete, which proves it.
    admitted: Option<(Admitted, NetworkShare)>,
}

/// Refuses or asks for address validation before any state is made (rows C2, C24).
fn screen(
    incoming: Incoming,
    shared: &ConnectionContext,
    drain: &CancellationToken,
) -> Option<(Incoming, ConnectionAttempt)> {
    if drain.is_cancelled() {
        shared.metrics.reject(Reject::Draining);
        incoming.refuse();
        return None;
    }
    let at = Instant::now();
    let Entrance { newcomers, quic, .. } = &shared.entrance;
    let verdict = quic.judge(incoming.remote_address_validated(), newcomers.are_many(), at);
    verdict.reject().into_iter().for_each(|reason| shared.metrics.reject(reason));
    match verdict {
        HandshakeVerdict::Begin(handshaking) => match arrive(&incoming, at, handshaking, shared) {
            Some(attempt) => return Some((incoming, attempt)),
            None => {
                shared.metrics.reject(Reject::QuicRefused);
                incoming.refuse();
            }
        },
        HandshakeVerdict::Prove => {
            // Only a validated address may not be asked again, and such a one is not.
            let _impossible = incoming.retry();
        }
        HandshakeVerdict::Refuse => incoming.refuse(),
    }
    None
}

fn arrive(
    incoming: &Incoming,
    at: Instant,
    handshaking: Handshaking,
    shared: &ConnectionContext,
) -> Option<ConnectionAttempt> {
    let (mut admitted, peer) = (None, incoming.remote_address().ip());
    // Who only pretends to come from there harms nobody but himself.
    if shared.admission.bars(peer, at) {
        shared.metrics.reject(Reject::Banned);
        return None;
    }
    if incoming.remote_address_validated() {
        let share = shared.admission.begin_handshake(peer, &shared.metrics)?;
        admitted = Some((shared.admission.admit(Transport::Quic, peer, at, &shared.metrics)?, share));
    } else if shared.admission.is_full() {
        // It would be refused behind a handshake.
        shared.metrics.reject(Reject::Connections);
        return None;
    }
    // Last: it sends others away.
    let newcomer = shared.entrance.newcomers.arrive(NewcomerStage::Handshake(Transport::Quic));
    if newcomer.is_none() {
        end_as(admitted.as_ref(), CloseReason::Overloaded);
    }
    Some(ConnectionAttempt { at, handshaking, newcomer: newcomer?, admitted })
}

fn end_as(admitted: Option<&(Admitted, NetworkShare)>, reason: CloseReason) {
    if let Some((admitted, _)) = admitted {
        admitted.set_reason(reason);
    }
}

async fn serve_one(
    incoming: Incoming,
    paths: Arc<Paths>,
    shared: Rc<ConnectionContext>,
    attempt: ConnectionAttempt,
) {
    let ConnectionAttempt { at, handshaking, newcomer, admitted } = attempt;
    let peer = incoming.remote_address().ip();
    let handshake = async {
        let (connecting, path) = paths.accept(incoming)?;
        Ok((connecting.await?, path))
    };
    let outcome = tokio::select! {
        biased;
        outcome = shared.entrance.quic.in_time(handshake) => outcome,
        // Dropping it tells the client.
        () = newcomer.must_go() => return end_as(admitted.as_ref(), CloseReason::Overloaded),
    };
    let (connection, path) = match outcome {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => {
            end_as(admitted.as_ref(), CloseReason::PeerLost);
            return report_handshake(&error, &shared.metrics);
        }
        None => {
            end_as(admitted.as_ref(), CloseReason::LoginTimeout);
            return shared.metrics.reject(Reject::HandshakeFailed);
        }
    };
    drop(handshaking);
    let admitted = match admitted {
        Some((admitted, _share)) => Some(admitted),
        None => shared.admission.admit(Transport::Quic, peer, Instant::now(), &shared.metrics),
    };
    let Some(admitted) = admitted else {
        let reason = shared.admission.why_not(peer);
        let code = VarInt::from_u32(reason.code().unwrap_or_default().into());
        return connection.close(code, reason.token().as_bytes());
    };
    let accepted = Accepted { admitted, newcomer, peer, at };
    Connection::new(QuicTransport::new(connection, path), shared, accepted).run().await;
}

/// TLS alert 120 in QUIC's numbering (RFC 9001 section 4.8): no application protocol in common.
const NO_APPLICATION_PROTOCOL: u64 = 0x178;

fn report_handshake(error: &ConnectionError, metrics: &WorkerMetrics) {
    let is_alpn = matches!(error, ConnectionError::TransportError(error)
        if u64::from(error.code) == NO_APPLICATION_PROTOCOL);
    metrics.reject(if is_alpn { Reject::Alpn } else { Reject::HandshakeFailed });
    debug!(%error, "QUIC handshake failed");
}
