//! Faults of clients.

use std::time::{Duration, Instant};

use gateway_client::Transport;

use super::{FaultOutcome, WATCH, shown};
use crate::instance::CHAT;
use crate::load::percentile;
use crate::oracle::ViolationKind;
use crate::wild::{self, Slow};
use crate::world::World;

/// Slow clients at once, in the short run and in the long one.
const SLOW: (usize, usize) = (6, 100);

/// Large pushes for each, by what becomes of it. Over QUIC and over TCP, more than all buffers between two processes hold:
/// its queue overflows. Over narrow QUIC and narrow TCP, more than those hold and less than its queue takes beyond that:
/// the writing stalls.
const OVERFLOW_QUIC: u64 = 400;
const OVERFLOW_TCP: u64 = 2000;
const STALL_QUIC: u64 = 155;
const STALL_TCP: u64 = 24;

/// A stall is noticed so soon after its time.
const STALL_SLACK: Duration = Duration::from_millis(500);

/// All floods are written within this.
const FLOODED: Duration = Duration::from_secs(10);

/// Clients that vanish, and that reset, at once.
const WILD: usize = 6;

/// The end of a connection that was reset is seen at once; this is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

const TRANSPORTS: [Transport; 3] = [Transport::Quic, Transport::Tcp, Transport::Tls];

/// Panics at once, in the short run and in the long one.
#[cfg(feature = "faults")]
const PANICS: (usize, usize) = (20, 500);

/// A name nobody has had.
fn account(world: &mut World, kind: &str) -> String {
    format!("{kind}{}", world.random.next() % 1_000_000_000)
}

pub(super) async fn slow(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let count = if world.plan.is_long() { SLOW.1 } else { SLOW.0 };
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(one_slow(world, number).await?);
    }
    // The floods of those that are to stall are short, and first.
    clients.sort_by_key(|(_, pushes)| *pushes);
    drop(world.load.shared.samples.take());
    tokio::time::sleep(WATCH).await;
    let quiet = percentile(world.load.shared.samples.take().of_pushes(), 0.99);
    let flooding = world.any_name_of(CHAT);
    let limit = world.timers.stall + STALL_SLACK;
    let began = Instant::now();
    for (client, pushes) in &clients {
        world.ledger.order(flooding, &format!("flood {} {pushes}", client.channel)).await?;
    }
    let mut lives = Vec::new();
    for (client, _) in &clients {
        let left = (limit + FLOODED + world.timers.slack).saturating_sub(began.elapsed());
        world.signed_out(&client.channel, left).await;
        lives.extend(world.ledger.oracle().lived_after_pushes(&client.channel));
    }
    let during = percentile(world.load.shared.samples.take().of_pushes(), 0.99);
    world.compare("slow clients: others' push p99", quiet, during);
    let worst = lives.iter().max().copied();
    if world.plan.is_long() && worst.is_some_and(|worst| worst > limit) {
        world.violated(
            ViolationKind::Figure,
            1,
            format!("C8, D4: a slow client lived for {worst:?}, not {limit:?}"),
        );
    }
    let stalled = lives.iter().filter(|life| **life >= world.timers.stall / 2).count();
    if stalled == 0 || stalled == lives.len() {
        let evidence = format!("C8, D4: of {} slow clients {stalled} stalled; some must", lives.len());
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    let note = format!(
        "{count} clients, flooded by {flooding}, {stalled} stalled; others' push p99 {} -> {}",
        shown(quiet),
        shown(during)
    );
    Ok(FaultOutcome::of(worst, None).with(note))
}

/// A slow client of one of four kinds, and how many pushes it is to get.
async fn one_slow(world: &mut World, number: usize) -> anyhow::Result<(Slow, u64)> {
    let account = account(world, "slow");
    let (shared, server) = (&world.load.shared, world.gateway.clients);
    Ok(match number % 6 {
        0 | 1 => (wild::narrow_quic(shared, &account).await?, STALL_QUIC),
        2 | 3 => (wild::narrow_tcp(shared, server, &account).await?, STALL_TCP),
        4 => (wild::slow(shared, &account, Transport::Quic).await?, OVERFLOW_QUIC),
        // Few of them: each takes what a connection's kernel buffers can grow to.
        _ if number.is_multiple_of(5) => {
            let transport = if number % 4 == 1 { Transport::Tls } else { Transport::Tcp };
            (wild::slow(shared, &account, transport).await?, OVERFLOW_TCP)
        }
        _ => (wild::slow(shared, &account, Transport::Quic).await?, OVERFLOW_QUIC),
    })
}

pub(super) async fn vanished(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let accounts =
        (0..WILD).map(|number| (account(world, "gone"), TRANSPORTS[number % TRANSPORTS.len()])).collect();
    let channels = wild::vanish(std::sync::Arc::clone(&world.load.shared), accounts).await?;
    let within = world.timers.read_idle.max(world.timers.quic_idle) + world.timers.slack;
    let note = format!("{} clients, to be found within {within:?}", channels.len());
    world.expect_end_of(channels, within);
    Ok(FaultOutcome::default().with(note))
}

pub(super) async fn reset(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let mut worst = None;
    for _ in 0..WILD {
        let account = account(world, "reset");
        let channel = wild::reset(&world.load.shared, world.gateway.clients, &account).await?;
        worst = worst.max(world.signed_out(&channel, AT_ONCE).await);
    }
    Ok(FaultOutcome::of(worst, None).with(format!("{WILD} clients")))
}

#[cfg(not(feature = "faults"))]
pub(super) async fn panics(_world: &mut World) -> anyhow::Result<FaultOutcome> {
    Ok(FaultOutcome::skipped("built without the feature faults"))
}

/// Clients whose sign-in makes the task of their connection panic: its guard still signs them out (G5).
#[cfg(feature = "faults")]
pub(super) async fn panics(world: &mut World) -> anyhow::Result<FaultOutcome> {
    use gateway_client::{Client, LoginError};

    let count = if world.plan.is_long() { PANICS.1 } else { PANICS.0 };
    let began = Instant::now();
    for number in 0..count {
        let shared = &world.load.shared;
        let (client, _pushes) =
            Client::connect(shared.options(TRANSPORTS[number % TRANSPORTS.len()])).await?;
        // No account may sign in again and again.
        let account = format!("{}-{number}-{}", gateway::faults::PANIC_TASK, world.random.next());
        let login = client.login(&shared.token(&account)).await;
        match login {
            Err(LoginError::Closed(_)) => {}
            other => anyhow::bail!("a login whose task was to panic ended with {other:?}"),
        }
    }
    world.expect_panics(count);
    Ok(FaultOutcome::of(None, Some(began.elapsed())).with(format!("{count} connections")))
}
