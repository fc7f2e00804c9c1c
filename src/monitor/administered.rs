//! The family of what the administrator has ordered.

use prometheus::proto::MetricFamily;

use super::admin_labels::{AdminChange, AdminResult};
use super::cells::Cells;
use super::descriptors::ADMINISTERED;
use super::family::Family;

pub(super) fn administered(cells: &Cells) -> MetricFamily {
    let mut family = Family::new(&ADMINISTERED);
    for (change, results) in AdminChange::ALL.iter().zip(&cells.administered) {
        for result in AdminResult::ALL {
            family.sample(&[change.label(), result.label()], results.get(result.index()) as f64);
        }
    }
    family.finish()
}
