//! What is new each second, as server-sent events (HTML standard, section 9.2). It is made once for all who read, while
//! somebody does; whoever does not keep up is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::header::{ACCEPT, HeaderMap};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::request::{AdminRequest, Answerer};
use super::stream::AnswerBody;
use crate::limits::{ADMIN_READER_BEHIND, ADMIN_READERS, ADMIN_STREAM_EVERY};

/// What is answered there is made anew each second.
const PATH: &str = "/api/v1/stream";

/// Those who read.
#[derive(Debug, Default)]
pub(super) struct EventStream(Mutex<Vec<Sender<Bytes>>>);

impl EventStream {
    /// Whether the answer is to go on.
    pub(super) fn is_asked(method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let accepts = |value: &hyper::header::HeaderValue| value.as_bytes() == b"text/event-stream";
        method == Method::GET && path == PATH && headers.get(ACCEPT).is_some_and(accepts)
    }

    /// Another one reads; none if enough do.
    pub(super) fn reader(&self) -> Option<AnswerBody> {
        let mut readers = self.lock();
        readers.retain(|reader| !reader.is_closed());
        if readers.len() >= ADMIN_READERS {
            return None;
        }
        let (sender, receiver) = channel(ADMIN_READER_BEHIND);
        readers.push(sender);
        Some(AnswerBody::Events(receiver))
    }

    /// Ends never.
    pub(super) async fn run(&self, answer: Answerer) {
        let mut ticks = interval(ADMIN_STREAM_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.lock().is_empty() {
                continue;
            }
            let answer = Arc::clone(&answer);
            // A panic has been reported by the panic hook; there is no event then.
            let answered = spawn_blocking(move || answer(question())).await;
            if let Ok(answered) = answered.as_ref()
                && answered.status == StatusCode::OK
            {
                self.tell(&Bytes::from(format!("data: {}\n\n", answered.body)));
            }
        }
    }

    /// Those who have gone are forgotten here, and those who are too far behind.
    fn tell(&self, event: &Bytes) {
        self.lock().retain(|reader| reader.try_send(event.clone()).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn question() -> AdminRequest {
    AdminRequest {
        method: Method::GET,
        path: PATH.to_owned(),
        query: String::new(),
        who: "stream".into(),
        body: Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::admin::AdminAnswer;

    #[tokio::test]
    async fn f18_readers_are_counted_and_one_that_does_not_keep_up_makes_room() {
        let stream = EventStream::default();
        let mut readers: Vec<_> = (0..ADMIN_READERS).map(|_| stream.reader().unwrap()).collect();
        assert!(stream.reader().is_none());
        let mut kept = readers.pop().unwrap();
        for number in 0..=ADMIN_READER_BEHIND {
            stream.tell(&Bytes::from(number.to_string()));
            let event = kept.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(event, number.to_string());
        }
        assert_eq!(stream.lock().len(), 1, "all but the one that reads");
        drop(kept);
        assert!(stream.reader().is_some());
        assert_eq!(stream.lock().len(), 1, "whoever has gone is not counted");
    }

    #[tokio::test]
    async fn one_answer_is_made_a_second_for_all_while_somebody_reads() {
        let (stream, made) = (EventStream::default(), Arc::new(Mutex::new(0)));
        let counted = Arc::clone(&made);
        let answer: Answerer = Arc::new(move |request: AdminRequest| {
            assert_eq!((request.path.as_str(), &*request.who), (PATH, "stream"));
            let mut made = counted.lock().unwrap();
            *made += 1;
            AdminAnswer::ok(Value::from(*made))
        });
        let mut readers = [stream.reader().unwrap(), stream.reader().unwrap()];
        let reading = async {
            for expected in ["data: 1\n\n", "data: 2\n\n"] {
                for reader in &mut readers {
                    assert_eq!(reader.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
                }
            }
        };
        tokio::select! {
            () = stream.run(answer) => {}
            () = reading => {}
        }
        assert_eq!(*made.lock().unwrap(), 2);
    }
}
