//! A push to many channels: read, and put into the queue of each, encoded once. Its parts are private: without the
//! feature `internals` nothing is measured here.

#[cfg(feature = "internals")]
use divan::{Bencher, counter::ItemsCount};
#[cfg(feature = "internals")]
use gateway::internals::push_fan_out::PushFanOut;

#[cfg(feature = "internals")]
#[divan::bench(args = [1, 10, 1000])]
fn fan_out(bencher: Bencher<'_, '_>, channels: usize) {
    let fan_out = PushFanOut::new(channels, 100);
    // The queues are emptied outside of the measured time.
    bencher
        .counter(ItemsCount::new(channels))
        .with_inputs(|| fan_out.drain())
        .bench_local_values(|_| fan_out.deliver());
}
