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

/// With id, zone and what is chosen.
fn instances(count: usize) -> Vec<(String, &'static str, usize)> {
    (0..count).map(|number| (format!("i{number}"), ["a", "b", "c"][number % 3], number)).collect()
}

#[divan::bench(args = INSTANCES)]
fn lookup(bencher: Bencher<'_, '_>, count: usize) {
    let selector = selector();
    let candidates = Candidates::new(&selector, instances(count));
    bencher.bench_local(|| {
        selector.lookup(black_box("x_im"), black_box("alice"), &candidates).map(|choice| *choice.item)
    });
}

/// Whenever an instance comes or goes.
#[divan::bench(args = INSTANCES)]
fn new_candidates(bencher: Bencher<'_, '_>, count: usize) {
    let selector = selector();
    let new = |instances| Candidates::new(&selector, instances);
    bencher.with_inputs(|| instances(count)).bench_local_values(new);
}
