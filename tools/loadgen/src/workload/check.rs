//! What a workload cannot be, whatever the broker.

use thalweg::record::Compression;

use super::Workload;
use super::keys::{Keys, digits};
use super::sizes::VALUE_BYTES_MAX;
use crate::args::Acks;
use crate::units::Rate;
use crate::wire::mark::MARK_BYTES;

/// Partitions of all topics of a run.
const PARTITIONS_MAX: u64 = 100_000;
/// The sampler holds each key.
const KEYS_MAX: u32 = 10_000_000;
const GROUP_MAX: u32 = 1000;
const CHURN_MAX: f64 = 100_000.0;

impl Workload {
    /// The first thing that is wrong with it, as a sentence; flags are named as people type them.
    #[must_use]
    pub fn flaw(&self) -> Option<String> {
        let found = self.flaw_of_shape().or_else(|| self.flaw_of_records());
        let found = found.or_else(|| self.flaw_of_verify()).or_else(|| self.flaw_of_modes());
        let found = found.or_else(|| self.flaw_of_transactions());
        found.map(str::to_owned).or_else(|| self.flaw_of_level())
    }

    fn flaw_of_shape(&self) -> Option<&'static str> {
        let partitions = u64::from(self.topics) * u64::from(self.partitions);
        let idle = self.producers == 0 && self.consumers == 0 && self.churn == 0.0;
        if idle && !self.has_group() {
            Some("there is nothing to do: no producers, no consumers, no churn, no rebalances")
        } else if self.producers > 0 && self.in_flight == 0 {
            Some("--in-flight must be 1 or more")
        } else if partitions == 0 || partitions > PARTITIONS_MAX {
            Some("--topics times --partitions must be 1 to 100000")
        } else if self.idempotent && self.acks != Acks::All {
            Some("--idempotent needs --acks all")
        } else if self.idempotent && self.in_flight > 5 {
            Some("--idempotent allows at most 5 requests in flight (KIP-98)")
        } else if self.duration.is_zero() {
            Some("--duration must be above zero")
        } else if self.rates().iter().skip(1).any(|step| step.rate == Rate::Max) {
            Some("--steps need rates, not `max`")
        } else {
            None
        }
    }

    fn flaw_of_records(&self) -> Option<&'static str> {
        if self.producers == 0 {
            return None;
        }
        if self.record_bytes.fixed().is_some_and(|bytes| bytes == 0 || bytes > VALUE_BYTES_MAX) {
            Some("--record-bytes must be 1 to 64MiB")
        } else if self.batch_records == 0 {
            Some("--batch-records must be 1 or more")
        } else if !(0.0..=1.0).contains(&self.entropy) {
            Some("--entropy must be 0 to 1")
        } else if self.compress_ratio != 0.0 && !(1.0..=1000.0).contains(&self.compress_ratio) {
            Some("--compress-ratio must be 1 to 1000, or 0 for none")
        } else if self.keys == Keys::None {
            None
        } else if self.key_count == 0 || self.key_count > KEYS_MAX {
            Some("--key-count must be 1 to 10000000")
        } else if self.key_bytes < digits(self.key_count) || self.key_bytes > 1024 {
            Some("--key-bytes must be at most 1024 and hold --key-count as hexadecimal digits")
        } else {
            None
        }
    }

    fn flaw_of_verify(&self) -> Option<&'static str> {
        if !self.verify {
            None
        } else if self.consumers == 0 || self.producers == 0 {
            Some("--verify needs producers and consumers")
        } else if self.record_bytes.fixed().is_none_or(|bytes| bytes < MARK_BYTES) {
            Some("--verify needs a fixed --record-bytes of 28 or more")
        } else if self.keys != Keys::None {
            Some("--verify numbers the records of each partition: it needs --keys none")
        } else if self.fan_out > 1 {
            Some("--verify follows one reader: it needs --fan-out 1")
        } else if self.acks == Acks::None {
            Some("--verify needs acknowledgements: --acks all or 1")
        } else {
            None
        }
    }

    fn flaw_of_transactions(&self) -> Option<&'static str> {
        if !self.transactional {
            let unused = self.txn_batches > 0 || self.txn_abort_every > 0;
            unused.then_some("--txn-batches and --txn-abort-every need --transactional")
        } else if self.producers == 0 {
            Some("--transactional needs producers")
        } else if self.acks != Acks::All {
            Some("--transactional needs --acks all")
        } else if self.in_flight > 5 {
            Some("--transactional allows at most 5 requests in flight (KIP-98)")
        } else if self.txn_duration.is_zero() {
            Some("--txn-duration must be above zero")
        } else {
            None
        }
    }

    fn flaw_of_level(&self) -> Option<String> {
        let level = self.compression_level?;
        let (name, known) = match self.compression {
            Compression::Gzip => ("gzip", 1..=9),
            Compression::Zstd => ("zstd", -131_072..=22),
            other => return Some(format!("{} has no levels here", other.name())),
        };
        (!known.contains(&level))
            .then(|| format!("{name} has the levels {} to {}", known.start(), known.end()))
    }

    fn flaw_of_modes(&self) -> Option<&'static str> {
        if self.fan_out == 0 {
            Some("--fan-out must be 1 or more")
        } else if self.fan_out > 1 && self.consumers == 0 {
            Some("--fan-out needs --consumers of 1 or more: so many has each reader")
        } else if self.backlog > 0 && (self.consumers == 0 || self.producers == 0) {
            Some("--backlog needs producers, which build it, and consumers, which read it")
        } else if self.backlog > 0 && self.acks == Acks::None {
            Some("--backlog needs acknowledgements, which say how long it is: --acks all or 1")
        } else if self.backlog > 0 && self.steps.len() > 1 {
            Some("--backlog and --steps both divide the run into parts: choose one")
        } else if self.has_group() && !(1..=GROUP_MAX).contains(&self.group_members) {
            Some("--group-members must be 1 to 1000")
        } else if self.has_group() && self.heartbeat.is_zero() {
            Some("--heartbeat must be above zero")
        } else if !(0.0..=CHURN_MAX).contains(&self.churn) {
            Some("--churn must be 0 to 100000 connections a second")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::parse;

    #[test]
    fn what_cannot_be_is_refused_with_the_flag_that_is_wrong() {
        for (text, word) in [
            ("producers = 0", "nothing to do"),
            ("topics = 1000\npartitions = 1000", "--partitions"),
            ("idempotent = true\nacks = 1", "--acks all"),
            ("record_bytes = 0", "--record-bytes"),
            ("entropy = 1.5", "--entropy"),
            ("keys = \"uniform\"\nkey_bytes = 2\nkey_count = 257", "--key-bytes"),
            ("verify = true\nconsumers = 1\nrecord_bytes = \"uniform:100..200\"", "--verify"),
            ("verify = true\nconsumers = 1\nkeys = \"uniform\"", "--keys none"),
            ("fan_out = 3", "--consumers"),
            ("transactional = true\nacks = 1", "--acks all"),
            ("txn_batches = 5", "--transactional"),
            ("compression = \"lz4\"\ncompression_level = 3", "lz4 has no levels"),
            ("compression = \"gzip\"\ncompression_level = 10", "1 to 9"),
            ("backlog = \"1GB\"", "--backlog"),
            ("churn = -1.0", "--churn"),
            ("rebalance_every = \"1s\"\ngroup_members = 0", "--group-members"),
            ("steps = [\"1MB/s:1s\", \"2MB/s:1s\"]\nbacklog = 1\nconsumers = 1", "--steps"),
        ] {
            let workload = parse(text).expect("reads").remove(0).settled();
            let flaw = workload.flaw().unwrap_or_default();
            assert!(flaw.contains(word), "{text}: {flaw}");
        }
    }
}
