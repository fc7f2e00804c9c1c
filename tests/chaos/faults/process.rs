//! Faults of the gateway's own process, and of everybody at once.

use std::time::Duration;

use gateway::wire::close::CloseReason;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{FaultOutcome, shown};
use crate::exposition::Exposition;
use crate::load::Mood;
use crate::oracle::ViolationKind;
use crate::world::World;

/// Everybody is back after a stampede within this: clients of the original system give up after 30 s (row F4).
const STAMPEDE: Duration = Duration::from_secs(25);

/// Longest wait for everybody to leave.
const LEAVE: Duration = Duration::from_secs(15);

/// Parts of the drain window whose closes are counted.
const PARTS: usize = 10;

/// How many times their mean the fullest part may hold: of many closes, and of few, where chance does more.
const PEAK: (f64, f64) = (2.0, 5.0);

/// Closes that are many, and those that are too few to say anything.
const MANY: usize = 400;
const TOO_FEW: usize = 20;

pub(super) async fn term(world: &mut World) -> anyhow::Result<FaultOutcome> {
    world.forget_closes();
    world.strays_end().await;
    let (code, took) = world.end_gateway(Signal::SIGTERM).await?;
    let (peak, closes) = close_rate(world);
    let hard_stop = world.timers.hard_stop;
    if code != Some(0) || took > hard_stop {
        let evidence =
            format!("F1: SIGTERM ended with {code:?} after {took:?}; 0 within {hard_stop:?} is asked for");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    let allowed = if closes >= MANY { PEAK.0 } else { PEAK.1 };
    if closes >= TOO_FEW && peak > allowed {
        let evidence = format!(
            "F1: {closes} closes, {peak:.1} times their mean in a tenth of the window, {allowed} is allowed"
        );
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    world.gateway.start().await?;
    let back = all_back(world).await;
    Ok(FaultOutcome::of(Some(took), back)
        .with(format!("exit {code:?}; {closes} closes, peak {peak:.1} x mean")))
}

/// How many times their mean the closes of the fullest tenth of the window are, and how many closes there were.
fn close_rate(world: &World) -> (f64, usize) {
    let closes = world.closes_with(CloseReason::Draining);
    let Some(&first) = closes.iter().min() else { return (0.0, 0) };
    let part = world.timers.window / PARTS as u32;
    let mut parts = [0usize; PARTS];
    for at in &closes {
        let place = ((*at - first).as_secs_f64() / part.as_secs_f64()) as usize;
        parts[place.min(PARTS - 1)] += 1;
    }
    let mean = closes.len() as f64 / PARTS as f64;
    (parts.into_iter().max().unwrap_or(0) as f64 / mean, closes.len())
}

pub(super) async fn pause(world: &mut World) -> anyhow::Result<FaultOutcome> {
    let lost = |page: &Exposition| page.sum("gateway_reject_total", &["reason=\"backend_down\""]);
    let before = lost(&world.gateway.metrics().await?);
    let stopped = std::time::Instant::now();
    world.gateway.signal(Signal::SIGSTOP)?;
    let asleep = world.timers.silence() + world.random.pause(world.timers.silence());
    tokio::time::sleep(asleep).await;
    world.gateway.signal(Signal::SIGCONT)?;
    let began = Instant::now();
    world.ledger.oracle().paused(stopped, began.into_std());
    for index in 0..world.instances.len() {
        world.linked(index).await?;
    }
    let lost = lost(&world.gateway.metrics().await?) - before;
    let note = format!("for {}; {lost} links lost", shown(asleep));
    Ok(FaultOutcome::of(None, Some(began.elapsed())).with(note))
}

pub(super) async fn kill(world: &mut World) -> anyhow::Result<FaultOutcome> {
    world.strays_end().await;
    world.end_gateway(Signal::SIGKILL).await?;
    let began = Instant::now();
    world.gateway.start().await?;
    let back = world.timers.back;
    let quic = world.load.quic_back(back.saturating_sub(began.elapsed())).await.map(|_| began.elapsed());
    if let Err(count) = quic {
        let evidence = format!("F3: {count} clients are back {back:?} after the restart, not all over QUIC");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    let quic = quic.map_or_else(|_| "late".to_owned(), shown);
    all_back(world).await;
    Ok(FaultOutcome::of(None, Some(began.elapsed())).with(format!("QUIC clients back: {quic}")))
}

pub(super) async fn stampede(world: &mut World) -> anyhow::Result<FaultOutcome> {
    world.load.set(Mood::Away);
    if let Err(count) = world.load.all_gone(LEAVE).await {
        world.violated(ViolationKind::Figure, 1, format!("{count} clients did not leave within {LEAVE:?}"));
    }
    let failed = world.load.failed_logins();
    world.load.set(Mood::Ask);
    let back = world.load.all_back(STAMPEDE).await;
    if let Err(count) = back {
        let evidence = format!("F4: {count} clients are back after {STAMPEDE:?}");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    let failed = world.load.failed_logins() - failed;
    Ok(FaultOutcome::of(None, back.ok()).with(format!("{failed} attempts failed")))
}

/// Waits for everybody; how long it took.
async fn all_back(world: &World) -> Option<Duration> {
    match world.load.all_back(STAMPEDE).await {
        Ok(took) => Some(took),
        Err(count) => {
            let evidence = format!("{count} clients are back {STAMPEDE:?} after the restart");
            world.violated(ViolationKind::Figure, 1, evidence);
            None
        }
    }
}
