//! Posts payloads to the administrator's webhook, one after the other, each until it is taken.

use std::time::Duration;

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use super::outbox::Outbox;
use super::payload::EventPayload;
use crate::http_client::{Endpoint, HttpError, secret_header};
use gateway_net::backoff::{Backoff, Jitter};
use gateway_net::rng::Rng;

/// Pauses after attempts that failed, of which jitter leaves a half: a webhook that is down is never asked at once.
const PAUSES: Backoff =
    Backoff { jitter: Jitter::Equal, ..Backoff::new(Duration::from_millis(500), Duration::from_secs(30)) };

/// An attempt failed. No text holds the path, which may be a secret, or the token.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("status {0}; 2xx would mean that it was taken")]
    Status(u16),
}

/// Where payloads are posted.
#[derive(Debug)]
pub struct WebhookClient {
    endpoint: Endpoint,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
}

impl WebhookClient {
    /// `path` begins with a slash; `token` is sent as a bearer's, and one that no header can hold is left out; an attempt
    /// may take `timeout` in all.
    pub fn new(endpoint: Endpoint, path: &str, token: Option<&[u8]>, timeout: Duration) -> Self {
        let agent = concat!("gateway/", env!("CARGO_PKG_VERSION"));
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (USER_AGENT, HeaderValue::from_static(agent)),
        ];
        headers.extend(token.and_then(|token| secret_header(AUTHORIZATION, &[b"Bearer ", token].concat())));
        Self { endpoint, path: path.to_owned(), headers, timeout }
    }

    /// Posts whatever is in the outbox or comes there. `hurry` ends the pause between two attempts.
    ///
    /// Never ends. Dropped in the middle of an attempt, that payload stays in the outbox.
    pub(super) async fn deliver(&self, outbox: &Outbox, hurry: &Notify) {
        let (mut failures, mut is_failing) = (0u32, false);
        loop {
            let Some(payload) = outbox.take() else {
                outbox.arrived().await;
                continue;
            };
            match self.post(&payload).await {
                Ok(()) => {
                    outbox.delivered();
                    failures = 0;
                    if std::mem::take(&mut is_failing) {
                        info!(event = "webhook_back", to = self.endpoint.authority());
                    }
                }
                Err(error) => {
                    outbox.failed();
                    // One line per outage; the rest is in the metrics.
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(event = "webhook_failing", to = self.endpoint.authority(), id = payload.id(), %error,
                            "the webhook did not take an event; trying again, and keeping those that come");
                    }
                    let pause = PAUSES.pause(failures, &mut Rng::default());
                    tokio::select! {
                        () = sleep(pause) => failures = failures.saturating_add(1),
                        () = hurry.notified() => {}
                    }
                }
            }
        }
    }

    async fn post(&self, payload: &EventPayload) -> Result<(), PostError> {
        // Its status is all that counts.
        let sent =
            self.endpoint.send(Method::POST, &self.path, &self.headers, payload.body(), 0, self.timeout);
        let answer = sent.await?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(PostError::Status(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Resolver;

    #[test]
    fn pauses_double_from_half_a_second_to_half_a_minute_less_up_to_a_half() {
        let mut rng = Rng::seeded(1);
        for (failures, most) in [(0, 500), (1, 1000), (5, 16_000), (6, 30_000), (60, 30_000)] {
            let most = Duration::from_millis(most);
            let pauses: Vec<_> = (0..100).map(|_| PAUSES.pause(failures, &mut rng)).collect();
            assert!(pauses.iter().all(|pause| (most / 2..=most).contains(pause)), "{failures}");
            assert!(pauses.iter().max().unwrap().abs_diff(*pauses.iter().min().unwrap()) > most / 10);
        }
    }

    #[test]
    fn nothing_of_a_webhook_that_is_shown_is_secret() {
        let endpoint = Endpoint::new("hooks.example.org", 443, None, Resolver::default()).unwrap();
        let webhook = WebhookClient::new(endpoint, "/x", Some(b"do-not-show"), Duration::from_secs(1));
        assert_eq!(webhook.headers[2].1, "Bearer do-not-show");
        assert!(!format!("{webhook:?}").contains("do-not-show"), "{webhook:?}");
    }
}
