//! Posts payloads to the administrator's webhook, one after the other, each until it is taken.

use std::time::Duration;

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::outbox::Outbox;
use super::payload::EventPayload;
use crate::http_client::{Endpoint, secret_header};
use gateway_net::backoff::{Backoff, Jitter};
use gateway_net::rng::Rng;

/// Pauses after attempts that failed, of which jitter leaves a half: a webhook that is down is never asked at once.
const PAUSES: Backoff =
    Backoff { jitter: Jitter::Equal, ..Backoff::new(Duration::from_millis(500), Duration::from_secs(30)) };

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

    /// Posts whatever is in the outbox or comes there. `ending` ends the first pause between two attempts that it meets, and
    /// the whole as soon as nothing is left.
    ///
    /// Dropped in the middle of an attempt, that payload stays in the outbox.
    pub(super) async fn deliver(&self, outbox: &Outbox, ending: &CancellationToken) {
        let (mut failures, mut is_failing, mut is_hurried) = (0u32, false, false);
        loop {
            let Some(payload) = outbox.take() else {
                tokio::select! {
                    // What came before the end is posted.
                    biased;
                    () = outbox.arrived.notified() => continue,
                    () = ending.cancelled() => return,
                }
            };
            let Err(error) = self.post(&payload).await else {
                outbox.delivered();
                failures = 0;
                if std::mem::take(&mut is_failing) {
                    info!(event = "webhook_back", to = self.endpoint.authority());
                }
                continue;
            };
            outbox.failed();
            // One line per outage; the rest is in the metrics.
            if !std::mem::replace(&mut is_failing, true) {
                warn!(event = "webhook_failing", to = self.endpoint.authority(), id = payload.id, %error,
                    "the webhook did not take an event; trying again, and keeping those that come");
            }
            tokio::select! {
                () = sleep(PAUSES.pause(failures, &mut Rng::default())) => failures = failures.saturating_add(1),
                () = ending.cancelled(), if !is_hurried => is_hurried = true,
            }
        }
    }

    /// Fails with what the log says: neither the path, which may be a secret, nor the token.
    async fn post(&self, payload: &EventPayload) -> Result<(), String> {
        // The status of the answer is all that counts.
        let sent =
            self.endpoint.send(Method::POST, &self.path, &self.headers, payload.body(), 0, self.timeout);
        match sent.await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("status {}; 2xx would mean that it was taken", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::time::SystemTime;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use super::*;
    use crate::monitor::events::conditions::{ConditionState, Told};
    use crate::monitor::events::event::{Severity, Subject};
    use crate::monitor::labels::Delivery;
    use crate::resolve::Resolver;

    #[tokio::test]
    async fn what_came_before_the_end_is_posted_and_then_it_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::new("127.0.0.1", port, None, Resolver::default()).unwrap();
        let webhook = WebhookClient::new(endpoint, "/x", None, Duration::from_secs(10));
        let (outbox, ending) = (Outbox::default(), CancellationToken::new());
        let mut delivering = pin!(webhook.deliver(&outbox, &ending));
        tokio::select! {
            biased;
            () = &mut delivering => panic!("it has not been told to end"),
            () = yield_now() => {}
        }
        for number in 0..2 {
            let (subject, state, severity) = (Subject::drain(), ConditionState::Raised, Severity::Info);
            let told = Told { subject, state, severity, detail: "d".into(), suppressed: 0 };
            outbox.push(Arc::new(EventPayload::new("g", "0", number, told, SystemTime::UNIX_EPOCH)));
        }
        ending.cancel();
        let answering = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"}") {
                    assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
                }
                stream.write_all(b"HTTP/1.1 200 ok\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        };
        tokio::join!(delivering, answering);
        assert_eq!((outbox.len(), outbox.deliveries(Delivery::Delivered)), (0, 2));
    }

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
