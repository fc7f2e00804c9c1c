//! Where tokens come from.

use std::future::Future;
use std::time::Duration;

/// What a token may take.
pub(super) const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a token is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A login; the token of the one before will do while it has not run out.
    Login,
    /// A login after the last token was refused or had run out: another one.
    Renewed,
    /// The token of the session will run out soon: another one of the same app and account, to go on with.
    Renewal,
}

/// There is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// There may be one later: it is tried again after a pause.
    #[error("no token at the moment: {0}")]
    NotNow(String),
    /// There will be none: the session ends.
    #[error("no token: {0}")]
    Never(String),
}

/// Gives a token for every login, and for every renewal within a session. A `String` is a token that is never renewed; a
/// closure that takes the [`Need`] and returns a future makes one.
pub trait Tokens: Send + Sync + 'static {
    /// A token. Dropped when it takes more than 10 s, and asked again after a pause.
    ///
    /// # Errors
    /// [`NoToken`]. What it says must not hold a token.
    fn token(&self, need: Need) -> impl Future<Output = Result<String, NoToken>> + Send;
}

impl Tokens for String {
    async fn token(&self, need: Need) -> Result<Self, NoToken> {
        match need {
            Need::Login => Ok(self.clone()),
            Need::Renewed => Err(NoToken::Never("the only one was refused".to_owned())),
            Need::Renewal => Err(NoToken::Never("there is only one".to_owned())),
        }
    }
}

impl<F, T> Tokens for F
where
    F: Fn(Need) -> T + Send + Sync + 'static,
    T: Future<Output = Result<String, NoToken>> + Send,
{
    fn token(&self, need: Need) -> impl Future<Output = Result<String, NoToken>> + Send {
        self(need)
    }
}
