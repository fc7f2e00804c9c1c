//! A scripted logic service, a process of its own that can be killed and stopped: it answers what it gets, pushes,
//! notes everything first, and misbehaves when told to. It holds no sessions.

mod link;

use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use link::Link;

/// Links waiting to be accepted.
const BACKLOG: u32 = 64;

/// Orders a link may be behind: one for each slow client of the long run, and some.
const ORDERS_AHEAD: usize = 256;

/// What a service is told on its command line.
#[derive(Debug, Clone)]
pub(crate) struct ServiceScript {
    pub(crate) instance: String,
    pub(crate) listen: SocketAddr,
    pub(crate) ledger: SocketAddr,
    pub(crate) run: u64,
    /// Pushes per request.
    pub(crate) pushes: u32,
}

impl ServiceScript {
    /// The arguments behind the name of the subcommand.
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        let [instance, listen, ledger, run, pushes] = words else { bail!("a service takes 5 arguments") };
        Ok(Self {
            instance: instance.clone(),
            listen: listen.parse()?,
            ledger: ledger.parse()?,
            run: run.parse()?,
            pushes: pushes.parse()?,
        })
    }

    /// The same as arguments.
    pub(crate) fn words(&self) -> [String; 5] {
        let Self { instance, listen, ledger, run, pushes } = self;
        [instance.clone(), listen.to_string(), ledger.to_string(), run.to_string(), pushes.to_string()]
    }
}

/// What a service does when it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Reads nothing more, on any link.
    StopReading,
    /// Reads again.
    Read,
    /// Sends good frames with packets that cannot be read.
    BadPackets,
    /// Sends what is no frame.
    BadFrame,
    /// Pushes in the name of another gateway.
    WrongGateway,
    /// Pushes to channels that do not exist.
    UnknownChannel,
    /// Pushes so many large messages to one channel.
    Flood(String, u64),
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words[..] {
            ["stop-reading"] => Self::StopReading,
            ["read"] => Self::Read,
            ["bad-packets"] => Self::BadPackets,
            ["bad-frame"] => Self::BadFrame,
            ["wrong-gateway"] => Self::WrongGateway,
            ["unknown-channel"] => Self::UnknownChannel,
            ["flood", channel, count] => Self::Flood(channel.into(), count.parse()?),
            _ => bail!("{text:?} is no order"),
        })
    }
}

/// Serves until the runner is gone.
pub(crate) async fn run(script: ServiceScript) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket
        .bind(script.listen)
        .with_context(|| format!("{} cannot have {}", script.instance, script.listen))?;
    let listener = socket.listen(BACKLOG)?;
    let runner = TcpStream::connect(script.ledger).await.context("no ledger")?;
    let (read, mut write) = runner.into_split();
    write.write_all(format!("instance {}\n", script.instance).as_bytes()).await?;
    let mut told = BufReader::new(read).lines();
    let orders = broadcast::Sender::new(ORDERS_AHEAD);
    let reading = watch::Sender::new(true);
    let mut links = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                number += 1;
                let name = format!("{}.{}.{number}", script.instance, std::process::id());
                let link = Link::new(name, script.clone(), orders.subscribe(), reading.subscribe());
                links.spawn(link.serve(stream));
            }
            line = told.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                match line.parse()? {
                    Order::StopReading => drop(reading.send_replace(false)),
                    Order::Read => drop(reading.send_replace(true)),
                    order => drop(orders.send(order)),
                }
            }
            Some(_) = links.join_next() => {}
        }
    }
}
