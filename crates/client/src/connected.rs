//! A connection that came about, and what was tried before.

use crate::connect_error::ConnectError;
use crate::handle::Client;
use crate::options::Transport;
use crate::pushes::Pushes;

/// What `Auto::connect` came to; [`Client::transport`] says over what.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The connection; the login comes next.
    pub client: Client,
    /// What arrives unasked.
    pub pushes: Pushes,
    /// What failed before, and why. What was only slower is not here.
    pub failed: Vec<(Transport, ConnectError)>,
}
