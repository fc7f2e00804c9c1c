//! [`Plan`]: what a run is to do, from its command line, and the timers that go with it.

use std::time::Duration;

use anyhow::{Context as _, bail};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long the long run goes on; without this and the next: the short one, every fault once.
    pub(crate) seconds: Option<u64>,
    /// How many faults the long run has.
    pub(crate) times: Option<usize>,
    pub(crate) clients: usize,
    /// Requests per second of all clients.
    pub(crate) rate: u32,
    /// Pushes per request.
    pub(crate) pushes: u32,
    /// Only faults whose name holds one of these, with commas between.
    pub(crate) only: Option<String>,
    /// All clients over QUIC, not a third.
    pub(crate) quic: bool,
    /// Only the rolling restart, with production's timers.
    pub(crate) rolling: bool,
    /// Already in a network namespace of its own.
    pub(crate) is_inside: bool,
}

/// Sizes of the two runs: clients, requests per second.
const SHORT: (usize, u32) = (45, 300);
const LONG: (usize, u32) = (200, 2000);

/// What the flags are for.
pub(crate) const USAGE: &str = "chaos [--seconds N | --times N] [--seed N] [--clients N] \
     [--rate REQUESTS_PER_SECOND] [--pushes PER_REQUEST] [--only PART,…] [--quic] [--rolling]";

impl Plan {
    /// Reads the command line. Flags of cargo's own test runner are passed over.
    pub(crate) fn parse(words: &[String], default_seed: u64) -> anyhow::Result<Self> {
        let mut plan = Self {
            seed: default_seed,
            seconds: None,
            times: None,
            clients: 0,
            rate: 0,
            pushes: 1,
            only: None,
            quic: false,
            rolling: false,
            is_inside: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (flag, given) =
                word.split_once('=').map_or((word.as_str(), None), |(flag, v)| (flag, Some(v)));
            let mut value = || {
                given
                    .or_else(|| words.next().map(String::as_str))
                    .with_context(|| format!("{flag} needs a value"))
            };
            match flag {
                "--seconds" => plan.seconds = Some(value()?.parse()?),
                "--times" => plan.times = Some(value()?.parse()?),
                "--seed" => plan.seed = value()?.parse()?,
                "--clients" => plan.clients = value()?.parse()?,
                "--rate" => plan.rate = value()?.parse()?,
                "--pushes" => plan.pushes = value()?.parse()?,
                "--only" => plan.only = Some(value()?.to_owned()),
                "--quic" => plan.quic = true,
                "--rolling" => plan.rolling = true,
                "--inside" => plan.is_inside = true,
                "--test-threads" | "--color" | "--format" | "--skip" | "--logfile" => drop(value()?),
                "--help" => bail!("{USAGE}"),
                _ => {}
            }
        }
        let (clients, rate) = if plan.is_long() { LONG } else { SHORT };
        plan.clients = if plan.clients == 0 { clients } else { plan.clients };
        plan.rate = if plan.rate == 0 { rate } else { plan.rate };
        Ok(plan)
    }

    /// Returns `true` for a long run, with the timers of production.
    pub(crate) fn is_long(&self) -> bool {
        self.seconds.is_some() || self.times.is_some() || self.rolling
    }

    /// For people.
    pub(crate) fn length(&self) -> String {
        match (self.seconds, self.times) {
            (Some(seconds), Some(times)) => format!("{seconds} s or {times} faults"),
            (Some(seconds), None) => format!("{seconds} s"),
            (None, Some(times)) => format!("{times} faults"),
            (None, None) => "timers a tenth, every fault once".to_owned(),
        }
    }

    /// Returns `true` if the fault of this name is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|parts| parts.split(',').any(|part| name.contains(part)))
    }

    pub(crate) fn timers(&self) -> Timers {
        Timers::scaled(if self.is_long() { 1 } else { 10 })
    }
}

/// Settings of the gateway that a fault waits for, and how much later than on time is still on time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) ping: Duration,
    pub(crate) misses: u32,
    pub(crate) request: Duration,
    pub(crate) stall: Duration,
    pub(crate) read_idle: Duration,
    pub(crate) quic_idle: Duration,
    pub(crate) warming: Duration,
    pub(crate) returned: Duration,
    pub(crate) dial: Duration,
    pub(crate) backoff: (Duration, Duration),
    /// An instance that left requests unanswered gets none for so long, times how often, and at most the second.
    pub(crate) ejected: (Duration, Duration),
    pub(crate) retry: Duration,
    pub(crate) window: Duration,
    /// Asked of a drain; the gateway is left with its own default, which is production's.
    pub(crate) hard_stop: Duration,
    /// What a machine that is busy with everything at once may add to any of them.
    pub(crate) slack: Duration,
    /// From the death of an instance to its leaving selection.
    pub(crate) out: Duration,
    /// From a restart until all clients are back.
    pub(crate) back: Duration,
}

impl Timers {
    /// Those of production, divided.
    fn scaled(by: u32) -> Self {
        let ms = |ms: u64| Duration::from_millis(ms) / by;
        Self {
            ping: ms(2000),
            misses: 3,
            request: ms(4500),
            stall: ms(10_000),
            read_idle: ms(130_000),
            quic_idle: ms(120_000),
            warming: ms(10_000),
            returned: ms(5000),
            dial: ms(3000),
            backoff: (ms(200), ms(5000)),
            ejected: (ms(10_000), ms(60_000)),
            retry: ms(60_000),
            window: ms(20_000),
            hard_stop: ms(30_000),
            // A scaled run shares its cores with the other tests, and with a compiler that did not optimise.
            slack: if by == 1 { Duration::from_millis(500) } else { Duration::from_millis(1500) },
            out: if by == 1 { Duration::from_millis(100) } else { Duration::from_millis(400) },
            back: Duration::from_secs(3),
        }
    }

    /// Those of a rolling restart: nothing else goes wrong, so only the drain is shorter in the short run.
    pub(crate) fn of_rolling(plan: &Plan) -> Self {
        let Self { window, hard_stop, slack, .. } = plan.timers();
        Self { window, hard_stop, slack, ..Self::scaled(1) }
    }

    /// A hung instance is found within this.
    pub(crate) fn silence(&self) -> Duration {
        self.ping * self.misses
    }

    /// Clients give up after this.
    pub(crate) fn patience(&self) -> Duration {
        self.request + self.slack
    }
}
