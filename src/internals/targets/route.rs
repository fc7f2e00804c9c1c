//! The route file: what is taken is within its bounds and chooses as `explain` says; a refusal is one line that names the
//! key or the line.

use std::collections::HashSet;

use super::input::{halves, text};
use crate::dispatch::selector::{Candidates, RouteSelector};
use crate::route::{MAX_SLOTS, Route, RouteError};

/// The text of a route file; behind a line of dashes, an account.
pub fn target(data: &[u8]) {
    let (file, account) = halves(data);
    let (Some(file), Some(account)) = (text(file), text(account)) else { return };
    match Route::from_json(file) {
        Ok(route) => check(&route, account),
        Err(error) => check_error(&error),
    }
}

fn check(route: &Route, account: &str) {
    let ids: HashSet<&str> = route.zones().iter().map(|zone| zone.id.as_str()).collect();
    let slots: u32 = route.zones().iter().map(|zone| zone.weight).sum();
    assert!(ids.len() == route.zones().len() && !ids.contains("") && (1..=MAX_SLOTS).contains(&slots));
    let apps: HashSet<&str> = route.whitelist().iter().map(|entry| entry.app.as_str()).collect();
    assert!(apps.len() == route.whitelist().len() && !apps.contains(""));
    assert!(route.whitelist().iter().all(|entry| ids.contains(entry.zone.as_str())));
    check_choice(route, account);
}

/// With an instance in every other zone, and one whose zone is unknown.
fn check_choice(route: &Route, account: &str) {
    let selector = RouteSelector::new(route);
    let zones = route.zones().iter().map(|zone| zone.id.as_str()).step_by(2).chain([""]);
    let instances = zones.enumerate().map(|(number, zone)| (format!("i{number}"), zone, number));
    let candidates = Candidates::new(&selector, instances);
    for app in route.whitelist().iter().map(|entry| entry.app.as_str()).take(4).chain(["x_im", ""]) {
        let chosen = selector.lookup(app, account, &candidates).expect("there are instances");
        let explained = selector.explain(app, account, &candidates);
        assert_eq!(explained.instance, Some(format!("i{}", chosen.item).as_str()));
        assert_eq!((explained.zone, explained.fallback), (selector.zone_name(chosen.zone), chosen.fallback));
        assert_eq!(chosen.others().count() + 1, explained.candidates.len().max(1));
    }
}

fn check_error(error: &RouteError) {
    let shown = error.to_string();
    assert!(!shown.contains(char::is_control), "not one line: {shown:?}");
    let names_line = matches!(error, RouteError::Json(_)) && shown.contains(" at line ");
    let names_key = ["zones", "whitelist", "route_by", "routeBy"].iter().any(|key| shown.starts_with(key));
    assert!(names_line || names_key, "{shown}");
}
