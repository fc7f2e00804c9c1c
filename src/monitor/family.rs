//! One metric family as Prometheus understands it: a name, its meaning, and its samples at one moment.

use prometheus::core::Desc;
use prometheus::proto::{self, MetricFamily, MetricType};

use super::counters::Totals;

/// What a family says about itself. All of them stand in one table, so that they are described once.
pub(super) struct Spec {
    /// Full name: with the prefix `gateway_`, or `x_im_` where a name of the original system is kept.
    pub(super) name: &'static str,
    /// What an operator learns from it.
    pub(super) help: &'static str,
    /// Counter, gauge or histogram.
    pub(super) kind: MetricType,
    /// Names of the labels, in the order in which values are given.
    pub(super) labels: &'static [&'static str],
}

impl Spec {
    /// The description the registry checks for conflicts.
    pub(super) fn desc(&self) -> Desc {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, std::collections::HashMap::new())
            .expect("names and labels are constants, and a test registers every one")
    }
}

/// Collects the samples of one family.
pub(super) struct Family {
    spec: &'static Spec,
    samples: Vec<proto::Metric>,
}

impl Family {
    /// A family without samples.
    pub(super) fn new(spec: &'static Spec) -> Self {
        Self { spec, samples: Vec::new() }
    }

    /// Adds one value, with the label values in the order of [`Spec::labels`].
    pub(super) fn sample(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.labelled(labels);
        match self.spec.kind {
            MetricType::COUNTER => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.samples.push(metric);
    }

    /// Adds one histogram. Its count is the sum of its buckets, so that the two agree in every scrape.
    pub(super) fn histogram<const N: usize>(&mut self, totals: &Totals<N>) {
        let mut cumulative = 0;
        let buckets = totals.bounds.iter().zip(totals.buckets).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(totals.buckets.iter().sum());
        histogram.set_sample_sum(totals.sum_seconds);
        let mut metric = self.labelled(&[]);
        metric.set_histogram(histogram);
        self.samples.push(metric);
    }

    /// The finished family.
    pub(super) fn finish(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.spec.name.to_owned());
        family.set_help(self.spec.help.to_owned());
        family.set_field_type(self.spec.kind);
        family.set_metric(self.samples);
        family
    }

    /// A sample with its labels in the order of their names, as Prometheus's own clients write them.
    fn labelled(&self, values: &[&str]) -> proto::Metric {
        debug_assert_eq!(values.len(), self.spec.labels.len(), "{}", self.spec.name);
        let mut pairs: Vec<_> = self.spec.labels.iter().zip(values).collect();
        pairs.sort();
        let pairs = pairs.into_iter().map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        proto::Metric::from_label(pairs.collect())
    }
}
