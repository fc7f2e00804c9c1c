//! A connection over whatever gets through: QUIC, else TLS, else WebSocket over TLS, and plain TCP only where that is
//! allowed.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::connect::start;
use crate::connect_error::{ConnectError, NoTransport, Plain, is_not_reached};
use crate::connected::Connected;
use crate::handshake::{Established, establish, resolve, timed_out};
use crate::options::{ConnectOptions, Transport};
use crate::quic;
use crate::race::race;
use crate::transport_cache::TransportCache;
use crate::trust::TrustedCa;
use gateway_wire::close::CloseReason;

/// How long the transport that is tried first is alone: three of the round trips QUIC assumes, and short enough that a
/// person does not notice it where UDP is blocked.
const HEAD_START: Duration = Duration::from_millis(300);

/// How long QUIC may still take once TLS has failed and plain TCP is next: with the head start almost a second, in
/// which a lost first packet has been sent again.
const QUIC_ALONE: Duration = Duration::from_millis(500);

/// The port for QUIC and plain TCP of `gateway dev`.
const DEV_PORT: u16 = 8000;

/// The port for TLS is so much above that for QUIC and plain TCP: 8443 beside 8000.
const TLS_DISTANCE: u16 = 443;

/// And that for WebSocket: 8002 beside 8000.
const WS_DISTANCE: u16 = 2;

/// And that for WebSocket over TLS: 8444 beside 8000.
const WSS_DISTANCE: u16 = 444;

/// The port for TLS of a `host:port`, unless it is told otherwise: 443 above, as `gateway dev` has it.
pub fn default_tls_port(server: &str) -> u16 {
    above(server, TLS_DISTANCE)
}

/// The port for WebSocket of a `host:port`, unless it is told otherwise: 2 above, as `gateway dev` has it.
pub fn default_ws_port(server: &str) -> u16 {
    above(server, WS_DISTANCE)
}

/// The port for WebSocket over TLS of a `host:port`, unless it is told otherwise: 444 above, as `gateway dev` has it.
pub fn default_wss_port(server: &str) -> u16 {
    above(server, WSS_DISTANCE)
}

/// The port so much above that of a `host:port`, or above 8000 where there is none.
fn above(server: &str, distance: u16) -> u16 {
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.and_then(|port| port.checked_add(distance)).unwrap_or(DEV_PORT + distance)
}

/// Connects over the transport that gets through. Make one per program, so that it remembers.
///
/// * QUIC is tried first. When it has not connected after 300 ms, or has failed, TLS is tried beside it, and 300 ms later
///   WebSocket over TLS, which passes where only the web does. The first whose handshake is done is used and the others
///   dropped; only then comes the login, so there is one.
/// * What won instead of QUIC is first for 10 minutes, and the others are tried only if it fails or takes more than 300 ms.
///   The first connection after that time is still made over it without delay, and what comes before it is tried in the
///   background: what gets through is first from then on; else it stays as it is for 10 more minutes.
/// * Plain TCP shows the token to everyone on the way. It is tried last, when nothing got through, and only to addresses
///   of this machine, or with [`allow_plain`](Self::allow_plain). A server that was reached and not believed, or that
///   refused, is not tried over plain TCP. On this machine a half of the time to connect is kept for it; towards another
///   one the others have all of the time, and plain TCP as much again: a slow way must not show the token.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Auto {
    /// `server` is for QUIC and plain TCP; `transport` is not looked at; the times count for all attempts together.
    pub options: ConnectOptions,
    /// The port for TLS on the same host. Default: [`default_tls_port`].
    pub tls_port: u16,
    /// The port for WebSocket over TLS on the same host, often 443. Default: [`default_wss_port`].
    pub wss_port: u16,
    /// Whether the token may travel in clear to another machine. Default: no.
    pub allow_plain: bool,
    /// What won instead of QUIC. Share one among several of these.
    pub memory: TransportCache,
}

impl Auto {
    /// To `host:port`, whose certificate was signed by `ca`.
    pub fn new(server: impl Into<String>, ca: TrustedCa) -> Self {
        let options = ConnectOptions::quic(server, ca);
        let (tls_port, wss_port) = (default_tls_port(&options.server), default_wss_port(&options.server));
        Self { options, tls_port, wss_port, allow_plain: false, memory: TransportCache::new() }
    }

    /// Connects. Dropped halfway, nothing is left behind.
    ///
    /// # Errors
    /// [`ConnectError::NoTransport`] with everything that was tried; [`ConnectError::Address`] and
    /// [`ConnectError::Resolve`] when there is no address to try.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        let begun = Instant::now();
        let deadline = begun + self.options.connect_timeout;
        let addresses = resolve(&self.options, deadline).await?;
        let plain: Vec<SocketAddr> =
            addresses.iter().copied().filter(|&address| may_be_plain(address, self.allow_plain)).collect();
        let is_near = !plain.is_empty() && plain.iter().all(|address| may_be_plain(*address, false));
        let half = self.options.connect_timeout / 2;
        let (encrypted_until, deadline) = match (plain.is_empty(), is_near) {
            (true, _) => (deadline, deadline),
            (false, true) => (begun + half, deadline),
            (false, false) => (deadline, deadline + self.options.connect_timeout),
        };
        let mut failed = match self.encrypted(&addresses, encrypted_until, is_near).await {
            Ok((won, failed)) => return Ok(self.connected(won, failed)),
            Err(failed) => failed,
        };
        let plain_follows = match are_not_reached(&failed) {
            false => Plain::Withheld,
            true if plain.is_empty() => Plain::NotAllowed,
            true => Plain::Tried,
        };
        if plain_follows == Plain::Tried {
            match establish(&self.over(Transport::Tcp), &plain, deadline).await {
                Ok(won) => return Ok(self.connected(won, failed)),
                Err(error) => failed.push((Transport::Tcp, error)),
            }
        }
        let (server, tls_port, wss_port) = (self.options.server.clone(), self.tls_port, self.wss_port);
        let (tried, plain) = (failed, plain_follows);
        Err(ConnectError::NoTransport(NoTransport { server, tls_port, wss_port, tried, plain }))
    }

    fn connected(&self, won: Established, failed: Vec<Failed>) -> Connected {
        let (client, pushes) = start(&self.options, won);
        client.set_auto();
        Connected { client, pushes, failed }
    }

    /// Where a connection over this transport goes, `host:port`.
    pub(super) fn address(&self, transport: Transport) -> String {
        self.over(transport).server
    }

    /// The options of one attempt.
    fn over(&self, transport: Transport) -> ConnectOptions {
        let mut options = ConnectOptions { transport, ..self.options.clone() };
        if let (Some(port), Some((host, _))) = (self.own_port(transport), options.server.rsplit_once(':')) {
            options.server = format!("{host}:{port}");
        }
        options
    }

    /// The port of a transport that does not share that of `server`.
    const fn own_port(&self, transport: Transport) -> Option<u16> {
        match transport {
            Transport::Tls => Some(self.tls_port),
            Transport::Wss => Some(self.wss_port),
            Transport::Quic | Transport::Tcp | Transport::Ws => None,
        }
    }

    /// One attempt over a transport.
    async fn attempt(&self, transport: Transport, addresses: &[SocketAddr], deadline: Instant) -> Done {
        let mut addresses = addresses.to_vec();
        if let Some(port) = self.own_port(transport) {
            addresses.iter_mut().for_each(|address| address.set_port(port));
        }
        // Boxed: three of them stand side by side in one future.
        match Box::pin(establish(&self.over(transport), &addresses, deadline)).await {
            Ok(won) => Ok((won, Vec::new())),
            Err(error) => Err(vec![(transport, error)]),
        }
    }

    /// What is encrypted, in the order the memory suggests.
    async fn encrypted(&self, addresses: &[SocketAddr], deadline: Instant, plain_is_near: bool) -> Done {
        let server = &self.options.server;
        let no_tls = Notify::new();
        let quic = async {
            let cut = async {
                no_tls.notified().await;
                sleep(QUIC_ALONE).await;
            };
            tokio::select! {
                biased;
                done = self.attempt(Transport::Quic, addresses, deadline) => done,
                () = cut => Err(vec![(Transport::Quic, timed_out(&self.over(Transport::Quic)))]),
            }
        };
        let tls = async {
            let done = self.attempt(Transport::Tls, addresses, deadline).await;
            if plain_is_near && done.as_ref().is_err_and(|failed| are_not_reached(failed)) {
                no_tls.notify_one();
            }
            done
        };
        let wss = self.attempt(Transport::Wss, addresses, deadline);
        let remembered = self.memory.remembered(server);
        let mut raced = match remembered {
            Some(Transport::Tls) => in_turn(tls, in_turn(quic, wss)).await,
            Some(Transport::Wss) => in_turn(wss, in_turn(quic, tls)).await,
            _ => in_turn(quic, in_turn(tls, wss)).await,
        };
        match &raced {
            Ok((Established::Quic(_), _)) => self.memory.quic_won(server),
            Ok((won, _)) if remembered == Some(won.transport()) => self.probe(addresses, won.transport()),
            Ok((won, _)) => self.memory.won(server, won.transport()),
            Err(_) => {}
        }
        let (Ok((_, failed)) | Err(failed)) = &mut raced;
        failed.sort_by_key(|(transport, _)| ORDER.iter().position(|other| other == transport));
        raced
    }

    /// Tries what comes before this transport in the background, if that is due.
    fn probe(&self, addresses: &[SocketAddr], before: Transport) {
        self.memory.probe(&self.options.server, || {
            let (auto, addresses) = (self.clone(), addresses.to_vec());
            async move {
                let deadline = Instant::now() + auto.options.connect_timeout;
                let quic = auto.attempt(Transport::Quic, &addresses, deadline);
                let won = match before {
                    Transport::Wss => in_turn(quic, auto.attempt(Transport::Tls, &addresses, deadline)).await,
                    _ => quic.await,
                };
                let (won, _) = won.ok()?;
                if let Established::Quic(quic) = &won {
                    // Before the streams are dropped, which would finish them one by one.
                    quic::close(&quic.connection, CloseReason::Bye);
                }
                Some(won.transport())
            }
        });
    }
}

/// What is encrypted, in the order in which it is tried where nothing is remembered.
const ORDER: [Transport; 3] = [Transport::Quic, Transport::Tls, Transport::Wss];

/// What came of attempts: the first that succeeded, and those that had failed before; or all of them.
type Done = Result<(Established, Vec<Failed>), Vec<Failed>>;

/// One after the other, the second when the first has failed or its head start is over.
async fn in_turn(first: impl Future<Output = Done>, second: impl Future<Output = Done>) -> Done {
    match race(first, second, sleep(HEAD_START)).await {
        Ok(((won, mut failed), others)) => {
            failed.extend(others.into_iter().flatten());
            Ok((won, failed))
        }
        Err((mut failed, others)) => {
            failed.extend(others);
            Err(failed)
        }
    }
}

/// Returns `true` if no attempt reached anybody.
fn are_not_reached(failed: &[Failed]) -> bool {
    failed.iter().all(|(transport, error)| is_not_reached(*transport, error))
}

/// An attempt that failed.
type Failed = (Transport, ConnectError);

/// Returns `true` if a token may travel to this address in clear.
fn may_be_plain(address: SocketAddr, allowed: bool) -> bool {
    allowed || address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_travels_in_clear_on_this_machine_or_where_it_is_allowed() {
        for (address, here) in [
            ("127.0.0.1:8000", true),
            ("127.9.9.9:8000", true),
            ("[::1]:8000", true),
            ("[::ffff:127.0.0.1]:8000", true),
            ("10.0.0.1:8000", false),
            ("192.168.1.2:8000", false),
            ("0.0.0.0:8000", false),
            ("[::]:8000", false),
            ("[fe80::1]:8000", false),
            ("[::ffff:10.0.0.1]:8000", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(may_be_plain(address, false), here, "{address}");
            assert!(may_be_plain(address, true), "{address}");
        }
    }

    #[test]
    fn each_listener_has_a_port_above_that_of_quic_unless_it_is_told() {
        for (server, ports) in [
            ("127.0.0.1:8000", [8002, 8443, 8444]),
            ("[::1]:9000", [9002, 9443, 9444]),
            ("gate:65092", [65094, 65535, 8444]),
            ("gate:65093", [65095, 8443, 8444]),
            ("gate", [8002, 8443, 8444]),
        ] {
            let found = [default_ws_port(server), default_tls_port(server), default_wss_port(server)];
            assert_eq!(found, ports, "{server}");
        }
    }
}
