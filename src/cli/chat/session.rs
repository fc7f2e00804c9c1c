//! One chat session: what was missed, then lines out and messages in, until there is nothing left to wait for.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use gateway::wire::close::CloseReason;
use gateway::wire::{command, pb};
use gateway_client::{CallError, End, Event, Push, Requests as _, ResilientClient, ResilientPushes};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cli::chat::events::{ChatEvents, Line, message_line};
use crate::cli::chat::groups::{FinishedTask, GroupTasks};
use crate::cli::chat::inbox::{Inbox, InboxStep};
use crate::cli::chat::input::{InputLine, Lines};
use crate::cli::chat::instruction::{HELP, Instruction, To, parse};
use crate::cli::chat::notice::{detour, say};

/// Lines sent and not answered; then no more input is read. Far below what the gateway takes from one channel.
const MAX_UNANSWERED: usize = 64;

/// Pushes put aside while what was missed before them is fetched; more are shown before it.
const MAX_EARLY: usize = 4096;

/// How a session went.
#[derive(Debug)]
pub(super) enum SessionOutcome {
    /// All answered with status 0, and as many messages came as were expected.
    Complete,
    /// Something was refused or not answered, or messages did not come.
    Incomplete,
    /// It was ended, and does not come back.
    Over(Arc<End>),
}

/// A line that was sent, and what became of it.
type Talked = (To, String, Result<pb::MessageResp, CallError>);

/// A running chat.
pub(super) struct Session {
    client: ResilientClient,
    pushes: ResilientPushes,
    news: gateway_client::Events,
    account: String,
    to: Option<String>,
    events: ChatEvents,
    interrupted: CancellationToken,
    /// Why the last connection ended.
    lost: Option<CloseReason>,
    /// Pushes that came while what was missed was fetched.
    early: VecDeque<Push>,
    inbox: Inbox,
    groups: GroupTasks,
    talks: JoinSet<Talked>,
    sent: u64,
    stored: u64,
    received: u64,
    /// Something did not go as asked.
    failed: bool,
}

impl Session {
    pub(super) fn new(
        (client, pushes, news): (ResilientClient, ResilientPushes, gateway_client::Events),
        account: String,
        to: Option<String>,
    ) -> Self {
        let interrupted = super::events::interrupts();
        Self {
            inbox: Inbox::new(client.clone()),
            groups: GroupTasks::new(client.clone()),
            client,
            pushes,
            news,
            account,
            to,
            events: ChatEvents::new(interrupted.clone()),
            interrupted,
            lost: None,
            early: VecDeque::new(),
            talks: JoinSet::new(),
            sent: 0,
            stored: 0,
            received: 0,
            failed: false,
        }
    }

    /// Runs until input is over and nothing is left to wait for, or the gateway or the user ends it.
    ///
    /// # Errors
    /// Standard output's only.
    pub(super) async fn run(&mut self, expect: Option<u64>, wait: Duration) -> io::Result<SessionOutcome> {
        let over = match self.news.recv().await {
            Some(first) => match self.take_event(first).await? {
                Some(end) => Some(self.over(end).await?),
                None => self.attend(expect.unwrap_or(0), wait).await?,
            },
            None => Some(Arc::new(End::Stopped)),
        };
        self.show_early().await?;
        if let Some(end) = &over {
            self.events.emit(Line::new("closed").field("reason", reason_of(end))).await?;
        }
        let done = Line::new("done").field("sent", self.sent).field("stored", self.stored);
        self.events.emit(done.field("received", self.received)).await?;
        Ok(match over {
            Some(end) => SessionOutcome::Over(end),
            None if self.is_complete(expect.unwrap_or(0)) => SessionOutcome::Complete,
            None => SessionOutcome::Incomplete,
        })
    }

    /// Nothing failed, and nothing is owed: an interrupt leaves lines without an answer.
    fn is_complete(&self, expect: u64) -> bool {
        !self.failed
            && !self.groups.is_ordering()
            && !self.inbox.is_behind()
            && self.stored == self.sent
            && self.received >= expect
    }

    /// The loop: input, answers, messages. Returns why the session is over, if it is.
    async fn attend(&mut self, expect: u64, wait: Duration) -> io::Result<Option<Arc<End>>> {
        let mut lines = Lines::of_stdin();
        // When input ended, and with it how long expected messages may still take.
        let mut until = None;
        let interrupted = self.interrupted.clone();
        loop {
            // A script goes on for the sake of its exit code; a person who reads nothing any more has left.
            if self.events.is_unread() && io::stdin().is_terminal() {
                until.get_or_insert_with(|| Instant::now() + wait);
            }
            let starting = self.inbox.is_starting();
            if !starting {
                self.show_early().await?;
            }
            self.inbox.begin();
            let idle = self.talks.is_empty() && self.groups.is_idle() && self.inbox.is_idle();
            if let Some(until) = until
                && idle
                && (self.received >= expect || Instant::now() >= until)
            {
                return Ok(None);
            }
            let busy = self.groups.is_ordering() || self.talks.len() >= MAX_UNANSWERED;
            let reads = !starting && until.is_none() && !busy;
            let retry = self.inbox.retry_at();
            tokio::select! {
                input = lines.next(), if reads => match input {
                    Ok(InputLine::End) => until = Some(Instant::now() + wait),
                    Ok(input) => self.take(input).await?,
                    Err(error) => {
                        say(&format!("cannot read standard input: {error}"));
                        self.failed = true;
                        until = Some(Instant::now() + wait);
                    }
                },
                Some(Ok(talked)) = self.talks.join_next() => self.show_answer(talked).await?,
                Some(Ok(done)) = self.groups.answer() => self.show_done(done).await?,
                Some(Ok(step)) = self.inbox.answer() => self.take_step(step).await?,
                Some(event) = self.news.recv() => if let Some(end) = self.take_event(event).await? {
                    return self.over(end).await.map(Some);
                },
                Some(push) = self.pushes.recv() => match push {
                    // What was missed is older. Put aside and not left in the connection, where on TCP it stands
                    // in the way of answers.
                    push if starting && self.early.len() < MAX_EARLY => self.early.push_back(push),
                    push => self.show_push(&push).await?,
                },
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() && idle => {}
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
                () = interrupted.cancelled() => return Ok(None),
            }
        }
    }

    /// Shows what happened to the session; its end is left to [`over`](Self::over).
    async fn take_event(&mut self, event: Event) -> io::Result<Option<Arc<End>>> {
        let line = match event {
            Event::Connected(online) => {
                if let Some(line) = detour(&online.failed, online.transport) {
                    say(&line);
                }
                // The first time there is nothing to do over.
                self.inbox.start_over();
                let line = Line::new("online").field("account", &self.account);
                let line =
                    line.field("channel", &online.login.channel_id).field("transport", online.transport);
                line.field("server", &online.server)
            }
            Event::Draining(told) => {
                Line::new("draining").field("within", humantime::format_duration(told.within))
            }
            Event::Reconnecting { attempt, after, server } => {
                let reason = self.lost.map_or("draining", CloseReason::token);
                let after = humantime::format_duration(Duration::from_millis(after.as_millis() as u64));
                let line = Line::new("reconnecting").field("reason", reason).field("attempt", attempt);
                line.field("after", after).field("server", server)
            }
            Event::Lost(reason) => {
                self.lost = Some(reason);
                return Ok(None);
            }
            Event::Over(end) => return Ok(Some(end)),
            // A kick is told by the end that follows it.
            _ => return Ok(None),
        };
        self.events.emit(line).await?;
        Ok(None)
    }

    /// The session is over: what arrived before is shown, and what was sent and not answered never will be.
    async fn over(&mut self, end: Arc<End>) -> io::Result<Arc<End>> {
        while let Some(push) = self.pushes.recv().await {
            self.show_push(&push).await?;
        }
        while let Some(talked) = self.talks.join_next().await {
            if let Ok(talked) = talked {
                self.show_answer(talked).await?;
            }
        }
        while let Some(done) = self.groups.answer().await {
            if let Ok(done) = done {
                self.show_done(done).await?;
            }
        }
        Ok(end)
    }

    /// Does what a line asks for.
    async fn take(&mut self, input: InputLine) -> io::Result<()> {
        let line = match input {
            InputLine::Line(line) if line.trim().is_empty() => return Ok(()),
            InputLine::Line(line) => line,
            InputLine::TooLong | InputLine::End => {
                self.reject("this line is too long");
                return Ok(());
            }
        };
        match parse(&line, self.to.as_deref()) {
            Ok(Instruction::Talk(to, text)) => self.talk(to, text).await?,
            Ok(Instruction::Order(order)) => {
                if let Err(reason) = self.groups.order(order) {
                    self.reject(&reason);
                }
            }
            Ok(Instruction::Groups) => {
                for line in self.groups.lines() {
                    self.events.emit(line).await?;
                }
            }
            Ok(Instruction::Help) => HELP.into_iter().for_each(say),
            Err(reason) => self.reject(&reason),
        }
        Ok(())
    }

    fn reject(&mut self, reason: &str) {
        say(&format!("not sent: {reason}"));
        self.failed = true;
    }

    async fn talk(&mut self, to: To, text: String) -> io::Result<()> {
        let to = match to {
            To::Account(account) => To::Account(account),
            To::Group(group) => match self.groups.resolve(&group) {
                Ok(id) => To::Group(id),
                Err(reason) => {
                    self.reject(&reason);
                    return Ok(());
                }
            },
        };
        self.sent += 1;
        // Sent here and not in the task, so that lines leave in order.
        let sent = match &to {
            To::Account(account) => self.client.send_talk(account, &text).await,
            To::Group(group) => self.client.send_talk_group(group, &text).await,
        };
        match sent {
            Ok(answer) => {
                self.talks.spawn(async move {
                    let stored = answer.await.map_err(CallError::from).and_then(|answer| answer.decode());
                    (to, text, stored)
                });
                Ok(())
            }
            Err(error) => self.show_answer((to, text, Err(error.into()))).await,
        }
    }

    async fn show_answer(&mut self, (to, text, result): Talked) -> io::Result<()> {
        let addressed = |event| match &to {
            To::Account(account) => Line::new(event).field("to", account),
            To::Group(group) => Line::new(event).field("group", group),
        };
        let line = match result {
            Ok(stored) => {
                self.stored += 1;
                addressed("stored").field("id", stored.message_id).time(stored.send_time)
            }
            Err(error) => {
                self.failed = true;
                if let To::Group(group) = &to {
                    self.groups.explain(&error, group);
                }
                addressed("failed").error(&error)
            }
        };
        self.events.emit(line.text(&text)).await
    }

    async fn show_done(&mut self, done: FinishedTask) -> io::Result<()> {
        let (line, went_well) = self.groups.take(done);
        self.failed |= !went_well;
        self.events.emit(line).await
    }

    async fn show_push(&mut self, push: &Push) -> io::Result<()> {
        if let Some(notice) = push.group_notice() {
            return match self.groups.notice(notice, &self.account) {
                Some(line) => self.events.emit(line).await,
                None => Ok(()),
            };
        }
        let Some(message) = push.message() else { return Ok(()) };
        if self.inbox.note(message.message_id) {
            let is_group = push.header.command == command::CHAT_GROUP_TALK;
            let group = if is_group { push.header.dest.as_str() } else { "" };
            let line = message_line(&message.sender, group, message.message_id);
            self.show(line.time(message.send_time).field("via", "push").text(&message.body)).await?;
        }
        self.inbox.want_ack(message.message_id);
        Ok(())
    }

    /// Shows the pushes put aside.
    async fn show_early(&mut self) -> io::Result<()> {
        while let Some(push) = self.early.pop_front() {
            self.show_push(&push).await?;
        }
        Ok(())
    }

    /// One step of fetching and acknowledging. The inbox goes on when the texts are shown, not before.
    async fn take_step(&mut self, step: Result<InboxStep, CallError>) -> io::Result<()> {
        match step {
            Ok(InboxStep::Texts(part, contents)) => {
                self.show_missed(part, contents).await?;
                self.inbox.proceed();
            }
            other => self.inbox.take(other),
        }
        Ok(())
    }

    async fn show(&mut self, line: Line) -> io::Result<()> {
        self.received += 1;
        self.events.emit(line).await
    }

    /// Shows texts of missed messages. A push may have been faster.
    async fn show_missed(
        &mut self,
        part: Vec<pb::MessageIndex>,
        contents: Vec<pb::MessageContent>,
    ) -> io::Result<()> {
        let mut texts: HashMap<i64, pb::MessageContent> =
            contents.into_iter().map(|content| (content.message_id, content)).collect();
        for index in part {
            if !self.inbox.note(index.message_id) {
                continue;
            }
            let Some(content) = texts.remove(&index.message_id) else {
                say(&format!("message {} was missed, and its text is no longer there", index.message_id));
                continue;
            };
            let line = message_line(&index.account_b, &index.group, index.message_id);
            self.show(line.time(index.send_time).field("via", "offline").text(&content.body)).await?;
        }
        Ok(())
    }
}

/// One word for the end of a session.
fn reason_of(end: &End) -> CloseReason {
    match end {
        End::Stopped => CloseReason::Bye,
        End::Closed(reason) => *reason,
        End::Login(_) | End::Token(_) => CloseReason::Unauthenticated,
        _ => CloseReason::PeerLost,
    }
}
