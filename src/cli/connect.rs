//! Where and how the command line connects to a gateway.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use gateway_client::{
    Auto, CaError, ConnectOptions, Transport, TrustedCa, default_tls_port, default_ws_port, default_wss_port,
};

/// Which gateway, and who signed its certificate.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// The gateway, HOST:PORT, for QUIC and plain TCP.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub(crate) server: String,
    /// Its port for TLS; default: 443 above that of --server, such as 8443 beside 8000.
    #[arg(long, value_name = "P")]
    tls_port: Option<u16>,
    /// Its port for WebSocket; default: 2 above that of --server, such as 8002 beside 8000.
    #[arg(long, value_name = "P")]
    ws_port: Option<u16>,
    /// Its port for WebSocket over TLS; default: 444 above that of --server, such as 8444 beside 8000.
    #[arg(long, value_name = "P")]
    wss_port: Option<u16>,
    /// The path of a WebSocket upgrade.
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The origin that a WebSocket upgrade names, as a browser does, such as https://chat.example.org; default: none.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// The CA that signed the gateway's certificate (PEM); QUIC and all that runs over TLS need it.
    #[arg(long, default_value = "certs/dev/ca.pem")]
    ca: PathBuf,
}

impl ServerArgs {
    fn tls_port(&self) -> u16 {
        self.tls_port.unwrap_or_else(|| default_tls_port(&self.server))
    }

    fn wss_port(&self) -> u16 {
        self.wss_port.unwrap_or_else(|| default_wss_port(&self.server))
    }

    /// Where a transport connects: QUIC and plain TCP share a port, the others have their own.
    pub(crate) fn address(&self, transport: Transport) -> String {
        let port = match transport {
            Transport::Quic | Transport::Tcp => return self.server.clone(),
            Transport::Tls => self.tls_port(),
            Transport::Ws => self.ws_port.unwrap_or_else(|| default_ws_port(&self.server)),
            Transport::Wss => self.wss_port(),
        };
        match self.server.rsplit_once(':') {
            Some((host, _)) => format!("{host}:{port}"),
            None => self.server.clone(),
        }
    }

    fn trusted_ca(&self) -> Result<TrustedCa, CaError> {
        TrustedCa::from_pem_file(&self.ca)
    }

    /// Options of a connection over one transport.
    pub(crate) fn options(&self, transport: Transport) -> Result<ConnectOptions, CaError> {
        let server = self.address(transport);
        let mut options = match transport {
            Transport::Tcp => ConnectOptions::tcp(server),
            Transport::Quic => ConnectOptions::quic(server, self.trusted_ca()?),
            Transport::Tls => ConnectOptions::tls(server, self.trusted_ca()?),
            Transport::Ws => ConnectOptions::ws(server),
            Transport::Wss => ConnectOptions::wss(server, self.trusted_ca()?),
        };
        self.name_upgrade(&mut options);
        Ok(options)
    }

    fn name_upgrade(&self, options: &mut ConnectOptions) {
        options.path.clone_from(&self.path);
        options.origin.clone_from(&self.origin);
    }

    /// The same gateway settings for another `HOST:PORT`.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self.clone() }
    }

    /// A connection over whatever gets through.
    pub(crate) fn auto(&self, allow_plain: bool) -> Result<Auto, CaError> {
        let mut auto = Auto::new(self.server.clone(), self.trusted_ca()?);
        self.name_upgrade(&mut auto.options);
        auto.tls_port = self.tls_port();
        auto.wss_port = self.wss_port();
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
        text.parse()
            .map(Self::Only)
            .map_err(|_| "is none of \"auto\", \"quic\", \"tls\", \"wss\", \"ws\" and \"tcp\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(server: &str, tls_port: Option<u16>) -> ServerArgs {
        let (server, path, ca) = (server.to_owned(), "/im".to_owned(), PathBuf::from("ca.pem"));
        ServerArgs { server, tls_port, ws_port: None, wss_port: None, path, origin: None, ca }
    }

    #[test]
    fn each_listener_has_a_port_of_its_own() {
        assert_eq!(args("h:8000", None).address(Transport::Quic), "h:8000");
        assert_eq!(args("h:8000", None).address(Transport::Tcp), "h:8000");
        assert_eq!(args("h:8000", None).address(Transport::Tls), "h:8443");
        assert_eq!(args("[::1]:9000", None).address(Transport::Tls), "[::1]:9443");
        assert_eq!(args("h:443", Some(443)).address(Transport::Tls), "h:443");
        assert_eq!(args("h:8000", None).address(Transport::Ws), "h:8002");
        assert_eq!(args("[::1]:9000", None).address(Transport::Wss), "[::1]:9444");
        let web = ServerArgs { wss_port: Some(443), ..args("h:8000", None) };
        assert_eq!(web.address(Transport::Wss), "h:443");
        assert_eq!(args("h:8000", None).options(Transport::Ws).unwrap().path, "/im");
    }

    #[test]
    fn what_is_wanted_is_read_as_it_is_written() {
        for text in ["auto", "quic", "tls", "wss", "ws", "tcp"] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), text);
        }
        let message = "udp".parse::<Wanted>().unwrap_err();
        assert!(message.contains("\"auto\"") && message.contains("\"tls\""), "{message}");
    }
}
