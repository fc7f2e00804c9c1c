//! Faults of clients.

use std::time::{Duration, Instant};

use gateway::client::Transport;

use super::{Outcome, WATCH, shown};
use crate::instance::CHAT;
use crate::load::percentile;
use crate::wild;
use crate::world::World;

/// Slow clients at once, in the short run and in the long one.
const SLOW: (usize, usize) = (6, 100);

/// Large pushes for each: more than all buffers between two processes hold.
const FLOOD: u64 = 2000;

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

pub(super) async fn slow(world: &mut World) -> anyhow::Result<Outcome> {
    let count = if world.plan.is_long() { SLOW.1 } else { SLOW.0 };
    let mut clients = Vec::new();
    for number in 0..count {
        let account = account(world, "slow");
        clients.push(wild::slow(&world.load.shared, &account, TRANSPORTS[number % TRANSPORTS.len()]).await?);
    }
    drop(world.load.shared.samples.take());
    tokio::time::sleep(WATCH).await;
    let quiet = percentile(world.load.shared.samples.take().of_pushes(), 0.99);
    let flooding = world.any_name_of(CHAT);
    let within = world.timers.stall + Duration::from_millis(500) + world.timers.slack;
    let mut worst = None;
    let began = Instant::now();
    for client in &clients {
        world.ledger.order(flooding, &format!("flood {} {FLOOD}", client.channel)).await?;
    }
    for client in &clients {
        let left = within.saturating_sub(began.elapsed());
        worst = worst.max(world.signed_out(&client.channel, left).await.map(|_| began.elapsed()));
    }
    let during = percentile(world.load.shared.samples.take().of_pushes(), 0.99);
    world.compare("slow clients: others' push p99", quiet, during);
    let note = format!(
        "{count} clients, flooded by {flooding}; others' push p99 {} -> {}",
        shown(quiet),
        shown(during)
    );
    Ok(Outcome::of(worst, None).with(note))
}

pub(super) async fn vanished(world: &mut World) -> anyhow::Result<Outcome> {
    let accounts =
        (0..WILD).map(|number| (account(world, "gone"), TRANSPORTS[number % TRANSPORTS.len()])).collect();
    let channels = wild::vanish(std::sync::Arc::clone(&world.load.shared), accounts).await?;
    let within = world.timers.read_idle.max(world.timers.quic_idle) + world.timers.slack;
    let note = format!("{} clients, to be found within {within:?}", channels.len());
    world.expect_end_of(channels, within);
    Ok(Outcome::default().with(note))
}

pub(super) async fn reset(world: &mut World) -> anyhow::Result<Outcome> {
    let mut worst = None;
    for _ in 0..WILD {
        let account = account(world, "reset");
        let channel = wild::reset(&world.load.shared, world.gateway.clients, &account).await?;
        worst = worst.max(world.signed_out(&channel, AT_ONCE).await);
    }
    Ok(Outcome::of(worst, None).with(format!("{WILD} clients")))
}

#[cfg(not(feature = "faults"))]
pub(super) async fn panics(_world: &mut World) -> anyhow::Result<Outcome> {
    Ok(Outcome::skipped("built without the feature faults"))
}

/// Clients whose sign-in makes the task of their connection panic: its guard still signs them out (G5).
#[cfg(feature = "faults")]
pub(super) async fn panics(world: &mut World) -> anyhow::Result<Outcome> {
    use gateway::client::{Client, LoginError};

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
    Ok(Outcome::of(None, Some(began.elapsed())).with(format!("{count} connections")))
}
