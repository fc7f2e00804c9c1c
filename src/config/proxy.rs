//! `proxy_protocol` and `trusted` of `[tcp]` and `[websocket]`: whether balancers name their clients, and who is a balancer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::checker::Checker;
use super::error::ConfigError;

/// The PROXY protocol on a listener.
#[derive(Debug)]
pub struct ProxyProtocol {
    /// Every connection comes through a balancer and begins with a header; else those of balancers may.
    pub is_required: bool,
    /// The balancers.
    pub trusted: TrustedPeers,
}

/// Peers that are believed when they say for whom they speak.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedPeers(Vec<IpNet>);

/// What is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustedPeersError {
    /// Neither a network nor an address.
    #[error(
        "is {0:?}; allowed are networks and addresses, such as \"10.0.0.0/8\", \"fd00::/8\" or \"192.0.2.7\""
    )]
    Text(String),
    /// An address with the length of a prefix that ends before it does.
    #[error("is {0:?}; allowed is its network, {1:?}")]
    HostBits(String, String),
}

impl TrustedPeers {
    /// Whoever is in one of these networks: `10.0.0.0/8`, or an address alone.
    ///
    /// # Errors
    /// [`TrustedPeersError`] for the first that is none.
    pub fn parse<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, TrustedPeersError> {
        networks.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whoever is on this machine.
    fn loopback() -> Self {
        let (v4, v6) = (IpAddr::from([127, 0, 0, 0]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        Self(vec![IpNet::new_assert(v4, 8), IpNet::from(v6)])
    }

    /// Returns `true` if the address is in one of the networks; an IPv4 address may be written as IPv6.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

fn network(text: &str) -> Result<IpNet, TrustedPeersError> {
    let text = text.trim();
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network =
        text.parse::<IpNet>().ok().or_else(single).ok_or_else(|| TrustedPeersError::Text(text.to_owned()))?;
    match network.trunc() {
        whole if whole == network => Ok(network),
        whole => Err(TrustedPeersError::HostBits(text.to_owned(), whole.to_string())),
    }
}

impl Checker<'_> {
    /// The PROXY protocol on the listeners of `[tcp]`; none: off.
    pub(super) fn tcp_proxy(
        &mut self,
        listen: &[SocketAddr],
    ) -> Result<Option<Arc<ProxyProtocol>>, ConfigError> {
        let table = &self.file.tcp;
        let trusted = self.trusted("tcp", &table.trusted)?;
        let is_used = table.proxy_protocol != "off" || trusted.is_none();
        let proxy = self.proxy_protocol("tcp", &table.proxy_protocol, trusted, listen)?;
        if !is_used {
            self.warnings.push("tcp.trusted: is not used while tcp.proxy_protocol is \"off\"".to_owned());
        }
        Ok(proxy)
    }

    /// The same of `[websocket]`, and the peers whose `X-Forwarded-For` is believed. Nobody's is unless it is listed: every
    /// program on this machine can write a header. And nobody's is where balancers name clients by the PROXY protocol: they
    /// pass on what a client wrote.
    pub(super) fn websocket_proxy(
        &self,
        listen: &[SocketAddr],
    ) -> Result<(Option<Arc<ProxyProtocol>>, TrustedPeers), ConfigError> {
        let table = &self.file.websocket;
        let trusted = self.trusted("websocket", &table.trusted)?;
        let proxy = self.proxy_protocol("websocket", &table.proxy_protocol, trusted.clone(), listen)?;
        let http_proxies = if proxy.is_some() { None } else { trusted };
        Ok((proxy, http_proxies.unwrap_or_default()))
    }

    fn proxy_protocol(
        &self,
        table: &str,
        mode: &str,
        trusted: Option<TrustedPeers>,
        listen: &[SocketAddr],
    ) -> Result<Option<Arc<ProxyProtocol>>, ConfigError> {
        let is_required = match mode {
            "off" => return Ok(None),
            "optional" => false,
            "required" => true,
            other => {
                let problem = format!("is {other:?}; allowed are \"off\", \"optional\" and \"required\"");
                return Err(self.error(&format!("{table}.proxy_protocol"), problem));
            }
        };
        let is_local = listen.iter().all(|address| address.ip().is_loopback());
        let trusted = trusted.or_else(|| is_local.then(TrustedPeers::loopback)).ok_or_else(|| {
            let problem = format!(
                "is missing; with {table}.proxy_protocol {mode:?} allowed are the networks of the balancers, such as \
                 [\"10.0.0.0/8\"], because whoever is believed may claim any address"
            );
            self.error(&format!("{table}.trusted"), problem)
        })?;
        Ok(Some(Arc::new(ProxyProtocol { is_required, trusted })))
    }

    /// The networks of a table's list; none if it is empty.
    fn trusted(&self, table: &str, list: &[String]) -> Result<Option<TrustedPeers>, ConfigError> {
        let trusted = TrustedPeers::parse(list.iter().map(String::as_str))
            .map_err(|problem| self.error(&format!("{table}.trusted"), problem.to_string()))?;
        Ok((!list.is_empty()).then_some(trusted))
    }
}
