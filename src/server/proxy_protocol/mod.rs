//! The PROXY protocol: the header that a balancer sends ahead of its client's bytes.
//!
//! The header is looked at in the socket's own buffer and taken out once it is whole, so that whoever reads next begins at
//! the client's first byte.

mod binary;
mod checksum;
mod header;
mod prefix;
mod text;

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use self::header::{ProxyHeader, ProxyHeaderError, ProxyPrefix};
use crate::limits::{PROXY_HEADER, PROXY_HEADER_DEADLINE};

thread_local! {
    /// Where headers are looked at: one buffer for all connections of a worker.
    static LOOK: RefCell<Box<[u8]>> = RefCell::new(vec![0; PROXY_HEADER].into_boxed_slice());
}

/// Why a connection that comes through a balancer is nobody's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyFault {
    /// It ended before its first byte: somebody wanted to know whether it opens.
    #[error("nothing was sent")]
    Unused,
    #[error("it ended within the header")]
    Truncated,
    #[error("no whole header within {} s", PROXY_HEADER_DEADLINE.as_secs())]
    Late,
    #[error("it begins without a header, and one is required")]
    Missing,
    #[error("{0}")]
    Invalid(#[from] ProxyHeaderError),
}

/// Takes the header off a connection and returns whose it is: the balancer's own if the header says so, or if there is none
/// and none is required. Cancel safe: until the header is whole it stays where it is.
///
/// # Errors
/// [`ProxyFault`].
pub(crate) async fn client_of(
    stream: &TcpStream,
    balancer: IpAddr,
    is_required: bool,
    deadline: Duration,
) -> Result<IpAddr, ProxyFault> {
    match timeout(deadline, take_header(stream)).await {
        Ok(Ok(Some(header))) => Ok(header.client.map_or(balancer, |client| client.ip())),
        Ok(Ok(None)) if is_required => Err(ProxyFault::Missing),
        Ok(Ok(None)) => Ok(balancer),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(ProxyFault::Late),
    }
}

/// None if the connection begins with something else, of which nothing is taken.
async fn take_header(stream: &TcpStream) -> Result<Option<ProxyHeader>, ProxyFault> {
    loop {
        let Ok(ready) = stream.ready(Interest::READABLE).await else { return Err(ProxyFault::Unused) };
        match stream.try_io(Interest::READABLE, || look(stream)) {
            Ok(Look::Taken(header)) => return Ok(Some(header)),
            Ok(Look::Absent) => return Ok(None),
            Ok(Look::Invalid(error)) => return Err(error.into()),
            Ok(Look::Ended) => return Err(ProxyFault::Unused),
            // All that came was looked at, and no more will come.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => {
                return Err(ProxyFault::Truncated);
            }
            // It is ready again when more has come.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(ProxyFault::Unused),
        }
    }
}

/// What one look gave.
enum Look {
    Taken(ProxyHeader),
    Absent,
    Invalid(ProxyHeaderError),
    /// The end of the stream, and nothing before it.
    Ended,
}

/// # Errors
/// `WouldBlock` while the header is incomplete: only so does the runtime wait for more than what lies there already. Others are
/// the socket's.
fn look(stream: &TcpStream) -> io::Result<Look> {
    LOOK.with_borrow_mut(|buffer| {
        let socket = stream.as_raw_fd();
        let seen = recv(socket, buffer, MsgFlags::MSG_PEEK)?;
        if seen == 0 {
            return Ok(Look::Ended);
        }
        match ProxyPrefix::of(&buffer[..seen]) {
            Ok(ProxyPrefix::Incomplete) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(ProxyPrefix::Absent) => Ok(Look::Absent),
            Ok(ProxyPrefix::Complete(header)) => {
                // It was seen in the buffer of the socket, so it is all there.
                let taken = recv(socket, &mut buffer[..header.len], MsgFlags::empty())?;
                if taken < header.len {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(Look::Taken(header))
                }
            }
            Err(error) => Ok(Look::Invalid(error)),
        }
    })
}
