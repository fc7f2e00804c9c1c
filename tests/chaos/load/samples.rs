//! How long answers took, by the instance that wrote them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The name under which answers of the gateway's own are kept, by status.
fn own(status: i32) -> String {
    format!("gateway {status}")
}

/// The name under which the ages of pushes are kept.
pub(crate) const PUSHES: &str = "pushes";

/// When it was asked, and how long the answer took.
type Sample = (Instant, Duration);

/// Samples kept of one instance until they are taken.
const KEPT: usize = 1 << 18;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<HashMap<String, Vec<Sample>>>);

impl Samples {
    /// One answer; `link` is empty when the gateway wrote it.
    pub(crate) fn add(&self, link: &str, status: i32, asked: Instant, took: Duration) {
        let instance = link.split('.').next().filter(|name| !name.is_empty());
        let name = instance.map_or_else(|| own(status), str::to_owned);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = all.entry(name).or_default();
        if samples.len() < KEPT {
            samples.push((asked, took));
        }
    }

    /// Takes what there is, so that the next ones begin anew.
    pub(crate) fn take(&self) -> Taken {
        Taken(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken(HashMap<String, Vec<Sample>>);

impl Taken {
    /// Those of every instance but these.
    pub(crate) fn of_others(&self, but: &[&str]) -> Vec<Duration> {
        let others = self.0.iter().filter(|(name, _)| {
            !name.starts_with("gateway") && *name != PUSHES && !but.contains(&name.as_str())
        });
        others.flat_map(|(_, samples)| samples.iter().map(|(_, took)| *took)).collect()
    }

    /// How old pushes were when they came.
    pub(crate) fn of_pushes(&self) -> Vec<Duration> {
        self.took(PUSHES)
    }

    /// Those of the gateway's own answers with this status.
    pub(crate) fn of_status(&self, status: i32) -> Vec<Duration> {
        self.took(&own(status))
    }

    /// How many of those are for requests that were asked after this.
    pub(crate) fn asked_after(&self, status: i32, after: Instant) -> usize {
        let samples = self.0.get(&own(status)).map_or(&[][..], Vec::as_slice);
        samples.iter().filter(|(asked, _)| *asked > after).count()
    }

    fn took(&self, name: &str) -> Vec<Duration> {
        self.0.get(name).map_or_else(Vec::new, |samples| samples.iter().map(|(_, took)| *took).collect())
    }
}

/// The value below which this share of the samples lies; zero of none.
pub(crate) fn percentile(mut samples: Vec<Duration>, share: f64) -> Duration {
    samples.sort_unstable();
    let place = (samples.len() as f64 * share) as usize;
    samples.get(place.min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
}
