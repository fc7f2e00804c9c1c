//! Fetches a set of keys again and again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use hyper::header::{ACCEPT, HeaderValue};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::freshness::fresh_for;
use super::key_refresh::RefreshWishes;
use super::schedule::RefreshSchedule;
use crate::config::{JwksError, KeyDocument, KeyOrigin, TokenKey};
use crate::http_client::{Endpoint, HttpError};
use crate::limits::{JWKS_ANSWER, MAX_JWKS};
use crate::monitor::events::event::{Event, Subject};
use crate::monitor::events::{Events, PROCESS};
use crate::monitor::jwks::JwksMetrics;
use crate::monitor::metrics::JwksRefresh;

/// A fetch that brought no keys. No text holds any part of the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No whole answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Something else than 200; redirects are not followed.
    #[error("status {0}")]
    Status(u16),
    /// No keys.
    #[error("the answer {0}")]
    Document(#[from] JwksError),
}

impl FetchError {
    const fn outcome(&self) -> JwksRefresh {
        match self {
            Self::Http(HttpError::Timeout(_)) => JwksRefresh::Timeout,
            Self::Http(HttpError::Body(_)) | Self::Document(_) => JwksRefresh::BadAnswer,
            Self::Http(_) => JwksRefresh::Unreachable,
            Self::Status(_) => JwksRefresh::Status,
        }
    }
}

/// See the module.
pub(super) struct Fetcher<P> {
    pub(super) endpoint: Endpoint,
    pub(super) path: String,
    pub(super) wishes: RefreshWishes,
    pub(super) metrics: std::sync::Arc<JwksMetrics>,
    pub(super) events: Events,
    /// Puts keys into effect; they are when it returns.
    pub(super) publish: P,
    pub(super) schedule: RefreshSchedule,
    /// In effect.
    pub(super) last: Vec<TokenKey>,
}

impl<P: FnMut(&[TokenKey])> Fetcher<P> {
    /// Never ends.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = sleep_until(self.schedule.due()) => self.refresh().await,
                () = self.wishes.asked() => self.schedule.wish(Instant::now()),
            }
        }
    }

    /// The last good keys stay in effect where this brings none.
    async fn refresh(&mut self) {
        self.schedule.begin(Instant::now());
        let fetched = self.fetch().await;
        let is_good = fetched.is_ok();
        match fetched {
            Ok((document, fresh_for)) => {
                self.schedule.succeeded(Instant::now(), fresh_for);
                self.metrics.refreshed(JwksRefresh::Ok);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.metrics.succeeded(now.as_secs(), document.keys.len());
                self.events.clear(PROCESS, &Subject::jwks_failed());
                self.take(document);
            }
            Err(error) => {
                self.schedule.failed(Instant::now());
                self.metrics.refreshed(error.outcome());
                self.events.raise(PROCESS, Event::jwks_failed(&error));
            }
        }
        self.wishes.end(is_good);
    }

    fn take(&mut self, document: KeyDocument) {
        if document.keys == self.last {
            return;
        }
        let (keys, left_out) = (document.keys.len(), document.skipped.len());
        let why = document.skipped.first().map(|(position, problem)| format!("key {position} {problem}"));
        info!(event = "jwks", keys, left_out, why = why.unwrap_or_default(), "other keys were fetched");
        (self.publish)(&document.keys);
        self.last = document.keys;
    }

    async fn fetch(&self) -> Result<(KeyDocument, Duration), FetchError> {
        let accept = [(ACCEPT, HeaderValue::from_static("application/json"))];
        let asked = self.endpoint.send(Method::GET, &self.path, &accept, Vec::new(), MAX_JWKS, JWKS_ANSWER);
        let answer = asked.await?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status));
        }
        let document = KeyDocument::parse(&answer.body, KeyOrigin::Url, false)?;
        Ok((document, fresh_for(&answer.headers, SystemTime::now())))
    }
}
