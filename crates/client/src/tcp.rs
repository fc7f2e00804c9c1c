//! A TCP connection, plain or below TLS.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::connect_error::ConnectError;
use crate::options::ConnectOptions;

pub(super) async fn connect(
    options: &ConnectOptions,
    address: SocketAddr,
) -> Result<TcpStream, ConnectError> {
    let failed = |error| ConnectError::Tcp { server: options.server.clone(), error };
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}
