//! Another share of the accounts for a zone, while the gateway runs.

use std::sync::Arc;

use super::acts::body;
use super::context::{Administration, Answered, ApiRefusal, json};
use crate::admin::AdminRequest;
use crate::admin::model::Problem;
use crate::admin::orders::{WeightOrder, WeightShift};
use crate::config::Config;
use crate::limits::RELOAD_TAKEN;
use crate::live::Live;
use crate::route::{MovedShare, Route, RouteChange, ShareError};

/// Says how many accounts move if a zone gets this share of them, and has them move if it is to be applied: until the next reload,
/// which reads the route file again, or the end of the process.
#[utoipa::path(post, path = "/api/v1/weight", request_body = WeightOrder, responses(
    (status = 200, body = WeightShift),
    (status = 400, description = "there is no such zone, or it cannot have that share", body = Problem),
))]
pub(super) fn weight(of: &Administration, request: &AdminRequest) -> Answered {
    let order: WeightOrder = body(request)?;
    let asked = |error: ShareError| ApiRefusal::Asked(error.to_string());
    if !order.apply {
        let route = &of.live.current().config.route;
        let after = route.with_share(&order.zone, order.percent).map_err(asked)?;
        return json(&shift(route, &after, false, false));
    }
    let mut outcome = None;
    // Computed while nobody else can change it: a reload may have in between.
    of.live.change(|last| {
        let computed = last.config.route.with_share(&order.zone, order.percent);
        let live = match &computed {
            Ok(route) => {
                let config = Config { route: Arc::new(route.clone()), ..Config::clone(&last.config) };
                Live { config: Arc::new(config), ..last.clone() }
            }
            Err(_refused) => last.clone(),
        };
        outcome = Some(computed.map(|route| shift(&last.config.route, &route, true, false)));
        live
    });
    let mut shift = match outcome {
        Some(outcome) => outcome.map_err(asked)?,
        None => return Err(ApiRefusal::Failed("the route was not changed. Please report this".to_owned())),
    };
    shift.pending = !of.live.wait_taken(RELOAD_TAKEN);
    json(&shift)
}

fn shift(before: &Route, after: &Route, applied: bool, pending: bool) -> WeightShift {
    WeightShift {
        change: RouteChange::between(before, after).map(|change| change.to_string()),
        moved_percent: MovedShare::between(before, after).percent(),
        weights: after.zones().iter().map(|zone| (zone.id.clone(), zone.weight)).collect(),
        applied,
        pending,
    }
}
