//! Where a session that lasts is kept up, and how.

use std::net::IpAddr;
use std::time::Duration;

#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
use crate::auto::Auto;
use crate::connect_error::ConnectError;
use crate::connected::Connected;
use crate::handle::Client;
use crate::options::{ConnectOptions, Transport};
use gateway_net::backoff::Backoff;
use gateway_net::resolve::host_and_port;
use gateway_wire::pb;

/// From the acceptance of a request to its end: room for a reconnect or two, and an answer of at most 5 s.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);

/// Time for several tries: the gateway may be away, or whoever gives the tokens.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// One gateway, or several behind one name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Server {
    #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
    /// Over whatever gets through. It remembers what did, so servers of one program may share its memory.
    Auto(Box<Auto>),
    /// Over one transport.
    Only(Box<ConnectOptions>),
}

#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
impl From<Auto> for Server {
    fn from(auto: Auto) -> Self {
        Self::Auto(Box::new(auto))
    }
}

impl From<ConnectOptions> for Server {
    fn from(options: ConnectOptions) -> Self {
        Self::Only(Box::new(options))
    }
}

impl Server {
    /// `host:port` as it was given.
    pub fn name(&self) -> &str {
        match self {
            #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
            Self::Auto(auto) => &auto.options.server,
            Self::Only(options) => &options.server,
        }
    }

    /// Where a connection over this transport goes: each listener has a port of its own with `Auto`.
    #[cfg_attr(
        not(all(feature = "quic", feature = "tls", feature = "websocket")),
        expect(unused_variables, reason = "one server, one port")
    )]
    pub(super) fn address(&self, transport: Transport) -> String {
        match self {
            #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
            Self::Auto(auto) => auto.address(transport),
            Self::Only(options) => options.server.clone(),
        }
    }

    /// The gateway that this one names in its place, over the same transport, with the same trust: its certificate must carry its
    /// own host, or the name that is set for all. None where the token would travel in clear and may not.
    pub(super) fn elsewhere(&self, to: &str, transport: Transport) -> Option<Self> {
        let options: &ConnectOptions = match self {
            #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
            Self::Auto(auto) if transport == Transport::Tcp && !auto.allow_plain => return None,
            #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
            Self::Auto(auto) => &auto.options,
            Self::Only(options) => options,
        };
        // Whoever comes in clear to its own machine has not allowed the same through a network.
        let is_plain = matches!(transport, Transport::Tcp | Transport::Ws);
        if is_plain && matches!(self, Self::Only(_)) && is_loopback(self.name()) && !is_loopback(to) {
            return None;
        }
        Some(Self::Only(Box::new(ConnectOptions { server: to.to_owned(), transport, ..options.clone() })))
    }

    pub(super) async fn connect(&self) -> Result<Connected, ConnectError> {
        match self {
            #[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
            Self::Auto(auto) => auto.connect().await,
            Self::Only(options) => {
                let (client, pushes) = Client::connect(options.as_ref().clone()).await?;
                Ok(Connected { client, pushes, failed: Vec::new() })
            }
        }
    }
}

/// Of a `host:port`.
fn is_loopback(server: &str) -> bool {
    host_and_port(server).is_ok_and(|(host, _)| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    })
}

/// How a session is kept up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResilientOptions {
    /// The gateway that is tried first.
    pub first: Server,
    /// Other gateways for the same accounts. One of all is taken at random when one goes away, is overloaded, or cannot
    /// be reached.
    pub others: Vec<Server>,
    /// isp, zone and tags of every login. The token is that of the moment, and the tag `goaway` is added.
    pub login: pb::LoginReq,
    /// Between tries to come back, and to renew a token. Default: from 500 ms to 30 s, doubled each time, with full jitter.
    pub backoff: Backoff,
    /// How long a request may take in all: wait for a connection, be refused and tried again, be answered. Default 15 s.
    pub request_deadline: Duration,
    /// Whether a request that was answered 300 is sent again, after a pause, while its time lasts. The gateway answers so when it
    /// handed nothing over. A logic service that answers 300 of its own accord after it has done something does not
    /// fit; then switch this off. Default: yes.
    ///
    /// A request that is sent again may be overtaken by later ones.
    pub retry_refused: bool,
    /// So long before a token runs out it is replaced by another one of the program's [`Tokens`](crate::Tokens), without
    /// leaving the connection; one that does not live twice as long, when half of its time is over. The end is that of its
    /// `exp`. Nothing is done for a token without. Zero: never. Default: a minute.
    pub renew_before: Duration,
    /// How long tokens live whose end cannot be read, from the moment they are signed in or renewed with. Default: unknown,
    /// so they are not renewed.
    pub token_lifetime: Option<Duration>,
    /// Whether the first loss ends the session. Then only the queue and the events are left of this type. Default: no.
    pub once: bool,
}

impl ResilientOptions {
    /// One gateway: an `Auto` or [`ConnectOptions`].
    pub fn new(server: impl Into<Server>) -> Self {
        Self {
            first: server.into(),
            others: Vec::new(),
            login: pb::LoginReq::default(),
            backoff: Backoff::default(),
            request_deadline: REQUEST_DEADLINE,
            retry_refused: true,
            renew_before: RENEW_BEFORE,
            token_lifetime: None,
            once: false,
        }
    }

    /// One more gateway.
    #[must_use]
    pub fn or(mut self, server: impl Into<Server>) -> Self {
        self.others.push(server.into());
        self
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// By its number, counted from 0.
    pub(super) fn server(&self, number: usize) -> &Server {
        number.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.first)
    }
}

#[cfg(test)]
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
mod tests {
    use super::*;
    use crate::trust::TrustedCa;

    #[test]
    fn f1_a_gateway_that_is_named_is_gone_to_in_the_same_way_and_never_in_clear_where_that_is_not_allowed() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = TrustedCa::from_der([certificate.cert.der().clone()]).unwrap();
        let goes = |server: &Server, transport| match server.elsewhere("gate02:9", transport) {
            Some(Server::Only(options)) => {
                Some((options.server.clone(), options.transport, options.certificate_name().to_owned()))
            }
            Some(Server::Auto(_)) => panic!("over whatever gets through"),
            None => None,
        };
        let at = |transport, name: &str| Some(("gate02:9".to_owned(), transport, name.to_owned()));
        let mut options = ConnectOptions::tls("gate01:8", ca.clone());
        assert_eq!(goes(&options.clone().into(), Transport::Tls), at(Transport::Tls, "gate02"));
        options.server_name = Some("im.example.org".to_owned());
        assert_eq!(goes(&options.into(), Transport::Tls), at(Transport::Tls, "im.example.org"));
        let mut auto = Auto::new("gate01:8", ca);
        assert_eq!(goes(&auto.clone().into(), Transport::Quic), at(Transport::Quic, "gate02"));
        assert_eq!(goes(&auto.clone().into(), Transport::Tcp), None);
        auto.allow_plain = true;
        assert_eq!(goes(&auto.into(), Transport::Tcp), at(Transport::Tcp, "gate02"));
    }

    #[test]
    fn f1_who_comes_in_clear_from_the_own_machine_is_not_sent_through_a_network() {
        for transport in [Transport::Tcp, Transport::Ws] {
            let goes = |from: &str, to: &str| {
                let options = ConnectOptions { transport, ..ConnectOptions::tcp(from) };
                Server::from(options).elsewhere(to, transport).is_some()
            };
            for own in ["127.0.0.1:8", "localhost:8", "[::1]:8"] {
                assert!(
                    goes(own, "localhost:9") && goes(own, "[::1]:9") && goes(own, "127.0.0.2:9"),
                    "{own}"
                );
                assert!(!goes(own, "gate02:9") && !goes(own, "192.0.2.1:9"), "{own}");
            }
            assert!(goes("gate01:8", "gate02:9"));
        }
    }
}
