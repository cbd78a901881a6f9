//! What one load core saw in one interval: counters and histograms. Made and filled by one core,
//! sent by value to the collector, merged there; percentiles are computed from merged histograms
//! only, never averaged.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that a histogram tells apart; longer ones count as this long.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Three significant digits: a reported percentile is at most 0.1 % off.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty latency histogram (ns).
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
        .unwrap_or_else(|_| unreachable!("the bounds are constants and valid"))
}

/// Which error: the API that was answered with it (or `client`) and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorKey {
    /// `Produce`, `Fetch`, or `connection`.
    pub api: &'static str,
    /// Kafka's name of the error, or what went wrong with the connection.
    pub name: String,
}

/// Latencies of one interval, all in ns, one sample for each request (not for each record).
pub struct Latencies {
    /// From the intended send time to the acknowledgement: the headline.
    pub response: Histogram<u64>,
    /// From the actual send to the acknowledgement: what a closed-loop tool would report.
    pub service: Histogram<u64>,
    /// From the intended to the actual send: waiting for a place in the window and for the core.
    pub delay: Histogram<u64>,
    /// From the intended send time to the arrival at a consumer.
    pub end_to_end: Histogram<u64>,
    /// From asking for a transaction's commit to the coordinator's word; one sample each.
    pub commit: Histogram<u64>,
    /// What only some workloads have, by name: `connect` and `first_request` of churned connections,
    /// `rebalance` and `member_pause` of a group.
    pub more: BTreeMap<&'static str, Histogram<u64>>,
}

impl Latencies {
    /// Each histogram with its name in logs.
    #[must_use]
    pub fn tagged(&self) -> Vec<(&'static str, &Histogram<u64>)> {
        let mut all = vec![
            ("publish", &self.response),
            ("service", &self.service),
            ("delay", &self.delay),
            ("end_to_end", &self.end_to_end),
            ("commit", &self.commit),
        ];
        all.extend(self.more.iter().map(|(&name, histogram)| (name, histogram)));
        all
    }

    /// The latencies of this name.
    pub fn more(&mut self, name: &'static str) -> &mut Histogram<u64> {
        self.more.entry(name).or_insert_with(latency_histogram)
    }

    /// The same, to be filled.
    pub fn tagged_mut(&mut self) -> [(&'static str, &mut Histogram<u64>); 5] {
        [
            ("publish", &mut self.response),
            ("service", &mut self.service),
            ("delay", &mut self.delay),
            ("end_to_end", &mut self.end_to_end),
            ("commit", &mut self.commit),
        ]
    }
}

/// Counters of one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests that left.
    pub sent_requests: u64,
    /// Of these, how many left over 1 ms later than they could have, by the generator's own fault.
    pub late_requests: u64,
    /// Requests acknowledged without error.
    pub acked_requests: u64,
    /// Records in them.
    pub acked_records: u64,
    /// Bytes of record values in them.
    pub acked_value_bytes: u64,
    /// Bytes of whole Produce frames in them.
    pub acked_wire_bytes: u64,
    /// Requests answered with an error or lost with their connection.
    pub failed_requests: u64,
    /// Arrivals that were due but had not left when the run ended.
    pub unsent_requests: u64,
    /// Requests without an answer when the run's grace was over.
    pub unanswered_requests: u64,
    /// Answers to Fetch, empty ones too.
    pub fetches: u64,
    /// Of these, how many brought nothing.
    pub empty_fetches: u64,
    /// Batches fetched.
    pub fetched_batches: u64,
    /// Records in them.
    pub fetched_records: u64,
    /// Bytes of whole batches fetched.
    pub fetched_bytes: u64,
    /// Connections that were opened, used once and closed.
    pub churned_connections: u64,
    /// Rebalances of a group that came to their end.
    pub rebalances: u64,
    /// Offsets skipped between two batches of a partition (retention, or loss).
    pub offset_gaps: u64,
    /// Transactions committed.
    pub committed_transactions: u64,
    /// Transactions aborted on purpose.
    pub aborted_transactions: u64,
    /// Transactions aborted because something in them failed.
    pub failed_transactions: u64,
    /// Time the core had work, ns.
    pub busy_ns: u64,
    /// Time the core had none, ns.
    pub idle_ns: u64,
    /// CPU that the core's work took: its thread's CPU time without spinning, ns.
    pub work_cpu_ns: u64,
    /// The core's longest turn: how long a due send may have had to wait, ns.
    pub gap_ns_max: u64,
}

impl Counters {
    /// Adds `other`.
    pub fn merge(&mut self, other: &Counters) {
        self.sent_requests += other.sent_requests;
        self.late_requests += other.late_requests;
        self.acked_requests += other.acked_requests;
        self.acked_records += other.acked_records;
        self.acked_value_bytes += other.acked_value_bytes;
        self.acked_wire_bytes += other.acked_wire_bytes;
        self.failed_requests += other.failed_requests;
        self.unsent_requests += other.unsent_requests;
        self.unanswered_requests += other.unanswered_requests;
        self.fetches += other.fetches;
        self.empty_fetches += other.empty_fetches;
        self.fetched_batches += other.fetched_batches;
        self.fetched_records += other.fetched_records;
        self.fetched_bytes += other.fetched_bytes;
        self.churned_connections += other.churned_connections;
        self.rebalances += other.rebalances;
        self.offset_gaps += other.offset_gaps;
        self.committed_transactions += other.committed_transactions;
        self.aborted_transactions += other.aborted_transactions;
        self.failed_transactions += other.failed_transactions;
        self.busy_ns += other.busy_ns;
        self.idle_ns += other.idle_ns;
        self.work_cpu_ns += other.work_cpu_ns;
        self.gap_ns_max = self.gap_ns_max.max(other.gap_ns_max);
    }
}

/// Everything of one interval.
pub struct Tally {
    /// Counters.
    pub counters: Counters,
    /// Histograms.
    pub latencies: Latencies,
    /// Errors by API and name.
    pub errors: BTreeMap<ErrorKey, u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::new()
    }
}

impl Tally {
    /// Nothing seen.
    #[must_use]
    pub fn new() -> Tally {
        Tally {
            counters: Counters::default(),
            latencies: Latencies {
                response: latency_histogram(),
                service: latency_histogram(),
                delay: latency_histogram(),
                end_to_end: latency_histogram(),
                commit: latency_histogram(),
                more: BTreeMap::new(),
            },
            errors: BTreeMap::new(),
        }
    }

    /// Counts an error.
    pub fn count_error(&mut self, api: &'static str, name: impl Into<String>) {
        *self.errors.entry(ErrorKey { api, name: name.into() }).or_default() += 1;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Tally) {
        self.counters.merge(&other.counters);
        for (into, from) in [
            (&mut self.latencies.response, &other.latencies.response),
            (&mut self.latencies.service, &other.latencies.service),
            (&mut self.latencies.delay, &other.latencies.delay),
            (&mut self.latencies.end_to_end, &other.latencies.end_to_end),
            (&mut self.latencies.commit, &other.latencies.commit),
        ] {
            into.add(from).unwrap_or_else(|_| unreachable!("equal bounds"));
        }
        for (&name, from) in &other.latencies.more {
            let into = self.latencies.more(name);
            into.add(from).unwrap_or_else(|_| unreachable!("equal bounds"));
        }
        for (key, count) in &other.errors {
            *self.errors.entry(key.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_percentiles_come_from_all_samples_not_from_averages() {
        let mut quiet = Tally::new();
        let mut stalled = Tally::new();
        for _ in 0..990 {
            quiet.latencies.response.saturating_record(1_000);
        }
        for _ in 0..10 {
            stalled.latencies.response.saturating_record(1_000_000);
        }
        quiet.merge(&stalled);
        let merged = &quiet.latencies.response;
        assert_eq!(merged.len(), 1000);
        // An average of the two p50 would be 500 us.
        assert!(merged.value_at_quantile(0.5) < 1_010);
        assert!(merged.value_at_quantile(0.995) > 999_000);
    }

    #[test]
    fn counters_and_errors_add_up() {
        let mut one = Tally::new();
        one.counters.acked_records = 3;
        one.counters.gap_ns_max = 5;
        one.count_error("Produce", "NOT_LEADER_OR_FOLLOWER");
        let mut two = Tally::new();
        two.counters.acked_records = 4;
        two.counters.gap_ns_max = 2;
        two.count_error("Produce", "NOT_LEADER_OR_FOLLOWER");
        two.count_error("connection", "closed by the broker");
        one.merge(&two);
        assert_eq!((one.counters.acked_records, one.counters.gap_ns_max), (7, 5));
        assert_eq!(one.errors.values().copied().collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let mut histogram = latency_histogram();
        histogram.saturating_record(u64::MAX);
        assert!(histogram.max() >= LATENCY_NS_MAX);
    }
}
