//! From app and account to the instance.

use divan::{Bencher, black_box};
use gateway::dispatch::selector::{Candidates, RouteSelector};
use gateway::route::Route;

/// Instances of the service, spread over three zones.
const INSTANCES: [usize; 3] = [1, 10, 1000];

fn selector() -> RouteSelector {
    let route = r#"{"zones": [{"id": "a", "weight": 80}, {"id": "b", "weight": 10}, {"id": "c", "weight": 10}],
                    "whitelist": [{"key": "other", "value": "c"}]}"#;
    RouteSelector::new(&Route::from_json(route).expect("it is a route"))
}

fn candidates(selector: &RouteSelector, instances: usize) -> Candidates<usize> {
    let zone = |number: usize| ["a", "b", "c"][number % 3];
    Candidates::new(selector, (0..instances).map(|number| (format!("i{number}"), zone(number), number)))
}

#[divan::bench(args = INSTANCES)]
fn lookup(bencher: Bencher<'_, '_>, instances: usize) {
    let selector = selector();
    let candidates = candidates(&selector, instances);
    bencher.bench_local(|| {
        selector.lookup(black_box("x_im"), black_box("alice"), &candidates).map(|choice| *choice.item)
    });
}

/// Whenever an instance comes or goes.
#[divan::bench(args = INSTANCES)]
fn new_candidates(bencher: Bencher<'_, '_>, instances: usize) {
    let selector = selector();
    bencher.bench_local(|| candidates(&selector, black_box(instances)));
}
