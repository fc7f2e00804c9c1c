//! The line to the run: questions on standard input, answers on standard output, a line of JSON each.

use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use mio::Waker;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Trying as _};

/// Questions that wait; a run asks one after the other.
const QUESTIONS: usize = 4;

/// What a role says when it is ready, where somebody connects to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
}

/// What a role says when it is ready, where nobody does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {}

/// Reads what a role was started with.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, BenchError> {
    serde_json::from_str(text).doing(|| format!("cannot read {text:?}"))
}

/// Writes an answer.
pub(crate) fn answer(answer: &impl Serialize) -> Result<(), BenchError> {
    let mut line = serde_json::to_string(answer).doing(|| "cannot write an answer".to_owned())?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).doing(|| "nobody reads".to_owned())
}

/// The questions, from a thread of their own that wakes the loop for each, and for the end.
pub(crate) fn questions<T: DeserializeOwned + Send + 'static>(waker: Waker) -> Questions<T> {
    let (sender, receiver) = sync_channel(QUESTIONS);
    let waker = Arc::new(waker);
    let wakes = Arc::clone(&waker);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(question) = serde_json::from_str(&line) else { break };
            if sender.send(question).is_err() || wakes.wake().is_err() {
                return;
            }
        }
        drop(sender);
        let _loop_is_gone = wakes.wake();
    });
    Questions { receiver, _waker: waker }
}

/// What is asked.
pub(crate) struct Questions<T> {
    receiver: Receiver<T>,
    /// A waker that is gone takes with it what it has just told.
    _waker: Arc<Waker>,
}

impl<T> Questions<T> {
    /// Whether there will be no more.
    pub(crate) fn are_over(&self) -> bool {
        matches!(self.receiver.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// The next, if there is one.
    pub(crate) fn try_take(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }
}

/// The questions one by one, on a thread of their own, until `take` wants no more. It is dropped at their end.
pub(crate) fn each_question<T: DeserializeOwned>(mut take: impl FnMut(T) -> bool + Send + 'static) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if !serde_json::from_str(&line).is_ok_and(&mut take) {
                break;
            }
        }
    });
}

/// As many sockets as this process may have at all.
pub(crate) fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With fewer, the connection that is one too many says so.
        let _refused = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
