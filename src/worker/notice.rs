//! A push of the administrator's: to each channel once, as those of logic services, within the same budgets.

use std::rc::Rc;

use tokio::task::yield_now;

use super::questions::Overview;
use crate::admin::mailbox::{NoticeCount, NoticePlan};
use crate::dispatch::traced::outcome;
use crate::monitor::metrics::{Direction, PushDrop};
use crate::packet_trace::{PacketKind, TracedPacket};
use crate::session::channel::Channel;
use crate::session::outgoing::Full;
use crate::wire::command;
use crate::wire::dialect::Dialect;
use crate::wire::packet::{Encoded, encode_message};
use crate::wire::pb;

impl Overview {
    /// Looks at the connections in slices. Whose task has to write first is tried once more behind all others.
    pub(super) async fn notice(&self, plan: &NoticePlan) -> NoticeCount {
        let mut notice =
            Notice { plan, frames: [None, None], count: NoticeCount::default(), again: Vec::new() };
        self.for_each(|seen| {
            if let Some(channel) = seen.open_channel(&plan.filter) {
                notice.push(self, channel);
            }
        })
        .await;
        for channel in std::mem::take(&mut notice.again) {
            yield_now().await;
            notice.push(self, &channel);
        }
        for channel in std::mem::take(&mut notice.again) {
            notice.settle(self, &channel, Err(Full::Slow));
        }
        notice.count
    }
}

struct Notice<'a> {
    plan: &'a NoticePlan,
    /// By dialect.
    frames: [Option<Encoded>; 2],
    count: NoticeCount,
    again: Vec<Rc<Channel>>,
}

impl Notice<'_> {
    fn push(&mut self, of: &Overview, channel: &Rc<Channel>) {
        let queued = channel.outgoing.push_corked(self.frame(channel.dialect));
        if queued == Err(Full::TryAgain) {
            self.again.push(Rc::clone(channel));
            return;
        }
        self.settle(of, channel, queued);
    }

    fn settle(&mut self, of: &Overview, channel: &Channel, queued: Result<(), Full>) {
        let bytes = self.frame(channel.dialect).len();
        let metrics = &of.dispatch.metrics;
        metrics.push_received(1);
        of.dispatch.channels.trace(channel, || TracedPacket {
            kind: PacketKind::Push,
            command: &self.plan.command,
            bytes: Some(bytes),
            body_bytes: Some(self.plan.body.len()),
            outcome: outcome(queued),
            ..TracedPacket::default()
        });
        match queued {
            Ok(()) => {
                channel.outgoing.wake();
                metrics.packet(Direction::Out, command::label_index(&self.plan.command), bytes);
                self.count.queued += 1;
            }
            Err(full) => {
                let why = if full == Full::Slow { PushDrop::SlowConsumer } else { PushDrop::Closing };
                metrics.push_dropped(why, 1);
                self.count.not_taken += 1;
            }
        }
    }

    fn frame(&mut self, dialect: Dialect) -> Encoded {
        let NoticePlan { command, body, .. } = self.plan;
        let encode = || {
            let header =
                pb::Header { command: command.clone(), flag: pb::Flag::Push as i32, ..pb::Header::default() };
            encode_message(dialect, &header, body.clone())
        };
        self.frames[dialect.index()].get_or_insert_with(encode).clone()
    }
}
