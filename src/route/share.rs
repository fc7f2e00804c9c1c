//! Another share of the accounts for one zone: which weights make it.

use super::{MAX_SLOTS, Route, Zone};

/// How far a share may be from what was asked for, in percent of the accounts, before more slots are taken.
const TOLERANCE: f64 = 0.5;

/// Why a zone cannot have a share. Whoever asks is at fault.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ShareError {
    /// The route has none of this name.
    #[error("zone: {zone:?} is no zone of the route; allowed are {allowed}")]
    UnknownZone {
        /// As it was asked for.
        zone: String,
        /// The zones, for the message.
        allowed: String,
    },
    /// It has all accounts, and whatever it weighs, it has.
    #[error("zone: {0:?} is the only one, so it has all accounts")]
    OnlyZone(String),
    /// A zone has one slot at least, and so have the others.
    #[error(
        "percent: is {0}; allowed is more than 0 and less than 100: to give a zone up, take it out of the route file"
    )]
    Percent(f64),
}

impl Route {
    /// The same with other weights, so that this zone has this share of the slots, give or take half a percent, and the others
    /// share the rest as they did. Zones keep their order. The sum of the weights stays as it is where it can express the share:
    /// with another sum nearly every account has another slot.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn with_share(&self, zone: &str, percent: f64) -> Result<Self, ShareError> {
        let Some(position) = self.zones.iter().position(|known| known.id == zone) else {
            return Err(ShareError::UnknownZone { zone: zone.to_owned(), allowed: self.zone_list() });
        };
        if self.zones.len() == 1 {
            return Err(ShareError::OnlyZone(zone.to_owned()));
        }
        if !(percent > 0.0 && percent < 100.0) {
            return Err(ShareError::Percent(percent));
        }
        let slots: u32 = self.zones.iter().map(|zone| zone.weight).sum();
        let best = (1..=MAX_SLOTS / slots)
            .map(|times| self.weights(position, percent, slots * times))
            .min_by(|one, other| one.badness().total_cmp(&other.badness()));
        let weights = best.map(|shares| shares.weights).unwrap_or_default();
        let zones = self.zones.iter().zip(weights);
        let zones = zones.map(|(zone, weight)| Zone { id: zone.id.clone(), weight }).collect();
        Ok(Self { zones, ..self.clone() })
    }

    /// Weights of this sum.
    fn weights(&self, position: usize, percent: f64, slots: u32) -> Shares {
        let others = u32::try_from(self.zones.len()).unwrap_or(MAX_SLOTS) - 1;
        let exact = f64::from(slots) * percent / 100.0;
        let own = (exact.round() as u32).clamp(1, slots.saturating_sub(others).max(1));
        let was: u32 = self.zones.iter().map(|zone| zone.weight).sum::<u32>() - self.zones[position].weight;
        let (mut weights, mut left, mut left_of_was, mut behind) =
            (Vec::new(), slots.saturating_sub(own), was, others);
        for (at, zone) in self.zones.iter().enumerate() {
            if at == position {
                weights.push(own);
                continue;
            }
            // Each takes its part of what is left, so the last one takes the rest.
            behind -= 1;
            let part = f64::from(left) * f64::from(zone.weight) / f64::from(left_of_was);
            let weight = (part.round() as u32).clamp(1, left.saturating_sub(behind).max(1));
            weights.push(weight);
            (left, left_of_was) = (left.saturating_sub(weight), left_of_was - zone.weight);
        }
        Shares { error: (f64::from(own) * 100.0 / f64::from(slots) - percent).abs(), slots, weights }
    }
}

struct Shares {
    weights: Vec<u32>,
    slots: u32,
    /// Percent of the accounts.
    error: f64,
}

impl Shares {
    /// As few slots as are near enough; else as near as can be.
    fn badness(&self) -> f64 {
        if self.error <= TOLERANCE {
            f64::from(self.slots)
        } else {
            f64::from(MAX_SLOTS) * (1.0 + self.error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::MovedShare;

    fn route(weights: &[u32]) -> Route {
        let zones =
            ('a'..).zip(weights).map(|(id, weight)| format!("{{\"id\": \"{id}\", \"weight\": {weight}}}"));
        Route::from_json(&format!("{{\"zones\": [{}]}}", zones.collect::<Vec<_>>().join(", "))).unwrap()
    }

    fn weights(before: &[u32], zone: &str, percent: f64) -> Vec<u32> {
        let after = route(before).with_share(zone, percent).unwrap();
        after.zones().iter().map(|zone| zone.weight).collect()
    }

    #[test]
    fn f17_a_zone_gets_the_share_that_is_asked_for_and_the_others_share_the_rest_as_they_did() {
        assert_eq!(weights(&[50, 50], "b", 20.0), [80, 20]);
        assert_eq!(weights(&[50, 30, 20], "c", 40.0), [38, 22, 40]);
        assert_eq!(weights(&[1, 1], "b", 20.0), [8, 2], "two slots cannot say it, ten can");
        assert_eq!(weights(&[1, 1], "b", 50.0), [1, 1]);
        assert_eq!(weights(&[98, 1, 1], "a", 99.0), [198, 1, 1], "each has one at least");
        let moved = MovedShare::between(&route(&[50, 50]), &route(&[50, 50]).with_share("b", 20.0).unwrap());
        assert_eq!(moved.to_string(), "30 %", "no more than it must");
    }

    #[test]
    fn f17_whatever_is_asked_for_is_a_route() {
        for before in [&[1, 1][..], &[1, 2, 3], &[65_534, 1, 1], &[7; 100], &[1, 65_535]] {
            for percent in [0.001, 0.5, 33.3, 50.0, 99.5, 99.999] {
                let after = route(before).with_share("b", percent).unwrap();
                assert!(after.zones().iter().all(|zone| zone.weight >= 1), "{before:?} {percent}: {after:?}");
                let sum: u32 = after.zones().iter().map(|zone| zone.weight).sum();
                assert!(sum <= MAX_SLOTS, "{before:?} {percent}: {sum}");
            }
        }
    }

    #[test]
    fn f17_what_no_weights_can_make_is_refused_with_what_is_allowed() {
        let told = |before: &[u32], zone: &str, percent| {
            route(before).with_share(zone, percent).unwrap_err().to_string()
        };
        assert!(told(&[1, 1], "z", 20.0).contains("allowed are \"a\", \"b\""));
        assert!(told(&[1], "a", 20.0).contains("is the only one"));
        for percent in [0.0, -1.0, 100.0, f64::NAN, f64::INFINITY] {
            assert!(
                told(&[1, 1], "a", percent).contains("allowed is more than 0 and less than 100"),
                "{percent}"
            );
        }
    }
}
