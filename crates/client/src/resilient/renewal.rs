//! The token of a session is replaced before it runs out, on the connection there is.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::CallError;
use crate::handle::Client;
use crate::resilient::options::ResilientOptions;
use crate::resilient::token_end::time_left;
use crate::resilient::tokens::{Need, NoToken, TOKEN_TIMEOUT, Tokens};
use gateway_net::backoff::Backoff;
use gateway_wire::pb::Status;

/// Between two renewals at least, whatever the tokens say.
const SHORTEST: Duration = Duration::from_secs(1);

/// How a renewal ended.
enum Renewed {
    /// The session has this token now.
    With(String),
    /// It may succeed later.
    Later,
    /// Nothing will come of it on this connection.
    Never,
}

type Renewing = Pin<Box<dyn Future<Output = Renewed> + Send>>;

/// Renews the token of one connection after the other.
pub(super) struct TokenRenewal<T> {
    tokens: Arc<T>,
    /// So long before its end a token is replaced; zero: never.
    before: Duration,
    /// How long tokens live whose end cannot be read.
    lifetime: Option<Duration>,
    /// Between a renewal that failed and the next one.
    backoff: Backoff,
    due: Option<Instant>,
    failures: u32,
    under_way: Option<Renewing>,
}

impl<T: Tokens> TokenRenewal<T> {
    pub(super) fn new(tokens: Arc<T>, options: &ResilientOptions) -> Self {
        let (before, lifetime) = (options.renew_before, options.token_lifetime);
        Self { tokens, before, lifetime, backoff: options.backoff, due: None, failures: 0, under_way: None }
    }

    /// A connection has signed in with this token.
    pub(super) fn begin(&mut self, token: &str) {
        self.stop();
        self.schedule(token);
    }

    fn stop(&mut self) {
        (self.due, self.failures, self.under_way) = (None, 0, None);
    }

    /// Does what is due, and never ends; without a connection nothing is. Cancel safe: what is under way goes on with the
    /// next call.
    pub(super) async fn run(&mut self, client: Option<&Client>) -> Infallible {
        let Some(client) = client else {
            self.stop();
            return pending().await;
        };
        loop {
            if let Some(renewing) = &mut self.under_way {
                let renewed = renewing.await;
                self.under_way = None;
                self.conclude(renewed);
            } else if let Some(due) = self.due {
                sleep_until(due).await;
                self.due = None;
                self.under_way = Some(Box::pin(renew(client.clone(), Arc::clone(&self.tokens))));
            } else {
                return pending().await;
            }
        }
    }

    fn conclude(&mut self, renewed: Renewed) {
        match renewed {
            Renewed::With(token) => {
                self.failures = 0;
                self.schedule(&token);
            }
            Renewed::Later => {
                self.due = Instant::now().checked_add(self.backoff.unjittered(self.failures));
                self.failures = self.failures.saturating_add(1);
            }
            Renewed::Never => {}
        }
    }

    /// A token that has run out already is not replaced: its session lives on, or the gateway ends it.
    fn schedule(&mut self, token: &str) {
        let left = time_left(token, SystemTime::now()).or(self.lifetime);
        self.due = left.and_then(|left| Instant::now().checked_add(pause(left, self.before)?));
    }
}

/// How long to wait with the next renewal. A token that lives hardly longer than it should be renewed before its end is
/// replaced when half of its time is over.
fn pause(left: Duration, before: Duration) -> Option<Duration> {
    if left.is_zero() || before.is_zero() {
        return None;
    }
    Some(left.saturating_sub(before).max(left / 2).max(SHORTEST))
}

async fn renew<T: Tokens>(client: Client, tokens: Arc<T>) -> Renewed {
    let token = match timeout(TOKEN_TIMEOUT, tokens.token(Need::Renewal)).await {
        Ok(Ok(token)) => token,
        Ok(Err(NoToken::Never(_))) => return Renewed::Never,
        Ok(Err(NoToken::NotNow(_))) | Err(_) => return Renewed::Later,
    };
    match client.renew(&token).await {
        Ok(()) => Renewed::With(token),
        // A gateway that does not know the command will not learn it.
        Err(CallError::Refused { status, .. }) if status == Status::InvalidCommand as i32 => Renewed::Never,
        Err(_) => Renewed::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_a_while_before_its_end_and_never_all_the_time() {
        let seconds = |left, before| pause(Duration::from_secs(left), Duration::from_secs(before));
        assert_eq!(seconds(3600, 60), Some(Duration::from_secs(3540)));
        assert_eq!(seconds(90, 60), Some(Duration::from_secs(45)));
        assert_eq!(seconds(30, 60), Some(Duration::from_secs(15)));
        assert_eq!(seconds(1, 60), Some(SHORTEST));
        assert_eq!(seconds(0, 60), None);
        assert_eq!(seconds(3600, 0), None);
    }
}
