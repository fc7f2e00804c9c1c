//! TLS over TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect_error::ConnectError;
use crate::options::ConnectOptions;
use crate::tcp;

/// Connects and shakes hands, for WebSocket if that is the transport.
pub(super) async fn connect(
    options: &ConnectOptions,
    address: SocketAddr,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let ca = options.ca.as_ref().ok_or(ConnectError::NoCa)?;
    let name = options.certificate_name().to_owned();
    let name = ServerName::try_from(name).map_err(|error| ConnectError::Local(error.to_string()))?;
    let socket = tcp::connect(options, address).await?;
    let config = match options.transport {
        #[cfg(feature = "websocket")]
        crate::options::Transport::Wss => &ca.http,
        _ => &ca.tls,
    };
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, socket).await.map_err(|error| tls_error(options, error))
}

fn tls_error(options: &ConnectOptions, error: io::Error) -> ConnectError {
    let server = options.server.clone();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(fault @ rustls::Error::InvalidCertificate(_)) => {
            ConnectError::Certificate { server, reason: fault.to_string() }
        }
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            let transport = options.transport;
            ConnectError::NotAGateway { server, transport }
        }
        // What a gateway answers that is full, or that drains: it could not say 3003 or 3000 before a handshake.
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)) => {
            ConnectError::Refused { server }
        }
        _ => ConnectError::Tls { server, transport: options.transport, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gateway_is_told_from_a_port_that_is_not_for_tls() {
        let options = ConnectOptions::tcp("h:1");
        let error = |alert| tls_error(&options, io::Error::other(rustls::Error::AlertReceived(alert)));
        let refused = error(rustls::AlertDescription::InternalError);
        assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
        let other = error(rustls::AlertDescription::HandshakeFailure);
        assert!(matches!(other, ConnectError::Tls { .. }), "{other}");
    }
}
