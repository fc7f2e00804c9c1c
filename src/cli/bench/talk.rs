//! `gateway bench talk`: clients over QUIC, TCP, TLS and WebSocket; pairs over different transports talk to each other.
//!
//! The load is an open loop: a message has a time at which it is due, and one that is sent late is sent at once.
//! Both latencies are counted from the time it was due, so that a stall cannot hide.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use gateway_client::{Client, ConnectOptions, Pushes, Transport};
use gateway_net::resolve::{Resolver, host_and_port};
use indicatif::{ProgressBar, ProgressStyle};
use socket2::{Domain, Socket, Type};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::cli::bench::load::{BenchLoad, receive, send};
use crate::cli::bench::pairs::account;
use crate::cli::bench::report::{BenchReport, Received, Sent};
use crate::cli::connect::ServerArgs;
use crate::cli::output;
use crate::cli::sign::SignerArgs;

/// Connects and logins under way at once: below the gateway's limit from which on it asks for proof of address.
const CONNECTING: usize = 32;

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the last pushes may take after the last answer.
const GRACE: Duration = Duration::from_secs(10);

/// How long closing connections may take.
const CLOSE: Duration = Duration::from_secs(5);

/// Receive and send buffer of the UDP socket all QUIC clients share, bytes; the system may give less.
const UDP_BUFFER: usize = 4 * 1024 * 1024;

/// How long the runtime may take to end.
const RUNTIME_END: Duration = Duration::from_millis(100);

/// The app of the bench accounts.
const APP: &str = "x_im";

/// How long the name of the gateway may take to resolve.
const RESOLVE: Duration = Duration::from_secs(10);

/// How long the look for a TLS listener may take.
const TLS_LOOK: Duration = Duration::from_secs(1);

/// Which transports the clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mix {
    /// A third each of QUIC, TCP and TLS; every pair has two of them.
    All,
    /// A fifth each of QUIC, TCP, TLS, WebSocket and WebSocket over TLS; every pair has two of them.
    Every,
    /// Half QUIC, half TCP; every pair has one of each.
    Both,
    Quic,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Mix {
    /// In turn, so that neighbours, who talk to each other, differ.
    const fn transports(self) -> &'static [Transport] {
        match self {
            Self::All => &[Transport::Quic, Transport::Tcp, Transport::Tls],
            Self::Every => &[Transport::Quic, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss],
            Self::Both => &[Transport::Quic, Transport::Tcp],
            Self::Quic => &[Transport::Quic],
            Self::Tcp => &[Transport::Tcp],
            Self::Tls => &[Transport::Tls],
            Self::Ws => &[Transport::Ws],
            Self::Wss => &[Transport::Wss],
        }
    }

    const fn of(self, client: usize) -> Transport {
        let transports = self.transports();
        transports[client % transports.len()]
    }
}

/// Pairs of clients talk to each other; every message must be answered and arrive once, in order.
#[derive(Debug, clap::Args)]
pub(super) struct TalkArgs {
    /// Clients, an even number.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    clients: u32,
    /// Messages each client sends per second. The gateway reads 200 frames per second from a client.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// How long they talk.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// What carries the connections; default: all where TLS can be reached, else both.
    #[arg(long, value_enum)]
    transport: Option<Mix>,
    #[command(flatten)]
    gateway: ServerArgs,
    #[command(flatten)]
    signer: SignerArgs,
}

impl TalkArgs {
    /// Messages each client is to send.
    fn each(&self) -> u32 {
        self.rate * self.seconds
    }

    /// The mix that was asked for, or the widest there is.
    async fn mix(&self) -> Mix {
        if let Some(mix) = self.transport {
            return mix;
        }
        let address = self.gateway.address(Transport::Tls);
        let Ok((host, port)) = host_and_port(&address) else { return Mix::Both };
        let looked = Resolver::default().connect(host, port, Instant::now() + TLS_LOOK).await;
        if looked.is_ok() { Mix::All } else { Mix::Both }
    }
}

/// Messages over all clients that can be kept count of: two bits and two latencies each.
const MAX_MESSAGES: u64 = 50_000_000;

/// Runs the load and prints what came of it.
pub(super) fn run(args: &TalkArgs) -> anyhow::Result<ExitCode> {
    if !args.clients.is_multiple_of(2) {
        bail!("--clients must be even: they talk in pairs");
    }
    let messages = u64::from(args.clients) * u64::from(args.each());
    if messages > MAX_MESSAGES {
        bail!("{messages} messages are too many to keep count of; at most {MAX_MESSAGES}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(bench(args));
    runtime.shutdown_timeout(RUNTIME_END);
    code
}

async fn bench(args: &TalkArgs) -> anyhow::Result<ExitCode> {
    let run = run_id();
    let mix = args.mix().await;
    let endpoint = shared_endpoint(args, mix).await?;
    let members = connect_all(args, mix, &run, endpoint.as_ref()).await?;
    let clients: Vec<Client> = members.iter().map(|(client, _)| client.clone()).collect();
    let load = Arc::new(BenchLoad::new(run, args.clients, args.rate, args.each()));
    let mut senders = JoinSet::new();
    let mut receivers = JoinSet::new();
    for (index, (client, pushes)) in members.into_iter().enumerate() {
        senders.spawn(send(index, client.clone(), Arc::clone(&load)));
        receivers.spawn(receive(index, client, pushes, Arc::clone(&load)));
    }
    let sent = talk(args, &load, senders).await;
    await_last_pushes(&load).await;
    load.end();
    let received: Vec<(usize, Received)> = receivers.join_all().await;
    let ends = clients.iter().filter_map(Client::close_reason);
    let report = BenchReport::new(sent, received, ends, |client| mix.of(client));
    let _ = timeout(CLOSE, close_all(clients, endpoint)).await;
    let over = |kind: &Transport| {
        let count = (0..args.clients as usize).filter(|&client| mix.of(client) == *kind).count();
        format!("{count} over {}", kind.as_str().to_uppercase())
    };
    let over: Vec<String> = mix.transports().iter().map(over).collect();
    let (over, rate, seconds) = (over.join(", "), args.rate, args.seconds);
    output::print(&format!("clients        {over}, {rate} messages/s each for {seconds} s\n{report}\n"))?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the progress until every sender is done. Ctrl-C ends the sending, and what was sent is still awaited.
async fn talk(args: &TalkArgs, load: &BenchLoad, mut senders: JoinSet<(usize, Sent)>) -> Vec<(usize, Sent)> {
    let bar = progress(u64::from(args.clients) * u64::from(args.each()), "messages");
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut done = Vec::new();
    while !senders.is_empty() {
        tokio::select! {
            Some(Ok(sent)) = senders.join_next() => done.push(sent),
            _ = looks.tick() => bar.set_position(load.sent.load(Ordering::Relaxed)),
            Ok(()) = tokio::signal::ctrl_c() => load.stop_sending(),
        }
    }
    bar.finish_and_clear();
    done
}

/// Waits until as many different messages came as were stored, or for as long as is fair.
async fn await_last_pushes(load: &BenchLoad) {
    let end = Instant::now() + GRACE;
    let mut looks = interval(LOOK_EVERY);
    while load.seen.load(Ordering::Relaxed) < load.stored.load(Ordering::Relaxed) && Instant::now() < end {
        looks.tick().await;
    }
    // One more turn, for a message that comes twice.
    looks.tick().await;
}

async fn close_all(clients: Vec<Client>, endpoint: Option<quinn::Endpoint>) {
    let mut closing = JoinSet::new();
    for client in clients {
        closing.spawn(async move { client.close().await });
    }
    while closing.join_next().await.is_some() {}
    if let Some(endpoint) = endpoint {
        endpoint.wait_idle().await;
    }
}

/// One UDP socket for all QUIC clients.
async fn shared_endpoint(args: &TalkArgs, mix: Mix) -> anyhow::Result<Option<quinn::Endpoint>> {
    if !mix.transports().contains(&Transport::Quic) {
        return Ok(None);
    }
    let (host, port) = host_and_port(&args.gateway.server)?;
    let servers = Resolver::default().resolve(host, port, Instant::now() + RESOLVE).await?;
    let socket = socket_for(&servers).context("cannot bind a UDP socket")?;
    let buffers = socket2::SockRef::from(&socket);
    // Less than asked for is no fault: QUIC repeats what the system drops.
    let _ = buffers.set_recv_buffer_size(UDP_BUFFER);
    let _ = buffers.set_send_buffer_size(UDP_BUFFER);
    let config = quinn::EndpointConfig::default();
    let endpoint = quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime));
    Ok(Some(endpoint.context("cannot use the UDP socket")?))
}

/// A socket that reaches all of these: clients try them side by side.
fn socket_for(servers: &[SocketAddr]) -> io::Result<UdpSocket> {
    let any = if servers.iter().any(SocketAddr::is_ipv6) {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    };
    let socket = Socket::new(Domain::for_address(any), Type::DGRAM, None)?;
    if any.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&any.into())?;
    Ok(socket.into())
}

/// A client that is signed in.
type Member = (Client, Pushes);

/// A login under way: which client, and what came of it.
type Joining = (usize, anyhow::Result<Member>);

async fn connect_all(
    args: &TalkArgs,
    mix: Mix,
    run: &str,
    endpoint: Option<&quinn::Endpoint>,
) -> anyhow::Result<Vec<Member>> {
    let signer = args.signer.signer()?;
    // One for each of the mix, in its order.
    let options = mix.transports().iter().map(|&transport| args.gateway.options(transport));
    let options = options.collect::<Result<Vec<_>, _>>()?;
    let bar = progress(u64::from(args.clients), "logins");
    let mut members: Vec<Option<Member>> = (0..args.clients).map(|_| None).collect();
    let mut joining = JoinSet::new();
    for index in 0..members.len() {
        let mut options = options[index % options.len()].clone();
        options.endpoint = endpoint.cloned();
        let token = signer.sign(&account(run, index), APP);
        if joining.len() >= CONNECTING {
            collect(&mut joining, &mut members, &bar).await?;
        }
        joining.spawn(async move { (index, join(options, &token).await) });
    }
    while !joining.is_empty() {
        collect(&mut joining, &mut members, &bar).await?;
    }
    bar.finish_and_clear();
    Ok(members.into_iter().flatten().collect())
}

async fn collect(
    joining: &mut JoinSet<Joining>,
    members: &mut [Option<Member>],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    if let Some(joined) = joining.join_next().await {
        let (index, member) = joined.context("a login task failed")?;
        members[index] = Some(member.with_context(|| format!("client {index} of {}", members.len()))?);
        bar.inc(1);
    }
    Ok(())
}

async fn join(options: ConnectOptions, token: &str) -> anyhow::Result<Member> {
    let (client, pushes) = Client::connect(options).await?;
    client.login(token).await?;
    Ok((client, pushes))
}

/// Accounts are new in every run, so that messages of older runs do not come up.
fn run_id() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", since.as_millis(), std::process::id())
}

fn progress(len: u64, unit: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {elapsed}");
    let bar = ProgressBar::new(len).with_message(unit.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::pairs::partner;

    #[test]
    fn a_mix_has_equal_shares_and_pairs_of_different_transports() {
        for clients in [2, 6, 100, 500] {
            let of = |kind| (0..clients).filter(|&client| Mix::All.of(client) == kind).count();
            let shares = [of(Transport::Quic), of(Transport::Tcp), of(Transport::Tls)];
            assert_eq!(shares.iter().sum::<usize>(), clients);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        }
        for mix in [Mix::All, Mix::Every, Mix::Both] {
            assert!((0..60).all(|client| mix.of(client) != mix.of(partner(client))), "{mix:?}");
        }
    }
}
