//! What waits to be written to one logic instance (architecture §4.3, G4).
//!
//! A frame stays here until a write took its first byte: until then it may be taken out or moved, from then on it
//! belongs to this instance for good.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::session::pending::{InstanceKey, Stage, Ticket};
use crate::session::signouts::SignOut;
use crate::wire::packet::Encoded;

/// What a frame is about.
#[derive(Debug, Clone)]
pub(crate) enum Cargo {
    /// A request, or a sign-in.
    Request(Rc<Ticket>),
    /// Counts against no bound: its place was reserved when its channel was registered.
    SignOut(Rc<SignOut>),
    /// A ping or pong of this very connection; lost with it.
    Control,
}

#[derive(Debug)]
pub(crate) struct Item {
    number: u64,
    pub(crate) cargo: Cargo,
    pub(crate) frame: Encoded,
    bytes: usize,
    begun: bool,
}

/// Bounds of the requests in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

/// The queue of one link.
#[derive(Debug)]
pub(crate) struct SendQueue {
    instance: InstanceKey,
    items: VecDeque<Item>,
    next_number: u64,
    packets: usize,
    bytes: usize,
    controls: usize,
    bounds: Bounds,
}

/// Pings and pongs in the queue of one link.
const MAX_CONTROLS: usize = 8;

/// What a write moved on.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The first byte of this request may be with the instance.
    Begun(Rc<Ticket>),
    /// The last byte of this sign-out was written.
    SignedOut(Rc<SignOut>),
}

impl SendQueue {
    pub(crate) const fn new(instance: InstanceKey, bounds: Bounds) -> Self {
        Self { instance, items: VecDeque::new(), next_number: 1, packets: 0, bytes: 0, controls: 0, bounds }
    }

    /// May a request of `bytes` be queued? An empty queue takes one of any size.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.packets == 0
            || (self.packets < self.bounds.packets && self.bytes.saturating_add(bytes) <= self.bounds.bytes)
    }

    /// Requests in it, and their bytes.
    pub(crate) const fn depth(&self) -> (usize, usize) {
        (self.packets, self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends; the caller has asked [`SendQueue::has_room`] for a request.
    pub(crate) fn push(&mut self, cargo: Cargo, frame: Encoded) {
        let bytes = frame.len();
        let number = self.next_number;
        self.next_number += 1;
        if let Cargo::Request(ticket) = &cargo {
            ticket.set_stage(Stage::Queued(self.instance, number));
            self.packets += 1;
            self.bytes += bytes;
        }
        self.items.push_back(Item { number, cargo, frame, bytes, begun: false });
    }

    /// Puts a ping or pong before everything that has not begun.
    /// Beyond [`MAX_CONTROLS`] nothing more is queued: whoever does not read needs no more of them (G6).
    pub(crate) fn push_control(&mut self, frame: Encoded) {
        if self.controls >= MAX_CONTROLS {
            return;
        }
        self.controls += 1;
        let position = usize::from(self.items.front().is_some_and(|item| item.begun));
        let bytes = frame.len();
        self.items.insert(position, Item { number: 0, cargo: Cargo::Control, frame, bytes, begun: false });
    }

    /// Takes out a request that has not begun; false if it has, or is not here.
    pub(crate) fn cancel(&mut self, number: u64) -> bool {
        let Some(position) = self.items.iter().position(|item| item.number == number && !item.begun) else {
            return false;
        };
        if let Some(item) = self.items.remove(position) {
            self.forget(&item);
        }
        true
    }

    /// The frames from the first on, for one vectored write.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Encoded> {
        self.items.iter().map(|item| &item.frame)
    }

    /// The sign-ins among the next `items` of which nothing was written yet.
    pub(crate) fn fresh_signins(&self, items: usize) -> impl Iterator<Item = &Rc<Ticket>> {
        self.items.iter().take(items).filter_map(|item| match &item.cargo {
            Cargo::Request(ticket) if ticket.is_signin && !item.begun => Some(ticket),
            _ => None,
        })
    }

    /// `written` bytes were taken by the socket; reports what that means, in order.
    pub(crate) fn advance(&mut self, mut written: usize, mut report: impl FnMut(Progress)) {
        while written > 0
            && let Some(item) = self.items.front_mut()
        {
            if !std::mem::replace(&mut item.begun, true)
                && let Cargo::Request(ticket) = &item.cargo
            {
                ticket.set_stage(Stage::Sent(self.instance));
                report(Progress::Begun(Rc::clone(ticket)));
            }
            written -= item.frame.advance(written);
            if !item.frame.is_empty() {
                break;
            }
            if let Some(item) = self.items.pop_front() {
                self.forget(&item);
                if let Cargo::SignOut(signout) = item.cargo {
                    report(Progress::SignedOut(signout));
                }
            }
        }
    }

    /// Empties the queue of a broken link: what has not begun, oldest first. A sign-out that was cut in the middle
    /// was not written; a request that was cut may have been.
    pub(crate) fn take_unsent(&mut self) -> Vec<Item> {
        (self.packets, self.bytes, self.controls) = (0, 0, 0);
        let is_movable = |item: &Item| match item.cargo {
            Cargo::Request(_) => !item.begun,
            Cargo::SignOut(_) => true,
            Cargo::Control => false,
        };
        self.items.drain(..).filter(is_movable).collect()
    }

    /// Is it half full? New accounts avoid it then.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.packets >= self.bounds.packets.div_ceil(2) || self.bytes >= self.bounds.bytes.div_ceil(2)
    }

    /// Takes out what has not begun and `may_move`, oldest first, of a link that lives.
    pub(crate) fn take_movable(&mut self, may_move: impl Fn(&Cargo) -> bool) -> Vec<Item> {
        let is_movable =
            |item: &Item| !item.begun && !matches!(item.cargo, Cargo::Control) && may_move(&item.cargo);
        let (taken, kept) = self.items.drain(..).partition::<Vec<_>, _>(is_movable);
        self.items.extend(kept);
        taken.iter().for_each(|item| self.forget(item));
        taken
    }

    fn forget(&mut self, item: &Item) {
        match item.cargo {
            Cargo::Request(_) => {
                self.packets -= 1;
                self.bytes -= item.bytes;
            }
            Cargo::Control => self.controls -= 1,
            Cargo::SignOut(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::channel::Channel;
    use crate::session::fixtures::{Books, channel, ticket};
    use crate::wire::close::CloseReason;

    const HERE: InstanceKey = InstanceKey(3);

    fn queue(packets: usize, bytes: usize) -> SendQueue {
        SendQueue::new(HERE, Bounds { packets, bytes })
    }

    fn frame(fill: u8, len: usize) -> Encoded {
        Encoded { head: vec![fill; len / 2].into(), body: vec![fill; len - len / 2].into() }
    }

    fn someone() -> Rc<Channel> {
        channel(&Books::new(), "alice")
    }

    /// Queues a request of so many bytes and returns its ticket.
    fn request(queue: &mut SendQueue, channel: &Rc<Channel>, fill: u8, len: usize) -> Rc<Ticket> {
        let ticket = ticket(channel, "chat.user.talk", u32::from(fill));
        queue.push(Cargo::Request(Rc::clone(&ticket)), frame(fill, len));
        ticket
    }

    fn signout(queue: &mut SendQueue, channel: &Channel, fill: u8, len: usize) -> Rc<SignOut> {
        let signout = SignOut::of(channel, CloseReason::Bye, std::time::Instant::now());
        queue.push(Cargo::SignOut(Rc::clone(&signout)), frame(fill, len));
        signout
    }

    fn number(ticket: &Ticket) -> u64 {
        match ticket.stage() {
            Stage::Queued(HERE, number) => number,
            other => panic!("{other:?}"),
        }
    }

    /// First byte and bytes left of each frame.
    fn waiting(queue: &SendQueue) -> Vec<(u8, usize)> {
        queue.frames().map(|frame| (frame.to_bytes()[0], frame.len())).collect()
    }

    /// What a write of so many bytes reported: the sequences begun, and how many sign-outs ended.
    fn write(queue: &mut SendQueue, bytes: usize) -> (Vec<u32>, usize) {
        let (mut begun, mut ended) = (Vec::new(), 0);
        queue.advance(bytes, |progress| match progress {
            Progress::Begun(ticket) => begun.push(ticket.sequence),
            Progress::SignedOut(_) => ended += 1,
        });
        (begun, ended)
    }

    #[test]
    fn g4_a_request_can_be_taken_out_only_before_its_first_byte() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        let first = request(&mut queue, &someone, 1, 10);
        let second = request(&mut queue, &someone, 2, 10);
        let third = request(&mut queue, &someone, 3, 10);
        let of_first = number(&first);
        assert_eq!(write(&mut queue, 1), (vec![1], 0));
        assert_eq!(first.stage(), Stage::Sent(HERE));
        assert!(!queue.cancel(of_first), "its first byte is with the instance");
        assert!(queue.cancel(number(&second)));
        assert!(!queue.cancel(number(&second)), "once");
        assert_eq!(waiting(&queue), [(1, 9), (3, 10)]);
        assert_eq!(queue.depth(), (2, 20));
        assert_eq!(write(&mut queue, 19), (vec![3], 0));
        assert!(queue.is_empty());
        assert!(!queue.cancel(of_first) && third.is_sent());
        assert_eq!(queue.depth(), (0, 0));
    }

    #[test]
    fn no_request_has_the_number_of_a_ping() {
        let mut queue = queue(10, 1000);
        let someone = someone();
        queue.push_control(frame(9, 5));
        let first = request(&mut queue, &someone, 1, 10);
        assert_ne!(number(&first), 0);
        assert!(queue.cancel(number(&first)));
        assert_eq!(waiting(&queue), [(9, 5)]);
    }

    #[test]
    fn a_request_begins_with_its_first_byte_and_a_sign_out_ends_with_its_last() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        request(&mut queue, &someone, 1, 10);
        signout(&mut queue, &someone, 2, 8);
        request(&mut queue, &someone, 3, 10);
        signout(&mut queue, &someone, 4, 8);
        assert_eq!(write(&mut queue, 0), (vec![], 0));
        assert_eq!(write(&mut queue, 5), (vec![1], 0));
        assert_eq!(write(&mut queue, 5), (vec![], 0), "it began before");
        assert_eq!(write(&mut queue, 7), (vec![], 0), "all but the last byte of the sign-out");
        assert_eq!(waiting(&queue)[0], (2, 1));
        assert_eq!(write(&mut queue, 1), (vec![], 1));
        assert_eq!(write(&mut queue, 18), (vec![3], 1), "several frames in one write");
        assert!(queue.is_empty());
    }

    #[test]
    fn g4_a_broken_link_gives_back_what_did_not_begin_oldest_first() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        let cut = request(&mut queue, &someone, 1, 10);
        request(&mut queue, &someone, 2, 10);
        signout(&mut queue, &someone, 3, 10);
        request(&mut queue, &someone, 4, 10);
        write(&mut queue, 1);
        queue.push_control(frame(9, 5));
        let moved: Vec<_> = queue.take_unsent().iter().map(|item| item.frame.to_bytes()[0]).collect();
        assert_eq!(moved, [2, 3, 4], "neither the request that was cut nor the ping");
        assert_eq!(cut.stage(), Stage::Sent(HERE));
        assert!(queue.is_empty());
        assert_eq!(queue.depth(), (0, 0));
        request(&mut queue, &someone, 5, 10);
        assert_eq!(queue.depth(), (1, 10), "it begins anew");
    }

    #[test]
    fn a_sign_out_that_was_cut_was_not_written_and_comes_back() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        let signout = signout(&mut queue, &someone, 1, 10);
        assert_eq!(write(&mut queue, 9), (vec![], 0));
        let items = queue.take_unsent();
        assert!(
            matches!(&items[..], [Item { cargo: Cargo::SignOut(cut), .. }] if Rc::ptr_eq(cut, &signout)),
            "its frame is cut, but its cargo is made anew for the next link"
        );
    }

    #[test]
    fn e20_a_queue_that_moves_keeps_the_frame_that_has_begun() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        for fill in 1..=3 {
            request(&mut queue, &someone, fill, 10);
        }
        queue.push_control(frame(9, 5));
        signout(&mut queue, &someone, 4, 10);
        write(&mut queue, 7);
        let taken: Vec<_> =
            queue.take_movable(|_| true).iter().map(|item| item.frame.to_bytes()[0]).collect();
        assert_eq!(taken, [2, 3, 4], "the control frame is out, and the first request has begun");
        assert_eq!((waiting(&queue), queue.depth()), (vec![(1, 8)], (1, 10)));
        request(&mut queue, &someone, 5, 10);
        queue.push_control(frame(9, 5));
        assert_eq!(queue.take_movable(|_| true).len(), 1);
        assert_eq!((waiting(&queue), queue.depth()), (vec![(1, 8), (9, 5)], (1, 10)), "pings are not moved");
    }

    #[test]
    fn e20_control_frames_go_before_what_has_not_begun_and_never_into_a_frame() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        request(&mut queue, &someone, 1, 10);
        request(&mut queue, &someone, 2, 10);
        queue.push_control(frame(8, 5));
        assert_eq!(waiting(&queue), [(8, 5), (1, 10), (2, 10)]);
        write(&mut queue, 2);
        queue.push_control(frame(9, 5));
        assert_eq!(waiting(&queue), [(8, 3), (9, 5), (1, 10), (2, 10)], "not into the ping that began");
        write(&mut queue, 9);
        assert_eq!(waiting(&queue), [(1, 9), (2, 10)]);
        queue.push_control(frame(8, 5));
        assert_eq!(waiting(&queue), [(1, 9), (8, 5), (2, 10)], "not into the request that began");
        write(&mut queue, 9);
        queue.push_control(frame(9, 5));
        assert_eq!(waiting(&queue), [(9, 5), (8, 5), (2, 10)], "a frame that ended is no longer begun");
    }

    #[test]
    fn e3_the_bounds_are_those_of_requests() {
        let someone = someone();
        let mut queue = queue(2, 100);
        for fill in 0..50 {
            signout(&mut queue, &someone, fill, 90);
            queue.push_control(frame(fill, 90));
        }
        assert_eq!(queue.depth(), (0, 0));
        assert!(queue.has_room(1_000_000), "no request is queued: one of any size is taken");
        let first = request(&mut queue, &someone, 51, 60);
        assert!(queue.has_room(40));
        assert!(!queue.has_room(41));
        assert!(!queue.has_room(usize::MAX));
        request(&mut queue, &someone, 52, 40);
        assert_eq!(queue.depth(), (2, 100));
        assert!(!queue.has_room(0));
        assert!(queue.cancel(number(&first)));
        assert!(queue.has_room(60));
        assert!(!queue.has_room(61));
    }

    #[test]
    fn a_frame_counts_until_its_last_byte() {
        let someone = someone();
        let mut queue = queue(2, 100);
        request(&mut queue, &someone, 1, 80);
        write(&mut queue, 79);
        assert_eq!(queue.depth(), (1, 80));
        assert!(!queue.has_room(21));
        write(&mut queue, 1);
        assert_eq!(queue.depth(), (0, 0));
        assert!(queue.is_empty());
    }
}
