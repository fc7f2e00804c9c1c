//! What workers are asked. Each has a mailbox of its own, takes one question after the other, and answers in slices, so that
//! no message waits long behind one. Whoever asks is a thread that may block.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::listing::{ConnectionFilter, Listing, PageRows};
use super::model::{CloseRow, ConnectionView, LinkRow, RouteExplanation};
use super::orders::{EjectedInstance, ReturnOrder};
use crate::limits::{ADMIN_ANSWER, ADMIN_QUESTIONS};
use crate::packet_trace::Tap;

/// Where an answer goes. Whoever asked may have left.
#[derive(Debug)]
pub(crate) struct Reply<T>(SyncSender<T>);

impl<T> Reply<T> {
    /// Waits for nobody: there is a place for the answer of each worker.
    pub(crate) fn send(self, answer: T) {
        let _nobody_waits_any_more = self.0.try_send(answer);
    }
}

/// How clients are to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DrainPlan {
    /// They are closed one after the other over this.
    pub(crate) window: Duration,
    /// `host:port` of the gateway they may go to.
    pub(crate) to: Option<String>,
}

/// What is pushed to whom.
#[derive(Debug)]
pub(crate) struct NoticePlan {
    pub(crate) filter: ConnectionFilter,
    pub(crate) command: String,
    pub(crate) body: Bytes,
}

/// To how many it is on its way, and how many took no more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoticeCount {
    pub(crate) queued: usize,
    pub(crate) not_taken: usize,
}

/// A question to a worker.
#[derive(Debug)]
pub(crate) enum Question {
    /// Its part of a page.
    Connections(Arc<Listing>, Reply<PageRows>),
    /// The connection with this channel id or connection number, if it is one of its.
    Connection(Arc<str>, Reply<Option<Box<ConnectionView>>>),
    /// Its links.
    Links(Reply<Vec<LinkRow>>),
    /// Where this app and account go.
    Explain(Arc<(String, String)>, Reply<RouteExplanation>),
    /// Has every connection end that matches; how many those are.
    Kick(Arc<ConnectionFilter>, Reply<usize>),
    /// Its channels that ended, the last one first.
    Closes(Reply<Vec<CloseRow>>),
    /// Pushes to every open channel that matches.
    Notice(Arc<NoticePlan>, Reply<NoticeCount>),
    /// Has its clients go, and lets nobody in; how many there are.
    Drain(Arc<DrainPlan>, Reply<usize>),
    /// Ends that; how many are still there.
    Undrain(Reply<usize>),
    /// Gives an instance no new requests; how many moved from its queue.
    Eject(Arc<EjectedInstance>, Reply<usize>),
    /// Ends that; the services where it held.
    Return(Arc<ReturnOrder>, Reply<Vec<String>>),
    /// Shows the packets of an account from now on; how many channels it has there.
    Trace(Tap, Reply<usize>),
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MailboxError {
    /// Too many ask.
    #[error("worker {0} has many questions to answer already; ask again later")]
    Busy(usize),
    /// It takes too long.
    #[error(
        "a worker has not answered within {ADMIN_ANSWER:?}: it is very busy, or hangs; `ctl status` shows its lag"
    )]
    Late,
    /// It has ended.
    #[error("a worker has ended: the gateway is going away")]
    Ended,
}

/// The side of those who ask. Clones share the mailboxes.
#[derive(Debug, Clone)]
pub(crate) struct Mailboxes {
    workers: Arc<[Sender<Question>]>,
    /// Ages are told from here.
    pub(crate) epoch: Instant,
}

/// The side of one worker.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The next question, if there is somebody who may still ask.
    pub(crate) questions: Receiver<Question>,
    pub(crate) epoch: Instant,
}

impl Mailboxes {
    /// For so many workers; the second part is theirs, in order.
    pub(crate) fn new(workers: usize, epoch: Instant) -> (Self, Vec<Mailbox>) {
        let (senders, mailboxes): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (sender, questions) = channel(ADMIN_QUESTIONS);
                (sender, Mailbox { questions, epoch })
            })
            .unzip();
        (Self { workers: senders.into(), epoch }, mailboxes)
    }

    /// Asks every worker and waits for all answers, which come in any order.
    ///
    /// # Errors
    /// [`MailboxError`]; some workers may have got the question.
    pub(crate) fn ask<T>(&self, question: impl Fn(Reply<T>) -> Question) -> Result<Vec<T>, MailboxError> {
        let (reply, answers) = mpsc::sync_channel(self.workers.len());
        for (worker, mailbox) in self.workers.iter().enumerate() {
            mailbox.try_send(question(Reply(reply.clone()))).map_err(|error| match error {
                TrySendError::Full(_) => MailboxError::Busy(worker),
                TrySendError::Closed(_) => MailboxError::Ended,
            })?;
        }
        drop(reply);
        let by = Instant::now() + ADMIN_ANSWER;
        let answer = |_| {
            answers.recv_timeout(by.saturating_duration_since(Instant::now())).map_err(|error| match error {
                RecvTimeoutError::Timeout => MailboxError::Late,
                RecvTimeoutError::Disconnected => MailboxError::Ended,
            })
        };
        (0..self.workers.len()).map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_are_asked_and_one_that_does_not_listen_is_named() {
        let (mailboxes, mut workers) = Mailboxes::new(2, Instant::now());
        let threads: Vec<_> = workers
            .drain(..)
            .map(|mut mailbox| {
                std::thread::spawn(move || {
                    let Some(Question::Closes(reply)) = mailbox.questions.blocking_recv() else {
                        return None;
                    };
                    reply.send(Vec::new());
                    Some(mailbox)
                })
            })
            .collect();
        assert_eq!(mailboxes.ask(Question::Closes).unwrap().len(), 2);
        workers.extend(threads.into_iter().filter_map(|thread| thread.join().unwrap()));
        assert_eq!(workers.len(), 2);
        let full = Sender::clone(&mailboxes.workers[1]);
        for _ in 0..ADMIN_QUESTIONS {
            full.try_send(Question::Closes(Reply(mpsc::sync_channel(1).0))).unwrap();
        }
        assert_eq!(mailboxes.ask(Question::Closes).unwrap_err(), MailboxError::Busy(1));
        drop(workers);
        assert_eq!(mailboxes.ask(Question::Closes).unwrap_err(), MailboxError::Ended);
    }
}
