//! Faults of Consul: whatever it does, nobody who is connected notices (rows E9, E11).

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{FaultOutcome, shown};
use crate::consul::Agent;
use crate::exposition::Exposition;
use crate::gateway_process::{CONSUL_ANSWER, CONSUL_WAIT, GATE};
use crate::oracle::ViolationKind;
use crate::world::World;

/// How long Consul is away in the short run, and at least and at most in the long one.
const AWAY: Duration = Duration::from_millis(4000);
const OUTAGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Between two requests to a failing Consul.
const PACE: Duration = Duration::from_secs(1);

/// Between two looks at the readiness.
const LOOK: Duration = Duration::from_millis(50);

/// It is noticed that Consul is back within this: the longest pause of one asker and its jitter, 6 s, its turn among four,
/// 4 s, and what an agent that has just begun refuses.
const NOTICED: Duration = Duration::from_secs(12);

/// The three of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Killed, and started again with what it remembers.
    Killed,
    /// SIGSTOP, then SIGCONT.
    Stopped,
    /// Killed, and started again without any memory.
    Emptied,
}

/// Questions that got no good answer.
fn failed(page: &Exposition) -> f64 {
    ["unreachable", "timeout", "status", "denied", "bad_answer", "dns"]
        .iter()
        .map(|kind| errors(page, kind))
        .sum()
}

fn errors(page: &Exposition, kind: &str) -> f64 {
    page.sum("gateway_discovery_errors_total", &[&format!("kind=\"{kind}\"")])
}

pub(super) async fn fail(world: &mut World, what: What) -> anyhow::Result<FaultOutcome> {
    let Some(mut agent) = world.consul.take() else {
        return Ok(FaultOutcome::skipped("no Consul; set CONSUL_BIN to one, tests/tools/get-consul gets it"));
    };
    let outcome = undergo(world, &mut agent, what).await;
    world.consul = Some(agent);
    outcome
}

async fn undergo(world: &mut World, agent: &mut Agent, what: What) -> anyhow::Result<FaultOutcome> {
    let away = away(world);
    world.forget_closes();
    drop(world.load.shared.samples.take());
    let before = world.gateway.metrics().await?;
    let began = Instant::now();
    if what == What::Stopped {
        agent.signal(Signal::SIGSTOP)?;
    } else {
        agent.kill()?;
    }
    let down = while_down(world, failed(&before), away).await;
    // Whatever came of it, it must not stay stopped.
    match what {
        What::Stopped => agent.signal(Signal::SIGCONT)?,
        What::Killed => agent.run().await?,
        What::Emptied => {
            agent.forget()?;
            agent.run().await?;
        }
    }
    let Down { found, asked, counted } = down?;
    let again = Instant::now();
    if what == What::Emptied {
        emptied(world, agent, &before).await?;
    }
    back(world).await?;
    if agent.has_gateway(GATE, true).await.is_none() {
        world.violated(ViolationKind::Figure, 1, format!("{GATE} does not stand in Consul again ({what:?})"));
    }
    let recovered = again.elapsed();
    let unknown = unharmed(world, &before, what, began.elapsed()).await?;
    let note = format!(
        "away for {}; {asked} requests to it in {}; {unknown} answered 210",
        shown(away),
        shown(counted)
    );
    Ok(FaultOutcome::of(found, Some(recovered)).with(note))
}

/// How long it is to be away.
fn away(world: &mut World) -> Duration {
    if !world.plan.is_long() {
        return AWAY;
    }
    OUTAGE.0 + world.random.pause(OUTAGE.1 - OUTAGE.0)
}

/// What was seen of a Consul that is away.
struct Down {
    /// Until a question failed; short outages may pass unnoticed.
    found: Option<Duration>,
    /// Requests that failed, and for how long they were counted.
    asked: f64,
    counted: Duration,
}

/// Waits for the first failure, and then counts until so long has passed.
async fn while_down(world: &World, before: f64, away: Duration) -> anyhow::Result<Down> {
    let end = Instant::now() + away;
    let within = CONSUL_WAIT * 2 + CONSUL_ANSWER + world.timers.slack;
    let found = world.gateway.shows(within.min(away), |page| failed(page) > before).await?;
    if found.is_none() && away >= within {
        world.violated(
            ViolationKind::Figure,
            1,
            format!("Consul is gone and no question has failed within {within:?}"),
        );
    }
    // Until all the questions that were open have failed: those were not asked of an agent known to fail.
    let left = end.saturating_duration_since(Instant::now());
    ready_for(world, left.min(CONSUL_WAIT + CONSUL_ANSWER + LOOK)).await?;
    let first = failed(&world.gateway.metrics().await?);
    let began = Instant::now();
    ready_for(world, end.saturating_duration_since(began)).await?;
    let asked = failed(&world.gateway.metrics().await?) - first;
    // Those of whole seconds, and one that was asked before.
    let allowed = began.elapsed().div_duration_f64(PACE).ceil() + 1.0;
    if asked > allowed {
        let evidence = format!("E9: {asked} requests to a failing Consul in {:?}", began.elapsed());
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    if asked < 1.0 && began.elapsed() >= NOTICED {
        let evidence = format!("E9: a failing Consul was not asked again in {:?}", began.elapsed());
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    Ok(Down { found, asked, counted: began.elapsed() })
}

/// For so long the gateway must be ready.
async fn ready_for(world: &World, duration: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let status = world.gateway.readiness().await?;
        if status != 200 {
            world.violated(
                ViolationKind::Figure,
                1,
                format!("E9: /ready says {status} because Consul is away"),
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Consul knows nobody: that must not be believed. Then it is told again.
async fn emptied(world: &World, agent: &Agent, before: &Exposition) -> anyhow::Result<()> {
    let empty = |page: &Exposition| errors(page, "empty");
    let services = 3.0;
    let heard = world.gateway.shows(NOTICED, |page| empty(page) >= empty(before) + services).await?;
    if heard.is_none() {
        let evidence = format!("E11: an empty Consul was not noticed within {NOTICED:?}");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    ready_for(world, PACE).await?;
    agent.register_all(&world.instances).await
}

/// Waits until Consul is asked with success again, by everyone.
async fn back(world: &World) -> anyhow::Result<()> {
    let success = |page: &Exposition| page.sum("gateway_discovery_last_success_timestamp_seconds", &[]);
    let last = success(&world.gateway.metrics().await?);
    let back = world.gateway.shows(NOTICED, |page| success(page) > last).await?;
    if back.is_none() {
        let evidence = format!("E9: Consul is back and was not asked with success within {NOTICED:?}");
        world.violated(ViolationKind::Figure, 1, evidence);
    }
    Ok(())
}

/// No connection was dropped, no request was refused or lost, and nobody left selection. How many were answered 210.
async fn unharmed(world: &World, before: &Exposition, what: What, took: Duration) -> anyhow::Result<usize> {
    let mut found = Vec::new();
    let closes = world.closes();
    if closes > 0 {
        found.push(format!("{closes} connections ended"));
    }
    let taken = world.load.shared.samples.take();
    let [unknown, refused] = [210, 300].map(|status| taken.of_status(status).len());
    if refused > 0 {
        found.push(format!("{refused} requests were answered 300"));
    }
    // A Consul that starts takes a core for itself, and a tenth of production's deadline is soon over then.
    if world.plan.is_long() && unknown > 0 {
        found.push(format!("{unknown} requests were answered 210"));
    }
    if taken.of_others(&[]).is_empty() {
        found.push("nobody was served".into());
    }
    let page = world.gateway.metrics().await?;
    let known = |page: &Exposition| page.sum("gateway_discovery_instances", &[]);
    if known(&page) != known(before) {
        found.push(format!("{} instances are known, not {}", known(&page), known(before)));
    }
    for evidence in found {
        world.violated(ViolationKind::Figure, 1, format!("E9: {what:?} for {}: {evidence}", shown(took)));
    }
    Ok(unknown)
}
