//! A connection over whatever gets through: QUIC, else TLS, and plain TCP only where that is allowed.

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

/// The port for TLS is so much above that for QUIC and plain TCP: 8443 beside 8000.
const TLS_DISTANCE: u16 = 443;

/// The port for TLS where none is so much above.
const TLS_PORT: u16 = 8443;

/// The port for TLS of a `host:port`, unless it is told otherwise: 443 above, as `gateway dev` has it.
pub fn default_tls_port(server: &str) -> u16 {
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.and_then(|port| port.checked_add(TLS_DISTANCE)).unwrap_or(TLS_PORT)
}

/// Connects over the transport that gets through. Make one per program, so that it remembers.
///
/// * QUIC is tried first. When it has not connected after 300 ms, or has failed, TLS is tried beside it. The first whose
///   handshake is done is used and the other one dropped; only then comes the login, so there is one.
/// * Where TLS won, it is first for 10 minutes, and QUIC is tried only if TLS fails or takes more than 300 ms. The
///   first connection after that time is still made over TLS without delay, and QUIC is tried in the background: if
///   its handshake is done, the next connection begins with QUIC; else TLS is first for 10 more minutes.
/// * Plain TCP shows the token to everyone on the way. It is tried last, when neither got through, and only to addresses
///   of this machine, or with [`allow_plain`](Self::allow_plain). A server that was reached and not believed, or that
///   refused, is not tried over plain TCP. On this machine a half of the time to connect is kept for it; towards another
///   one QUIC and TLS have all of the time, and plain TCP as much again: a slow way must not show the token.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Auto {
    /// `server` is for QUIC and plain TCP; `transport` is not looked at; the times count for all attempts together.
    pub options: ConnectOptions,
    /// The port for TLS on the same host. Default: [`default_tls_port`].
    pub tls_port: u16,
    /// Whether the token may travel in clear to another machine. Default: no.
    pub allow_plain: bool,
    /// Where TLS won. Share one among several of these.
    pub memory: TransportCache,
}

impl Auto {
    /// To `host:port`, whose certificate was signed by `ca`.
    pub fn new(server: impl Into<String>, ca: TrustedCa) -> Self {
        let options = ConnectOptions::quic(server, ca);
        let tls_port = default_tls_port(&options.server);
        Self { options, tls_port, allow_plain: false, memory: TransportCache::new() }
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
            Ok((won, failed)) => return Ok(self.connected(won, failed.into_iter().collect())),
            Err(failed) => Vec::from(failed),
        };
        let plain_follows = match failed.iter().all(|(transport, error)| is_not_reached(*transport, error)) {
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
        let (server, tls_port) = (self.options.server.clone(), self.tls_port);
        Err(ConnectError::NoTransport(NoTransport { server, tls_port, tried: failed, plain: plain_follows }))
    }

    fn connected(&self, won: Established, failed: Vec<Failed>) -> Connected {
        let (client, pushes) = start(&self.options, won);
        Connected { client, pushes, failed }
    }

    /// Where a connection over this transport goes, `host:port`.
    pub(super) fn address(&self, transport: Transport) -> String {
        self.over(transport).server
    }

    /// The options of one attempt.
    fn over(&self, transport: Transport) -> ConnectOptions {
        let mut options = ConnectOptions { transport, ..self.options.clone() };
        if let (Transport::Tls, Some((host, _))) = (transport, options.server.rsplit_once(':')) {
            options.server = format!("{host}:{}", self.tls_port);
        }
        options
    }

    /// QUIC and TLS, in the order the memory suggests.
    async fn encrypted(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
        plain_is_near: bool,
    ) -> Result<(Established, Option<Failed>), [Failed; 2]> {
        let server = &self.options.server;
        let (over_quic, over_tls) = (self.over(Transport::Quic), self.over(Transport::Tls));
        let mut at_tls = addresses.to_vec();
        at_tls.iter_mut().for_each(|address| address.set_port(self.tls_port));
        let no_tls = Notify::new();
        let quic = async {
            let cut = async {
                no_tls.notified().await;
                sleep(QUIC_ALONE).await;
            };
            let done = tokio::select! {
                biased;
                done = establish(&over_quic, addresses, deadline) => done,
                () = cut => Err(timed_out(&over_quic)),
            };
            done.map_err(|error| (Transport::Quic, error))
        };
        let tls = async {
            let done = establish(&over_tls, &at_tls, deadline).await;
            if plain_is_near && done.as_ref().is_err_and(|error| is_not_reached(Transport::Tls, error)) {
                no_tls.notify_one();
            }
            done.map_err(|error| (Transport::Tls, error))
        };
        let tls_first = self.memory.remembered(server).is_some();
        let raced = if tls_first {
            race(tls, quic, sleep(HEAD_START)).await.map_err(|(tls, quic)| [quic, tls])
        } else {
            race(quic, tls, sleep(HEAD_START)).await.map_err(<[Failed; 2]>::from)
        };
        match &raced {
            Ok((Established::Quic(_), _)) => self.memory.quic_won(server),
            Ok(_) if tls_first => self.probe(addresses),
            Ok(_) => self.memory.tls_won(server),
            Err(_) => {}
        }
        raced
    }

    /// Tries QUIC in the background if that is due.
    fn probe(&self, addresses: &[SocketAddr]) {
        self.memory.probe(&self.options.server, || {
            let (options, addresses) = (self.over(Transport::Quic), addresses.to_vec());
            async move {
                let deadline = Instant::now() + options.connect_timeout;
                let done = establish(&options, &addresses, deadline).await;
                match done {
                    Ok(Established::Quic(quic)) => {
                        // Before the streams are dropped, which would finish them one by one.
                        quic::close(&quic.connection, CloseReason::Bye);
                        true
                    }
                    done => done.is_ok(),
                }
            }
        });
    }
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
    fn the_port_for_tls_is_443_above_unless_it_is_told() {
        for (server, port) in [
            ("127.0.0.1:8000", 8443),
            ("[::1]:9000", 9443),
            ("gate:65092", 65535),
            ("gate:65093", 8443),
            ("gate", 8443),
        ] {
            assert_eq!(default_tls_port(server), port, "{server}");
        }
    }
}
