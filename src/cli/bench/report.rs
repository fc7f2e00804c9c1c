//! The books of `gateway bench talk`, and the sum that is printed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gateway::wire::close::CloseReason;
use gateway_client::Transport;

use crate::cli::bench::pairs::partner;

/// What became of the messages one client sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By number: answered with status 0.
    stored: Vec<bool>,
    sent: u64,
    unanswered: u64,
    statuses: BTreeMap<i32, u64>,
    /// Of answers with status 0, microseconds after the message was due.
    latencies: Vec<u32>,
    /// The latest a message was sent after it was due.
    lag: Duration,
}

impl Sent {
    pub(super) fn new(each: u32) -> Self {
        Self { stored: vec![false; each as usize], ..Self::default() }
    }

    /// A message was sent `lag` late, and answered with a status after a time, or not at all.
    pub(super) fn note(&mut self, number: u32, lag: Duration, answer: Option<(i32, Duration)>) {
        self.sent += 1;
        self.lag = self.lag.max(lag);
        match answer {
            None => self.unanswered += 1,
            Some((0, latency)) => {
                self.stored[number as usize] = true;
                self.latencies.push(micros(latency));
                *self.statuses.entry(0).or_default() += 1;
            }
            Some((status, _)) => *self.statuses.entry(status).or_default() += 1,
        }
    }
}

/// What one client received from its partner.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// By number.
    seen: Vec<bool>,
    highest: Option<u32>,
    pushed: u64,
    out_of_order: u64,
    duplicated: u64,
    /// Microseconds after the message was due.
    latencies: Vec<u32>,
    /// Acknowledgements that failed.
    pub(super) failed_acks: u64,
}

impl Received {
    pub(super) fn new(each: u32) -> Self {
        Self { seen: vec![false; each as usize], ..Self::default() }
    }

    /// A message came; true the first time.
    pub(super) fn note(&mut self, number: u32, latency: Duration) -> bool {
        self.pushed += 1;
        let first = !std::mem::replace(&mut self.seen[number as usize], true);
        if !first {
            self.duplicated += 1;
            return false;
        }
        if self.highest > Some(number) {
            self.out_of_order += 1;
        }
        self.highest = self.highest.max(Some(number));
        self.latencies.push(micros(latency));
        true
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The part of one transport in the sum.
#[derive(Debug, Default)]
struct Share {
    /// By clients on this transport.
    sent: u64,
    stored: u64,
    answer_times: Vec<u32>,
    /// To clients on this transport.
    missing: u64,
    delivery_times: Vec<u32>,
}

/// The sum over all clients.
#[derive(Debug, Default)]
pub(super) struct BenchReport {
    /// By the name of the transport.
    shares: BTreeMap<&'static str, Share>,
    sent: u64,
    unanswered: u64,
    statuses: BTreeMap<i32, u64>,
    pushed: u64,
    missing: u64,
    out_of_order: u64,
    duplicated: u64,
    failed_acks: u64,
    lag: Duration,
    /// Connections that ended before they should, by reason.
    ended: BTreeMap<&'static str, u64>,
    answer_times: Vec<u32>,
    delivery_times: Vec<u32>,
}

impl BenchReport {
    /// Sums up. `ends` are the connections that were over before the bench closed them; `over` says which transport a
    /// client has.
    pub(super) fn new(
        sent: Vec<(usize, Sent)>,
        received: Vec<(usize, Received)>,
        ends: impl Iterator<Item = CloseReason>,
        over: impl Fn(usize) -> Transport,
    ) -> Self {
        let mut sum = Self::default();
        let received: BTreeMap<usize, Received> = received.into_iter().collect();
        for (client, sent) in sent {
            let seen = received.get(&partner(client)).map_or(&[][..], |received| &received.seen);
            let came = |number: usize| seen.get(number).copied().unwrap_or(false);
            let stored = sent.stored.iter().enumerate().filter(|(_, stored)| **stored);
            let missing = stored.filter(|(number, _)| !came(*number)).count() as u64;
            sum.missing += missing;
            sum.shares.entry(over(partner(client)).as_str()).or_default().missing += missing;
            let share = sum.shares.entry(over(client).as_str()).or_default();
            share.sent += sent.sent;
            share.stored += sent.statuses.get(&0).copied().unwrap_or(0);
            share.answer_times.extend(&sent.latencies);
            sum.sent += sent.sent;
            sum.unanswered += sent.unanswered;
            sum.lag = sum.lag.max(sent.lag);
            sum.answer_times.extend(sent.latencies);
            for (status, count) in sent.statuses {
                *sum.statuses.entry(status).or_default() += count;
            }
        }
        for (client, received) in received {
            let share = sum.shares.entry(over(client).as_str()).or_default();
            share.delivery_times.extend(&received.latencies);
            sum.pushed += received.pushed;
            sum.out_of_order += received.out_of_order;
            sum.duplicated += received.duplicated;
            sum.failed_acks += received.failed_acks;
            sum.delivery_times.extend(received.latencies);
        }
        for reason in ends {
            *sum.ended.entry(reason.token()).or_default() += 1;
        }
        sum.answer_times.sort_unstable();
        sum.delivery_times.sort_unstable();
        for share in sum.shares.values_mut() {
            share.answer_times.sort_unstable();
            share.delivery_times.sort_unstable();
        }
        sum
    }

    fn stored(&self) -> u64 {
        self.statuses.get(&0).copied().unwrap_or(0)
    }

    /// Returns `true` if every connection lasted, and every message got a good answer and arrived once and in order.
    pub(super) fn is_good(&self) -> bool {
        self.stored() > 0
            && self.stored() == self.sent
            && self.ended.is_empty()
            && self.missing == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.unanswered == 0
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sent           {}", self.sent)?;
        writeln!(f, "answered 0     {}", self.stored())?;
        for (status, count) in self.statuses.iter().filter(|(status, _)| **status != 0) {
            writeln!(f, "answered {status:<5} {count}")?;
        }
        writeln!(f, "unanswered     {}", self.unanswered)?;
        writeln!(f, "pushed         {}", self.pushed)?;
        writeln!(f, "missing        {}", self.missing)?;
        writeln!(f, "out of order   {}", self.out_of_order)?;
        writeln!(f, "duplicated     {}", self.duplicated)?;
        if self.failed_acks > 0 {
            writeln!(f, "acks failed    {}", self.failed_acks)?;
        }
        for (reason, count) in &self.ended {
            writeln!(f, "closed early   {count} ({reason})")?;
        }
        writeln!(f, "answer time    {}", Latencies(&self.answer_times))?;
        writeln!(f, "delivery time  {}", Latencies(&self.delivery_times))?;
        write!(f, "sent late by   {:.1} ms at most", self.lag.as_secs_f64() * 1e3)?;
        // One row would say what stands above.
        let mut shares = self.shares.iter().filter(|_| self.shares.len() > 1);
        shares.try_for_each(|(over, share)| write!(f, "\nover {over:<10}{share}"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, stored, missing, .. } = self;
        let (answers, deliveries) = (Latencies(&self.answer_times), Latencies(&self.delivery_times));
        write!(
            f,
            "sent {sent}, answered 0 {stored}, answer time {}; to these: missing {missing}, delivery time {}",
            answers.middle(),
            deliveries.middle()
        )
    }
}

/// Percentiles of sorted microseconds.
struct Latencies<'a>(&'a [u32]);

impl Latencies<'_> {
    /// The value below which `percent` of all lie, milliseconds (nearest rank).
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).map_or(f64::NAN, |&micros| f64::from(micros) / 1e3)
    }

    /// Without the worst.
    fn middle(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        format!("p50 {:.2} p99 {:.2} ms", self.percentile(50), self.percentile(99))
    }
}

impl fmt::Display for Latencies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none measured");
        }
        let (p50, p99, most) = (self.percentile(50), self.percentile(99), self.percentile(100));
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, at most {most:.2} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn over(client: usize) -> Transport {
        if client == 0 { Transport::Quic } else { Transport::Tls }
    }

    fn pair(numbers: &[u32]) -> (Sent, Received) {
        let mut sent = Sent::new(3);
        for number in 0..3 {
            sent.note(number, MS, Some((0, MS)));
        }
        let mut received = Received::new(3);
        for &number in numbers {
            received.note(number, MS);
        }
        (sent, received)
    }

    fn report(numbers: &[u32]) -> BenchReport {
        let (sent, received) = pair(numbers);
        let idle = (1, Sent::new(3));
        BenchReport::new(
            vec![(0, sent), idle],
            vec![(0, Received::new(3)), (1, received)],
            [].into_iter(),
            over,
        )
    }

    #[test]
    fn g2_missing_out_of_order_and_duplicated_messages_are_told_apart() {
        assert!(report(&[0, 1, 2]).is_good());
        let missing = report(&[0, 2]);
        assert_eq!((missing.missing, missing.out_of_order, missing.duplicated), (1, 0, 0));
        assert!(!missing.is_good());
        let swapped = report(&[0, 2, 1]);
        assert_eq!((swapped.missing, swapped.out_of_order, swapped.duplicated), (0, 1, 0));
        assert!(!swapped.is_good());
        let twice = report(&[0, 1, 1, 2]);
        assert_eq!((twice.missing, twice.out_of_order, twice.duplicated), (0, 0, 1));
        assert!(!twice.is_good());
    }

    #[test]
    fn g1_an_unanswered_message_is_a_failure_and_a_refused_one_is_another_and_not_awaited() {
        let mut sent = Sent::new(2);
        sent.note(0, MS, Some((0, MS)));
        sent.note(1, MS, Some((300, MS)));
        let mut received = Received::new(2);
        received.note(0, MS);
        let report = BenchReport::new(
            vec![(0, sent)],
            vec![(0, Received::new(2)), (1, received)],
            [].into_iter(),
            over,
        );
        assert_eq!((report.missing, report.is_good()), (0, false), "{report}");
        let mut lost = Sent::new(1);
        lost.note(0, MS, None);
        assert!(
            !BenchReport::new(vec![(0, lost)], Vec::new(), [CloseReason::Kicked].into_iter(), over).is_good()
        );
    }

    /// Client 0 sent over QUIC, its partner received over TLS.
    #[test]
    fn each_transport_has_a_row_of_what_was_sent_over_it_and_what_came_over_it() {
        let text = report(&[0, 2]).to_string();
        let row = |over: &str| text.lines().find(|line| line.starts_with(over)).unwrap().to_owned();
        let sent = "sent 3, answered 0 3, answer time p50 1.00 p99 1.00 ms";
        assert_eq!(
            row("over quic"),
            format!("over quic      {sent}; to these: missing 0, delivery time none")
        );
        let came = "to these: missing 1, delivery time p50 1.00 p99 1.00 ms";
        assert_eq!(row("over tls"), format!("over tls       sent 0, answered 0 0, answer time none; {came}"));
        let (sent, received) = pair(&[0, 1, 2]);
        let one = BenchReport::new(vec![(0, sent)], vec![(1, received)], [].into_iter(), |_| Transport::Tcp);
        assert!(!one.to_string().contains("over "), "{one}");
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<u32> = (1..=100).map(|ms| ms * 1000).collect();
        assert_eq!(Latencies(&times).to_string(), "p50 50.00 ms, p99 99.00 ms, at most 100.00 ms");
        assert_eq!(Latencies(&[]).to_string(), "none measured");
    }
}
