//! The gateway that another one named when it said that it goes away: it is tried once, and ends nothing.

use crate::go_away::GoAway;
use crate::handle::Client;
use crate::resilient::options::Server;
use crate::resilient::retry_policy::Retry;
use gateway_wire::close::CloseReason;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct NamedServer {
    /// For the next try.
    next: Option<Server>,
    /// What is being tried, or was tried last.
    tried: Option<Server>,
    /// Signed in at; none: at one of the options.
    at: Option<Server>,
}

impl NamedServer {
    /// The gateway of this client said that it goes away, and perhaps where to go. `listed` is what it is of the options.
    pub(super) fn note(&mut self, told: GoAway, client: Option<&Client>, listed: &Server) {
        let at = self.at.as_ref().unwrap_or(listed);
        let client = client.filter(|_| told.reason == CloseReason::Draining);
        self.next = client.and_then(|client| at.elsewhere(client.go_to()?, client.transport()));
    }

    /// Where the next connection goes, or the one that is made goes already; else there.
    pub(super) fn next_or<'a>(&'a self, listed: &'a Server) -> &'a Server {
        self.next.as_ref().or(self.tried.as_ref()).unwrap_or(listed)
    }

    /// A connection is tried: to this one, if it was named.
    pub(super) fn begin(&mut self) -> Option<Server> {
        self.tried = self.next.take();
        self.tried.clone()
    }

    /// It was not tried after all.
    pub(super) fn put_back(&mut self) {
        self.next = self.tried.take();
    }

    /// What a failure means. That of a gateway that was only named ends nothing: the options have others.
    pub(super) fn judge(&mut self, verdict: Retry) -> Retry {
        if self.tried.take().is_some() { Retry::Again } else { verdict }
    }

    /// The connection that was tried has signed in; where that is, `listed` if nobody named it.
    pub(super) fn arrive<'a>(&'a mut self, listed: &'a Server) -> &'a Server {
        self.at = self.tried.take();
        self.at.as_ref().unwrap_or(listed)
    }
}
