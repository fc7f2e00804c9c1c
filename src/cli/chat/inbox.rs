//! What the chat has shown of the account's messages, and how far it acknowledges them.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use gateway::wire::pb;
use gateway_client::{CallError, RequestError, Requests as _, ResilientClient};
use gateway_net::backoff::Backoff;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::cli::chat::notice::say;

/// Message ids remembered, so that a message that comes both as missed and as a push is shown once.
const MAX_SEEN: usize = 65_536;

/// The most an index holds (protocol §3): a full one may not be the last.
const INDEX_FULL: usize = 2000;

/// Texts asked for at once (protocol §3).
const CONTENTS: usize = 200;

/// A message's direction: received by this user.
const RECEIVED: i32 = 0;

/// Before a failed round is tried again: a service may lack these requests for good.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Shows what was missed and acknowledges what was shown, in rounds, one request at a time.
///
/// An acknowledgement is cumulative: it covers every message with a smaller id. So one push proves nothing about the
/// messages before it: they may have been missed while away, or pushed by another instance of the service, with
/// which this one has no common order, and lost with its link. Whatever is acknowledged unseen is lost for good.
/// Therefore a round asks for the index first, has shown what is unseen in it, and only then acknowledges. Pushes that
/// come meanwhile wait for the next round together, so a busy chat makes no more requests than its round trips allow.
#[derive(Debug)]
pub(super) struct Inbox {
    client: ResilientClient,
    seen: Seen,
    /// The request under way; at most one.
    request: JoinSet<Result<InboxStep, CallError>>,
    round: Round,
    /// All that was missed before the session was listed and shown once.
    caught_up: bool,
    /// Signed in again since the round under way began: what was missed is to be listed once more.
    again: bool,
    /// The highest id shown that no round has acknowledged.
    shown: Option<i64>,
    /// Since the last success: how many pauses there were, and until when the last one lasts.
    pause: Option<(u32, Instant)>,
}

/// One way from the index to the acknowledgement.
#[derive(Debug, Default)]
struct Round {
    /// What is listed above this is left to the next round: most likely its push is on the way.
    upto: i64,
    /// The highest id that may be acknowledged once all below it was shown; 0: none.
    ack: i64,
    /// Listed and not seen: in parts, whose texts are asked for one after the other.
    parts: VecDeque<Vec<pb::MessageIndex>>,
    /// The index was full up to this id.
    more_after: Option<i64>,
    after: i64,
}

/// An answer.
#[derive(Debug)]
pub(super) enum InboxStep {
    /// For [`Inbox::take`].
    Listed(Vec<pb::MessageIndex>),
    /// For the one who shows it, and then for [`Inbox::proceed`].
    Texts(Vec<pb::MessageIndex>, Vec<pb::MessageContent>),
    /// For [`Inbox::take`].
    Acknowledged,
}

impl Inbox {
    pub(super) fn new(client: ResilientClient) -> Self {
        Self {
            client,
            seen: Seen::default(),
            request: JoinSet::new(),
            round: Round::default(),
            caught_up: false,
            again: false,
            shown: None,
            pause: None,
        }
    }

    /// Remembers that a message is shown; false when it was before.
    pub(super) fn note(&mut self, id: i64) -> bool {
        self.seen.note(id)
    }

    /// A push was shown and may be acknowledged.
    pub(super) fn want_ack(&mut self, id: i64) {
        self.shown = self.shown.max(Some(id));
    }

    /// Signed in again: there may be more that was missed.
    pub(super) const fn start_over(&mut self) {
        self.again = true;
        self.pause = None;
    }

    /// Starts a round when there is something to do, none is under way, and no pause lasts.
    pub(super) fn begin(&mut self) {
        let wanted = self.again || !self.caught_up || self.shown.is_some();
        if !wanted || !self.request.is_empty() || self.retry_at().is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.caught_up &= !self.again;
        self.again = false;
        let ack = self.shown.take().unwrap_or(0);
        let upto = if self.caught_up { ack } else { i64::MAX };
        self.round = Round { upto, ack, ..Round::default() };
        self.list(0);
    }

    /// The answer to the request under way; `None` when there is none. Cancel safe.
    pub(super) async fn answer(&mut self) -> Option<Result<Result<InboxStep, CallError>, JoinError>> {
        self.request.join_next().await
    }

    /// Takes an answer that needs no showing, or a failure.
    pub(super) fn take(&mut self, step: Result<InboxStep, CallError>) {
        match step {
            Ok(InboxStep::Listed(indexes)) => {
                self.sort_out(indexes);
                self.proceed();
            }
            Ok(InboxStep::Texts(..)) => self.proceed(),
            Ok(InboxStep::Acknowledged) => self.pause = None,
            Err(error) => self.fail(&error),
        }
    }

    /// What was listed and fetched is shown: on to what comes next in this round.
    pub(super) fn proceed(&mut self) {
        if let Some(part) = self.round.parts.pop_front() {
            let client = self.client.clone();
            let ids = part.iter().map(|index| index.message_id).collect();
            self.request.spawn(async move { Ok(InboxStep::Texts(part, client.offline_content(ids).await?)) });
        } else if let Some(after) = self.round.more_after.take() {
            self.list(after);
        } else {
            self.caught_up = true;
            if self.round.ack == 0 {
                self.pause = None;
                return;
            }
            let (client, id) = (self.client.clone(), self.round.ack);
            self.request.spawn(async move { client.ack(id).await.map(|()| InboxStep::Acknowledged) });
        }
    }

    /// The first attempt to fetch what was missed is still under way.
    pub(super) fn is_starting(&self) -> bool {
        (self.again || !self.caught_up) && self.pause.is_none()
    }

    /// No request is under way, and none will be before [`retry_at`](Self::retry_at) or the next push.
    pub(super) fn is_idle(&self) -> bool {
        self.request.is_empty()
    }

    /// The last round failed: something may be unseen, or will be shown again next time.
    pub(super) fn is_behind(&self) -> bool {
        self.pause.is_some()
    }

    /// When [`begin`](Self::begin) tries a failed round again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.pause.map(|(_, at)| at).filter(|_| self.request.is_empty())
    }

    fn list(&mut self, after: i64) {
        self.round.after = after;
        let client = self.client.clone();
        self.request.spawn(async move { client.offline_index(after).await.map(InboxStep::Listed) });
    }

    fn sort_out(&mut self, mut indexes: Vec<pb::MessageIndex>) {
        let round = &mut self.round;
        let last = indexes.iter().map(|index| index.message_id).max().unwrap_or(0);
        if indexes.len() >= INDEX_FULL && last > round.after && last < round.upto {
            round.more_after = Some(last);
        }
        indexes.retain(|index| index.direction == RECEIVED && index.message_id <= round.upto);
        round.ack = indexes.iter().map(|index| index.message_id).fold(round.ack, i64::max);
        indexes.retain(|index| !self.seen.ids.contains(&index.message_id));
        round.parts = indexes.chunks(CONTENTS).map(<[_]>::to_vec).collect();
    }

    fn fail(&mut self, error: &CallError) {
        let acknowledging = self.caught_up && self.round.parts.is_empty();
        if self.round.ack > 0 {
            self.want_ack(self.round.ack);
        }
        let before = self.pause.map_or(0, |(pauses, _)| pauses);
        let first = before == 0;
        self.pause = Some((before + 1, Instant::now() + PAUSES.unjittered(before)));
        if first && !matches!(error, CallError::Request(RequestError::Closed(_) | RequestError::NotSent(_))) {
            let what = if acknowledging { "acknowledge what was shown" } else { "fetch what was missed" };
            say(&format!("cannot {what}, will try again: {error}"));
        }
    }
}

/// The last message ids shown.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<i64>,
    order: VecDeque<i64>,
}

impl Seen {
    /// Remembers an id; false when it was there already.
    fn note(&mut self, id: i64) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_counted_once_and_memory_is_bounded() {
        let mut seen = Seen::default();
        assert!(seen.note(1));
        assert!(!seen.note(1));
        for id in 2..=MAX_SEEN as i64 + 1 {
            assert!(seen.note(id));
        }
        assert_eq!((seen.ids.len(), seen.order.len()), (MAX_SEEN, MAX_SEEN));
        assert!(seen.note(1), "the oldest is forgotten");
    }
}
