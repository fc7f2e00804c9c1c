//! Where and how the command line connects to a gateway.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use gateway_client::{Auto, CaError, ConnectOptions, Transport, TrustedCa, default_tls_port};

/// Which gateway, and who signed its certificate.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// The gateway, HOST:PORT, for QUIC and plain TCP.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub(crate) server: String,
    /// Its port for TLS; default: 443 above that of --server, such as 8443 beside 8000.
    #[arg(long, value_name = "P")]
    tls_port: Option<u16>,
    /// The CA that signed the gateway's certificate (PEM); QUIC and TLS need it.
    #[arg(long, default_value = "certs/dev/ca.pem")]
    ca: PathBuf,
}

impl ServerArgs {
    fn tls_port(&self) -> u16 {
        self.tls_port.unwrap_or_else(|| default_tls_port(&self.server))
    }

    /// Where a transport connects: TLS has a port of its own.
    pub(crate) fn address(&self, transport: Transport) -> String {
        match (transport, self.server.rsplit_once(':')) {
            (Transport::Tls, Some((host, _))) => format!("{host}:{}", self.tls_port()),
            _ => self.server.clone(),
        }
    }

    /// Options of a connection over one transport.
    pub(crate) fn options(&self, transport: Transport) -> Result<ConnectOptions, CaError> {
        let server = self.address(transport);
        Ok(match transport {
            Transport::Tcp => ConnectOptions::tcp(server),
            Transport::Quic => ConnectOptions::quic(server, TrustedCa::from_pem_file(&self.ca)?),
            Transport::Tls => ConnectOptions::tls(server, TrustedCa::from_pem_file(&self.ca)?),
        })
    }

    /// The same gateway settings for another `HOST:PORT`.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self.clone() }
    }

    /// A connection over whatever gets through.
    pub(crate) fn auto(&self, allow_plain: bool) -> Result<Auto, CaError> {
        let mut auto = Auto::new(self.server.clone(), TrustedCa::from_pem_file(&self.ca)?);
        auto.tls_port = self.tls_port();
        auto.allow_plain = allow_plain;
        Ok(auto)
    }
}

/// The transport somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whatever gets through.
    Auto,
    /// This and no other.
    Only(Transport),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(transport) => transport.fmt(f),
        }
    }
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Only).map_err(|_| "is none of \"auto\", \"quic\", \"tls\" and \"tcp\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(server: &str, tls_port: Option<u16>) -> ServerArgs {
        ServerArgs { server: server.to_owned(), tls_port, ca: PathBuf::from("ca.pem") }
    }

    #[test]
    fn tls_has_a_port_of_its_own() {
        assert_eq!(args("h:8000", None).address(Transport::Quic), "h:8000");
        assert_eq!(args("h:8000", None).address(Transport::Tcp), "h:8000");
        assert_eq!(args("h:8000", None).address(Transport::Tls), "h:8443");
        assert_eq!(args("[::1]:9000", None).address(Transport::Tls), "[::1]:9443");
        assert_eq!(args("h:443", Some(443)).address(Transport::Tls), "h:443");
    }

    #[test]
    fn what_is_wanted_is_read_as_it_is_written() {
        for text in ["auto", "quic", "tls", "tcp"] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        let message = "udp".parse::<Wanted>().unwrap_err();
        assert!(message.contains("\"auto\"") && message.contains("\"tls\""), "{message}");
    }
}
