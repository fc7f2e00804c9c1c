//! Load over TCP: one thread, many sockets, frames that were built before.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use mio::event::Source as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::error::{BenchError, Trying as _};
use crate::role::control::{self, Questions, Ready, raise_file_limit};
use crate::role::latency::LatencyRecord;
use crate::role::load_client::LoadClient;
use crate::role::pace::Pace;
use crate::role::window::{Measure, Measured, Window};
use crate::role::work::{LoadWork, TcpLoad};

/// Its name among the roles.
pub(crate) const NAME: &str = "tcp-load";

const CONTROL: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// How long the answers to what is in flight may take at the end of a measurement.
const DRAIN: Duration = Duration::from_secs(20);

/// Bytes of one read.
const READ: usize = 64 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let config: TcpLoad = control::parse(argument)?;
    raise_file_limit();
    let poll = Poll::new().doing(|| "cannot make an epoll".to_owned())?;
    let waker = Waker::new(poll.registry(), CONTROL).doing(|| "cannot make a waker".to_owned())?;
    let clients = LoadClient::connect_all(&config)?;
    let mut load = LoadLoop {
        poll,
        events: Events::with_capacity(1024),
        clients,
        receivers: (config.clients - config.stalled) as u64,
        stalled: config.stalled,
        pushed: Vec::new(),
        depth: config.depth,
        work: config.work,
        buffer: vec![0; READ],
        units: 0,
        due: 0,
        rate: config.rate,
        pace: None,
        latency: LatencyRecord::new(),
    };
    load.watch()?;
    let questions = control::questions(waker);
    control::answer(&Ready {})?;
    while let Some(measure) = load.next_question(&questions)? {
        let measured = load.measure(measure)?;
        control::answer(&measured)?;
    }
    Ok(())
}

struct LoadLoop {
    poll: Poll,
    events: Events,
    clients: Vec<LoadClient>,
    /// How many of them are pushed to.
    receivers: u64,
    /// The first ones, which never read.
    stalled: usize,
    /// When the pushes of an open loop were due.
    pushed: Vec<Instant>,
    depth: usize,
    work: LoadWork,
    buffer: Vec<u8>,
    /// Answers or pushes so far.
    units: u64,
    /// How many pushes there are when everybody has what was asked for.
    due: u64,
    rate: f64,
    /// Of an open loop, while it runs.
    pace: Option<Pace>,
    latency: LatencyRecord,
}

impl LoadLoop {
    fn watch(&mut self) -> Result<(), BenchError> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            client
                .socket
                .watch(self.poll.registry(), Token(index))
                .doing(|| "cannot watch a socket".to_owned())?;
        }
        Ok(())
    }

    /// Waits for the next question, none at the end. What comes from servers meanwhile is read and forgotten.
    fn next_question(&mut self, questions: &Questions<Measure>) -> Result<Option<Measure>, BenchError> {
        loop {
            self.turn(None, false)?;
            match questions.try_take() {
                Ok(question) => return Ok(Some(question)),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(None),
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
        }
    }

    fn measure(&mut self, measure: Measure) -> Result<Measured, BenchError> {
        let wrong = self.wrong();
        let mut window = Window::new(measure, Instant::now());
        if self.rate > 0.0 {
            let pace = self.pace.insert(Pace::new(self.rate, Instant::now())?);
            let (fd, registry) = (pace.as_raw_fd(), self.poll.registry());
            SourceFd(&fd)
                .register(registry, TIMER, Interest::READABLE)
                .doing(|| "cannot watch a timer".to_owned())?;
        } else if self.is_echo() {
            for client in &mut self.clients {
                for _ in 0..self.depth {
                    client.send()?;
                }
            }
        }
        let mut measured = loop {
            self.publish()?;
            self.send_what_is_due()?;
            self.turn(Some(window.next()), true)?;
            let was_begun = window.has_begun();
            if let Some(measured) = window.turn(Instant::now(), self.units)? {
                break measured;
            }
            if !was_begun && window.has_begun() {
                self.latency.clear();
            }
        };
        if self.pace.take().is_some() {
            measured.latency = Some(self.latency.summary());
        }
        self.drain()?;
        measured.wrong = self.wrong() - wrong;
        Ok(measured)
    }

    const fn is_echo(&self) -> bool {
        !matches!(self.work, LoadWork::Push { .. })
    }

    /// Sends the messages of an open loop, whose clients take turns.
    fn send_what_is_due(&mut self) -> Result<(), BenchError> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let now = Instant::now();
        while let Some((number, due)) = pace.take(now) {
            self.latency.sent(due, now);
            let count = self.clients.len();
            if let LoadWork::Push { .. } = self.work {
                self.pushed.push(due);
                self.due += self.receivers;
                self.clients[count - 1].send()?;
            } else {
                let client = &mut self.clients[number % count];
                client.send()?;
                client.due.push_back(due);
            }
        }
        pace.arm(Instant::now())
    }

    /// Asks for the next pushes once everybody has the last ones.
    fn publish(&mut self) -> Result<(), BenchError> {
        let LoadWork::Push { count } = self.work else { return Ok(()) };
        if self.rate > 0.0 || self.units < self.due {
            return Ok(());
        }
        self.due = self.units + u64::from(count) * self.receivers;
        // The one behind the receivers, where that is another; else one of them.
        self.clients.last_mut().map_or(Ok(()), LoadClient::send)
    }

    fn wrong(&self) -> u64 {
        self.clients.iter().map(|client| client.wrong).sum()
    }

    /// Waits for the answers to what is in flight.
    fn drain(&mut self) -> Result<(), BenchError> {
        let by = Instant::now() + DRAIN;
        while self.missing() > 0 {
            self.turn(Some(by), false)?;
            if Instant::now() >= by {
                let missing = self.missing();
                return Err(BenchError::failed(format!("{missing} answers are missing after {DRAIN:?}")));
            }
        }
        Ok(())
    }

    /// Answers or pushes that are still to come.
    fn missing(&self) -> u64 {
        match self.work {
            LoadWork::Echo | LoadWork::Beat => {
                self.clients.iter().map(|client| client.in_flight as u64).sum()
            }
            LoadWork::Push { .. } => self.due.saturating_sub(self.units),
        }
    }

    /// Waits for sockets, reads them, and sends the next message for each answer if `goes_on`.
    fn turn(&mut self, until: Option<Instant>, goes_on: bool) -> Result<(), BenchError> {
        let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.doing(|| "cannot wait".to_owned())?,
        }
        for event in &self.events {
            let Token(index) = event.token();
            if matches!(event.token(), CONTROL | TIMER) {
                continue;
            }
            if index < self.stalled {
                continue;
            }
            let client = &mut self.clients[index];
            let answers = client.read(&mut self.buffer)?;
            self.units += answers as u64;
            if self.rate > 0.0 {
                let now = Instant::now();
                for due in client.due.drain(..answers.min(client.due.len())) {
                    self.latency.answered(due, now);
                }
                if let LoadWork::Push { .. } = self.work {
                    // Each gets every push, in order.
                    for due in self.pushed.iter().skip(client.pushes).take(answers) {
                        self.latency.answered(*due, now);
                    }
                    client.pushes += answers;
                }
            } else if goes_on && !matches!(self.work, LoadWork::Push { .. }) {
                for _ in 0..answers {
                    client.send()?;
                }
            }
        }
        Ok(())
    }
}
