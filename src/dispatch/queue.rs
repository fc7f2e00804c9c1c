//! What waits to be written to one logic instance (ARCHITECTURE §4.4, G4).
//!
//! A frame stays here until a write took its first byte: until then it may be taken out or moved, from then on it
//! belongs to this instance for good.

use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

use crate::limits::Limits;
use crate::session::channel::Ticket;
use crate::session::pending::{InstanceKey, RequestStage};
use crate::session::signout::SignOut;
use crate::session::spare;
use crate::wire::packet::Encoded;

/// What a frame is about.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// A request, or a sign-in.
    Request(Rc<Ticket>),
    /// Counts against no bound: its place was reserved when its channel was registered.
    SignOut(Rc<SignOut>),
    /// A ping or pong of this very connection; lost with it.
    Control,
}

#[derive(Debug)]
struct Item {
    payload: Payload,
    frame: Encoded,
    bytes: usize,
}

/// Bounds of the requests in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueBounds {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

impl QueueBounds {
    /// Those of an operator's limits.
    pub(crate) const fn of(limits: &Limits) -> Self {
        Self { packets: limits.backend_queued_packets, bytes: limits.backend_queued_bytes }
    }
}

/// The queue of one link.
#[derive(Debug)]
pub(crate) struct LinkQueue {
    instance: InstanceKey,
    /// The frame whose first byte was written: nothing goes before the rest of it.
    begun: Option<Item>,
    /// Pings and pongs, before everything that has not begun.
    controls: VecDeque<Item>,
    waiting: QueuedFrames,
    packets: usize,
    bytes: usize,
    bounds: QueueBounds,
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

impl LinkQueue {
    pub(crate) const fn new(instance: InstanceKey, bounds: QueueBounds) -> Self {
        Self {
            instance,
            begun: None,
            controls: VecDeque::new(),
            waiting: QueuedFrames::new(1),
            packets: 0,
            bytes: 0,
            bounds,
        }
    }

    /// These bounds from now on.
    pub(crate) const fn set_bounds(&mut self, bounds: QueueBounds) {
        self.bounds = bounds;
    }

    /// Returns `true` if a request of `bytes` may be queued. An empty queue takes one of any size.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.packets == 0
            || (self.packets < self.bounds.packets && self.bytes.saturating_add(bytes) <= self.bounds.bytes)
    }

    /// Requests in it, and their bytes.
    pub(crate) const fn depth(&self) -> (usize, usize) {
        (self.packets, self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begun.is_none() && self.controls.is_empty() && self.waiting.is_empty()
    }

    /// Appends; the caller has asked [`LinkQueue::has_room`] for a request.
    pub(crate) fn push(&mut self, payload: Payload, frame: Encoded) {
        let bytes = frame.len();
        if let Payload::Request(ticket) = &payload {
            ticket.set_stage(RequestStage::Queued(self.instance, self.waiting.next_number()));
            self.packets += 1;
            self.bytes += bytes;
        }
        self.waiting.push(Item { payload, frame, bytes });
    }

    /// Puts a ping or pong before everything that has not begun.
    /// Beyond [`MAX_CONTROLS`] nothing more is queued: whoever does not read needs no more of them (G6).
    pub(crate) fn push_control(&mut self, frame: Encoded) {
        let has_begun = self.begun.as_ref().is_some_and(|item| matches!(item.payload, Payload::Control));
        if self.controls.len() + usize::from(has_begun) >= MAX_CONTROLS {
            return;
        }
        let bytes = frame.len();
        self.controls.push_front(Item { payload: Payload::Control, frame, bytes });
    }

    /// Takes out a request that has not begun; false if it has, or is not here.
    pub(crate) fn cancel(&mut self, number: u64) -> bool {
        let taken = self.waiting.remove(number, self.instance);
        if let Some(item) = &taken {
            self.forget(item);
        }
        taken.is_some()
    }

    /// The frames from the first on, for one vectored write.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Encoded> {
        let items = self.begun.iter().chain(&self.controls).chain(self.waiting.iter());
        items.map(|item| &item.frame)
    }

    /// The sign-ins among the next `items` of which nothing was written yet.
    pub(crate) fn fresh_signins(&self, items: usize) -> impl Iterator<Item = &Rc<Ticket>> {
        self.waiting.iter().take(items).filter_map(|item| match &item.payload {
            Payload::Request(ticket) if ticket.is_signin => Some(ticket),
            _ => None,
        })
    }

    /// `written` bytes were taken by the socket; reports what that means, in order.
    pub(crate) fn advance(&mut self, mut written: usize, mut report: impl FnMut(Progress)) {
        // An item is begun only while bytes are left, so a write that ends at a frame's edge leaves the next one movable (G4).
        while written > 0
            && let Some(mut item) = self.begun.take().or_else(|| self.begin(&mut report))
        {
            written -= item.frame.advance(written);
            if !item.frame.is_empty() {
                self.begun = Some(item);
                break;
            }
            self.forget(&item);
            if let Payload::SignOut(signout) = item.payload {
                report(Progress::SignedOut(signout));
            }
        }
    }

    /// The next frame, whose first byte was taken.
    fn begin(&mut self, report: &mut impl FnMut(Progress)) -> Option<Item> {
        if let Some(control) = self.controls.pop_front() {
            return Some(control);
        }
        let item = self.waiting.pop()?;
        if let Payload::Request(ticket) = &item.payload {
            // The point of no return: from its first byte on a request is never sent again (G4).
            ticket.set_stage(RequestStage::Sent(self.instance));
            report(Progress::Begun(Rc::clone(ticket)));
        }
        Some(item)
    }

    /// The connection is over. A sign-out that was cut in the middle was not written, and waits again; a request that
    /// was cut may have been.
    pub(crate) fn cut(&mut self) {
        // Pings and pongs belong to the connection that is gone.
        self.controls.clear();
        let Some(item) = self.begun.take() else { return };
        self.forget(&item);
        if let Payload::SignOut(_) = item.payload {
            self.waiting.put_back(item);
        }
    }

    /// Takes out the requests that have not begun and `may_move`, oldest first.
    pub(crate) fn take_requests(&mut self, may_move: impl Fn(&Ticket) -> bool) -> Vec<(Rc<Ticket>, Encoded)> {
        let is_movable = |item: &Item| matches!(&item.payload, Payload::Request(ticket) if may_move(ticket));
        let taken = self.waiting.extract(is_movable, self.instance);
        let request = |item: Item| match item.payload {
            Payload::Request(ticket) => Some((ticket, item.frame)),
            _ => None,
        };
        taken.into_iter().inspect(|item| self.forget(item)).filter_map(request).collect()
    }

    /// Takes out the sign-outs that have not begun, oldest first. There may be 100,000: their frames are freed one by
    /// one, when they are asked for.
    pub(crate) fn take_signouts(&mut self) -> impl Iterator<Item = Rc<SignOut>> + use<> {
        let is_request = |item: &Item| matches!(item.payload, Payload::Request(_));
        let signouts = self.waiting.keep(is_request, self.instance);
        signouts.into_iter().flatten().filter_map(|item| match item.payload {
            Payload::SignOut(signout) => Some(signout),
            _ => None,
        })
    }

    /// Returns `true` if it is half full. New accounts avoid it then.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.packets >= self.bounds.packets.div_ceil(2) || self.bytes >= self.bounds.bytes.div_ceil(2)
    }

    fn forget(&mut self, item: &Item) {
        if let Payload::Request(_) = item.payload {
            self.packets -= 1;
            self.bytes -= item.bytes;
        }
    }
}

/// What has not begun, oldest first. Numbers are consecutive, and each is a place; one that is taken out leaves an
/// empty place, whatever stands before it. The first place is never empty, and no more places are empty than filled,
/// beyond a few.
#[derive(Debug)]
struct QueuedFrames {
    places: VecDeque<Option<Item>>,
    /// The number of the first place. None comes twice.
    first: u64,
    empty: usize,
}

impl QueuedFrames {
    /// Numbers begin at `first`, which is not 0: one is left for an item that is put back.
    const fn new(first: u64) -> Self {
        Self { places: VecDeque::new(), first, empty: 0 }
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Of the next item that is pushed.
    fn next_number(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    fn push(&mut self, item: Item) {
        self.places.push_back(Some(item));
    }

    /// Before all others; only what was popped. A ticket that was taken out may still name its number, so it is not for
    /// requests: [`QueuedFrames::remove`] takes out nothing else.
    fn put_back(&mut self, item: Item) {
        debug_assert!(matches!(item.payload, Payload::SignOut(_)), "{:?}", item.payload);
        self.first -= 1;
        self.places.push_front(Some(item));
    }

    fn iter(&self) -> impl Iterator<Item = &Item> {
        self.places.iter().flatten()
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.places.pop_front()?;
        self.first += 1;
        self.trim();
        item
    }

    fn remove(&mut self, number: u64, instance: InstanceKey) -> Option<Item> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let is_request = |item: &mut Item| matches!(item.payload, Payload::Request(_));
        let item = self.places.get_mut(place)?.take_if(is_request)?;
        self.emptied(1, instance);
        Some(item)
    }

    /// Takes out those that are `wanted`.
    fn extract(&mut self, wanted: impl Fn(&Item) -> bool, instance: InstanceKey) -> Vec<Item> {
        let taken: Vec<_> =
            self.places.iter_mut().filter_map(|place| place.take_if(|item| wanted(item))).collect();
        self.emptied(taken.len(), instance);
        taken
    }

    /// Keeps those that are `wanted`, under new numbers, and returns the others.
    fn keep(&mut self, wanted: impl Fn(&Item) -> bool, instance: InstanceKey) -> VecDeque<Option<Item>> {
        let next = self.next_number();
        let mut places = mem::replace(self, Self::new(next)).places;
        for place in &mut places {
            let Some(item) = place.take_if(|item| wanted(item)) else { continue };
            if let Payload::Request(ticket) = &item.payload {
                ticket.set_stage(RequestStage::Queued(instance, self.next_number()));
            }
            self.push(item);
        }
        places
    }

    fn emptied(&mut self, places: usize, instance: InstanceKey) {
        self.empty += places;
        self.trim();
        if self.empty > spare::KEPT && self.empty > self.places.len() / 2 {
            drop(self.keep(|_| true, instance));
        }
    }

    /// The first place is not to be empty, and what a crowd took is given back when it goes.
    fn trim(&mut self) {
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
            self.empty -= 1;
        }
        spare::shrink_queue(&mut self.places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::channel::Channel;
    use crate::session::fixtures::{TestMetrics, channel, ticket};
    use crate::wire::close::CloseReason;

    const HERE: InstanceKey = InstanceKey(3);

    fn queue(packets: usize, bytes: usize) -> LinkQueue {
        LinkQueue::new(HERE, QueueBounds { packets, bytes })
    }

    fn frame(fill: u8, len: usize) -> Encoded {
        Encoded { head: vec![fill; len / 2].into(), body: vec![fill; len - len / 2].into() }
    }

    fn someone() -> Rc<Channel> {
        channel(&TestMetrics::new(), "alice")
    }

    /// Queues a request of so many bytes and returns its ticket.
    fn request(queue: &mut LinkQueue, channel: &Rc<Channel>, fill: u8, len: usize) -> Rc<Ticket> {
        let ticket = ticket(channel, "chat.user.talk", u32::from(fill));
        queue.push(Payload::Request(Rc::clone(&ticket)), frame(fill, len));
        ticket
    }

    fn signout(queue: &mut LinkQueue, channel: &Channel, fill: u8, len: usize) -> Rc<SignOut> {
        let signout = SignOut::of(channel, CloseReason::Bye, std::time::Instant::now());
        queue.push(Payload::SignOut(Rc::clone(&signout)), frame(fill, len));
        signout
    }

    fn number(ticket: &Ticket) -> u64 {
        match ticket.stage() {
            RequestStage::Queued(HERE, number) => number,
            other => panic!("{other:?}"),
        }
    }

    /// First byte and bytes left of each frame.
    fn waiting(queue: &LinkQueue) -> Vec<(u8, usize)> {
        queue.frames().map(|frame| (frame.to_bytes()[0], frame.len())).collect()
    }

    /// First bytes of the requests that can move.
    fn moved(queue: &mut LinkQueue) -> Vec<u8> {
        queue.take_requests(|_| true).iter().map(|(_, frame)| frame.to_bytes()[0]).collect()
    }

    /// What a write of so many bytes reported: the sequences begun, and how many sign-outs ended.
    fn write(queue: &mut LinkQueue, bytes: usize) -> (Vec<u32>, usize) {
        let (mut begun, mut ended) = (Vec::new(), 0);
        queue.advance(bytes, |progress| match progress {
            Progress::Begun(ticket) => begun.push(ticket.header.sequence()),
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
        assert_eq!(first.stage(), RequestStage::Sent(HERE));
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
        queue.cut();
        assert_eq!(moved(&mut queue), [2, 4], "neither the request that was cut nor the ping");
        assert_eq!(queue.take_signouts().count(), 1);
        assert_eq!(cut.stage(), RequestStage::Sent(HERE));
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
        let behind = self::signout(&mut queue, &someone, 2, 10);
        queue.cut();
        let taken: Vec<_> = queue.take_signouts().collect();
        assert!(
            matches!(&taken[..], [first, second] if Rc::ptr_eq(first, &signout) && Rc::ptr_eq(second, &behind))
        );
        assert!(queue.is_empty(), "its frame is made anew for the next link");
    }

    /// Its place is before those that were taken out, whose tickets may still name it.
    #[test]
    fn a_sign_out_that_comes_back_is_not_taken_for_a_request() {
        let someone = someone();
        let mut queue = queue(10, 1000);
        signout(&mut queue, &someone, 1, 10);
        write(&mut queue, 1);
        request(&mut queue, &someone, 2, 10);
        let last = request(&mut queue, &someone, 3, 10);
        let number = number(&last);
        assert_eq!(moved(&mut queue), [2, 3]);
        queue.cut();
        assert!(!queue.cancel(number));
        assert_eq!(queue.take_signouts().count(), 1);
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
        assert!(queue.take_requests(|_| false).is_empty());
        assert_eq!(moved(&mut queue), [2, 3], "the control frame is out, and the first request has begun");
        assert_eq!((waiting(&queue), queue.depth()), (vec![(1, 8), (4, 10)], (1, 10)));
        assert_eq!(queue.take_signouts().count(), 1);
        assert_eq!(waiting(&queue), [(1, 8)]);
        request(&mut queue, &someone, 5, 10);
        queue.push_control(frame(9, 5));
        assert_eq!(queue.take_signouts().count(), 0);
        assert_eq!(waiting(&queue), [(1, 8), (9, 5), (5, 10)]);
        assert_eq!(moved(&mut queue).len(), 1);
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
    fn h22_one_is_taken_out_at_once_whatever_stands_before_it() {
        let someone = someone();
        let mut queue = queue(4096, usize::MAX);
        for _ in 0..50_000 {
            signout(&mut queue, &someone, 1, 10);
        }
        let requests: Vec<_> = (0..4096).map(|_| request(&mut queue, &someone, 2, 10)).collect();
        for _ in 0..50_000 {
            signout(&mut queue, &someone, 3, 10);
        }
        let begun = std::time::Instant::now();
        for ticket in &requests {
            assert!(queue.cancel(number(ticket)));
        }
        // Milliseconds. It took seconds when the sign-outs were walked through, or moved, each time.
        assert!(begun.elapsed() < std::time::Duration::from_millis(500), "{:?}", begun.elapsed());
        assert_eq!(queue.depth(), (0, 0));
        assert_eq!(write(&mut queue, usize::MAX), (vec![], 100_000));
    }

    #[test]
    fn h22_what_is_taken_out_behind_one_that_waits_leaves_no_room_behind() {
        let someone = someone();
        let mut queue = queue(4096, usize::MAX);
        let first = request(&mut queue, &someone, 1, 10);
        for _ in 0..100_000 {
            let ticket = request(&mut queue, &someone, 2, 10);
            assert!(queue.cancel(number(&ticket)));
        }
        assert!(queue.waiting.places.capacity() <= 4 * spare::KEPT, "{}", queue.waiting.places.capacity());
        let behind: Vec<_> = (0..1_000).map(|_| request(&mut queue, &someone, 3, 10)).collect();
        for ticket in behind.iter().skip(1).step_by(2).chain(behind.iter().step_by(4)) {
            assert!(queue.cancel(number(ticket)), "its number moves with it");
        }
        let (filled, places) = (queue.waiting.iter().count(), queue.waiting.places.len());
        assert_eq!((filled, queue.depth().0), (251, 251));
        assert!(places - queue.waiting.empty == filled && places <= 2 * filled, "{places}");
        assert!(queue.cancel(number(&first)) && queue.cancel(number(&behind[2])));
        assert_eq!(moved(&mut queue).len(), 249);
        assert!(queue.is_empty());
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

    /// Run it optimised and alone: `just measure`.
    #[test]
    #[ignore = "measures"]
    fn h22_what_a_frame_costs() {
        const FRAMES: usize = 1_000_000;
        let someone = someone();
        let ticket = ticket(&someone, "chat.user.talk", 1);
        let frame = frame(1, 100);
        for standing in [1, 10, 100, 1_000, 4_000] {
            let mut queue = queue(4096, usize::MAX);
            let push =
                |queue: &mut LinkQueue| queue.push(Payload::Request(Rc::clone(&ticket)), frame.clone());
            (0..standing).for_each(|_| push(&mut queue));
            let begun = std::time::Instant::now();
            for _ in 0..FRAMES {
                push(&mut queue);
                queue.advance(100, |_| ());
            }
            let each = begun.elapsed() / FRAMES as u32;
            let begun = std::time::Instant::now();
            let mut plain = VecDeque::new();
            plain.extend((0..standing).map(|_| (Payload::Request(Rc::clone(&ticket)), frame.clone())));
            for _ in 0..FRAMES {
                plain.push_back((Payload::Request(Rc::clone(&ticket)), frame.clone()));
                std::hint::black_box(plain.pop_front());
            }
            println!(
                "{standing:5} stand in it: {each:?}, in a plain queue {:?}",
                begun.elapsed() / FRAMES as u32
            );
        }
    }
}
