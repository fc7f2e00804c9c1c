//! Faults of logic instances and of the way to them.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{FaultOutcome, WATCH, shown};
use crate::instance::{CHAT, SIDE};
use crate::load::percentile;
use crate::network::Cut;
use crate::oracle::ViolationKind;
use crate::world::World;

/// Longest time an instance that was killed stays away, beyond what is waited for.
const AWAY: Duration = Duration::from_millis(600);

/// An instance that hung is chosen again so soon after it goes on (row E2).
const RESUMED: Duration = Duration::from_secs(10);

/// A refusal for want of any instance comes within this (row E14).
const REFUSED: Duration = Duration::from_millis(50);

/// Counters of the monitor move within this.
const COUNTED: Duration = Duration::from_secs(5);

/// The sum of a reject reason, or of a reason for dropped pushes.
fn reject(reason: &str) -> (&'static str, String) {
    ("gateway_reject_total", format!("reason=\"{reason}\""))
}

fn drop_reason(reason: &str) -> (&'static str, String) {
    ("gateway_push_drops_total", format!("reason=\"{reason}\""))
}

pub(super) async fn kill(world: &mut World, service: &str) -> anyhow::Result<FaultOutcome> {
    let victim = world.any_of(service);
    world.kill(victim)?;
    let left = world.left(victim, world.timers.out).await?;
    let out = Instant::now();
    tokio::time::sleep(world.random.pause(AWAY)).await;
    let unknown = world.load.shared.samples.take().asked_after(210, out.into());
    // With production's timers nothing but the dead instance leaves a request unanswered.
    if world.plan.is_long() && unknown > 0 {
        let evidence =
            format!("E1: {unknown} requests were answered 210 after the instance had left selection");
        world.violated(ViolationKind::Figure, unknown as u64, evidence);
    }
    let back = world.revive(victim).await?;
    Ok(FaultOutcome::of(left, back).with(world.instances[victim].name))
}

pub(super) async fn pause(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let victim = world.any_of(CHAT);
    let name = world.instances[victim].name;
    drop(world.load.shared.samples.take());
    tokio::time::sleep(WATCH).await;
    let quiet = percentile(world.load.shared.samples.take().of_others(&[name]), 0.99);
    world.torn(victim);
    world.instances[victim].signal(Signal::SIGSTOP)?;
    let within = world.timers.silence() + world.timers.slack;
    let left = world.left(victim, within).await;
    let during = percentile(world.load.shared.samples.take().of_others(&[name]), 0.99);
    // Whatever came of it, it must not stay stopped.
    world.instances[victim].signal(Signal::SIGCONT)?;
    let left = left?;
    let back = world.linked(victim).await?;
    if world.plan.is_long() && back.is_some_and(|back| back > RESUMED) {
        let evidence = format!("E2: {name} is chosen again after {back:?}, not {RESUMED:?}");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    world.compare("a stopped instance: others' p99", quiet, during);
    Ok(FaultOutcome::of(left, back).with(format!(
        "{name}; others' p99 {} -> {}",
        shown(quiet),
        shown(during)
    )))
}

pub(super) async fn stop_reading(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let victim = world.any_of(CHAT);
    let name = world.instances[victim].name;
    world.torn(victim);
    world.ledger.order(name, "stop-reading").await?;
    // It answers no pings either, so it is found as one that hangs.
    let left = world.left(victim, world.timers.silence() + world.timers.slack).await;
    world.ledger.order(name, "read").await?;
    let left = left?;
    let back = world.linked(victim).await?;
    Ok(FaultOutcome::of(left, back).with(name))
}

/// Gives an order, and waits until a counter has moved.
async fn counted(
    world: &World,
    name: &str,
    order: &str,
    counter: (&str, String),
) -> anyhow::Result<Option<Duration>> {
    let (family, label) = counter;
    let before = world.gateway.metrics().await?.sum(family, &[&label]);
    world.ledger.order(name, order).await?;
    let moved = world.gateway.shows(COUNTED, |page| page.sum(family, &[&label]) > before).await?;
    if moved.is_none() {
        let evidence = format!("{order} of {name}: {family}{{{label}}} did not move within {COUNTED:?}");
        world.violated(ViolationKind::Unbalanced, 1, evidence);
    }
    Ok(moved)
}

pub(super) async fn bad_frames(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let victim = world.any_of(CHAT);
    let name = world.instances[victim].name;
    let lost =
        |page: &crate::exposition::Exposition| page.sum("gateway_reject_total", &["reason=\"backend_down\""]);
    let before = lost(&world.gateway.metrics().await?);
    counted(world, name, "bad-packets", reject("backend_bad_packet")).await?;
    if lost(&world.gateway.metrics().await?) > before {
        let evidence = format!("E4: packets of {name} that cannot be read ended a link");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    world.torn(victim);
    let found = counted(world, name, "bad-frame", reject("backend_bad_frame")).await?;
    let back = world.linked(victim).await?;
    Ok(FaultOutcome::of(found, back).with(name))
}

pub(super) async fn wrong_gateway(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let name = world.any_name_of(CHAT);
    let found = counted(world, name, "wrong-gateway", drop_reason("wrong_gateway")).await?;
    Ok(FaultOutcome::of(found, None).with(name))
}

pub(super) async fn unknown_channel(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let name = world.any_name_of(CHAT);
    let found = counted(world, name, "unknown-channel", drop_reason("no_channel")).await?;
    Ok(FaultOutcome::of(found, None).with(name))
}

pub(super) async fn cut(world: &mut World, cut: Cut) -> anyhow::Result<FaultOutcome> {
    if let Some(obstacle) = &world.network.obstacle {
        return Ok(FaultOutcome::skipped(obstacle.clone()));
    }
    let victim = world.any_of(CHAT);
    world.torn(victim);
    world.network.cut(world.instances[victim].address.port(), cut).await?;
    let left = world.left(victim, world.timers.silence() + world.timers.slack).await;
    world.network.heal().await?;
    let left = left?;
    let back = world.linked(victim).await?;
    Ok(FaultOutcome::of(left, back).with(world.instances[victim].name))
}

pub(super) async fn zone_gone(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let zone = *world.random.pick(&["zone_a", "zone_b"]);
    let mut victims = world.of_service(CHAT);
    victims.retain(|&index| world.instances[index].zone == zone);
    let fallbacks = |page: &crate::exposition::Exposition| page.sum("gateway_zone_fallback_total", &[zone]);
    let before = fallbacks(&world.gateway.metrics().await?);
    let began = Instant::now();
    for &victim in &victims {
        world.kill(victim)?;
    }
    for &victim in &victims {
        world.left(victim, world.timers.out).await?;
    }
    let left = began.elapsed();
    // The other zone serves them all.
    let moved = world.gateway.shows(COUNTED, |page| fallbacks(page) > before).await?;
    if moved.is_none() {
        let evidence = format!("E13: nobody of {zone} was served by the other zone within {COUNTED:?}");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    let out = Instant::now();
    tokio::time::sleep(world.random.pause(AWAY)).await;
    let refused = world.load.shared.samples.take().asked_after(300, out.into());
    if refused > 0 {
        let evidence = format!("E13: {refused} requests were answered 300 while the other zone was there");
        world.violated(ViolationKind::Figure, refused as u64, evidence);
    }
    Ok(FaultOutcome::of(Some(left), revive_all(world, &victims).await?).with(zone))
}

pub(super) async fn service_gone(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let victims = world.of_service(CHAT);
    let began = Instant::now();
    for &victim in &victims {
        world.kill(victim)?;
    }
    for &victim in &victims {
        world.left(victim, world.timers.out).await?;
    }
    let left = began.elapsed();
    drop(world.load.shared.samples.take());
    tokio::time::sleep(WATCH).await;
    let taken = world.load.shared.samples.take();
    let refusals = taken.of_status(300);
    let median = percentile(refusals.clone(), 0.5);
    let side = taken.of_others(&[]).len();
    if refusals.is_empty() || median > REFUSED {
        let evidence =
            format!("E14: {} refusals, half of them within {median:?}, not {REFUSED:?}", refusals.len());
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    if side == 0 {
        world.violated(ViolationKind::Figure, 1, format!("G8: {SIDE} served nobody while {CHAT} was gone"));
    }
    let note = format!("{} refused, median {}; {side} served by {SIDE}", refusals.len(), shown(median));
    Ok(FaultOutcome::of(Some(left), revive_all(world, &victims).await?).with(note))
}

/// Starts them all again; the longest any of them took.
async fn revive_all(world: &mut World, victims: &[usize]) -> anyhow::Result<Option<Duration>> {
    let mut longest = None;
    for &victim in victims {
        longest = longest.max(world.revive(victim).await?);
    }
    Ok(longest)
}
