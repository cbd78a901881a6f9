//! The batches of a run, all built before it: one if all would be alike, else as many as show the
//! distributions of sizes and keys. On the hot path one is chosen and patched; nothing is built.
//!
//! Where records have keys, each partition has batches of its own, with the keys that belong to it.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;
use thalweg::record::{BATCH_HEADER_BYTES, Compression};

use super::batch::{BatchContent, BatchShape, BatchTemplate, UnbuildableBatch};
use super::stamp::STAMP_BYTES;
use crate::args::Workload;
use crate::load::schedule::Random;
use crate::workload::keys::KeySpace;

/// Memory that a pool may take if its size is left to it, bytes.
const POOL_BYTES: u64 = 64 << 20;
/// Memory that a pool may take at all.
const POOL_BYTES_MAX: u64 = 2 << 30;
/// What a prepared batch costs besides its bytes.
const BATCH_OVERHEAD_BYTES: u64 = 4096 + 512;
/// Samples that show a distribution: enough for its 99th percentile.
const SAMPLES_MIN: u32 = 1024;
/// More different places of the stamp than this are not looked at.
const PLACES_MAX: usize = 64;
/// How far off the wanted compression ratio may be.
const RATIO_SLACK: f64 = 0.05;

const SEED: u64 = 0x7468_616c_7765_6721;

/// What a pool is like; part of the report.
#[derive(Clone, Debug, Serialize)]
pub struct PoolFacts {
    /// Batches in it.
    pub batches: usize,
    /// Different keys in it.
    pub distinct_keys: usize,
    /// Mean bytes of values in a batch, as often as each is sent.
    pub value_bytes_per_batch: f64,
    /// Mean bytes of a batch as it travels.
    pub wire_bytes_per_batch: f64,
    /// Part of each value that is random.
    pub entropy: f64,
    /// How many times smaller the codec makes the records.
    pub compress_ratio: f64,
}

/// The batches of a run.
pub struct BatchPool {
    batches: Vec<BatchTemplate>,
    by_partition: Option<Vec<Range<usize>>>,
    weights: Option<Vec<f64>>,
    places: Vec<usize>,
    facts: PoolFacts,
}

impl BatchPool {
    /// Builds the batches of `workload`; the same workload gives the same bytes.
    ///
    /// # Errors
    /// Batches that cannot be, or take too much memory, or do not compress as wanted.
    pub fn build(workload: &Workload) -> Result<BatchPool, UnbuildableBatch> {
        let space = KeySpace::new(
            workload.keys,
            workload.key_count,
            workload.key_bytes,
            workload.partitions,
        );
        let mut maker =
            Maker { workload, space, random: Random::new(SEED), entropy: workload.entropy };
        if workload.compress_ratio > 0.0 {
            maker.entropy = maker.calibrated()?;
        }
        let groups = if maker.space.is_some() { workload.partitions as usize } else { 1 };
        let each = batches_each(workload, groups as u64)?;
        let (mut batches, mut ranges, mut keys) = (Vec::new(), Vec::new(), BTreeSet::new());
        for group in 0..groups {
            let from = batches.len();
            for content in maker.contents(group, each) {
                batches.push(BatchTemplate::of(&content)?);
                keys.extend(content.keys);
            }
            ranges.push(from..batches.len());
        }
        let weight = |group: usize| maker.space.as_ref().map_or(1.0, |space| space.weight(group));
        let mean = |of: &dyn Fn(&BatchTemplate) -> f64| -> f64 {
            let groups = ranges.iter().enumerate().filter(|(_, range)| !range.is_empty());
            let of_group = |range: &Range<usize>| {
                batches[range.clone()].iter().map(of).sum::<f64>() / range.len() as f64
            };
            groups.map(|(group, range)| weight(group) * of_group(range)).sum()
        };
        let mut places: BTreeSet<usize> = BTreeSet::new();
        let stamped = batches.iter().all(|batch| {
            batch.stamp_at().is_some_and(|at| {
                places.insert(at);
                places.len() <= PLACES_MAX
            })
        });
        let facts = PoolFacts {
            batches: batches.len(),
            distinct_keys: keys.len(),
            value_bytes_per_batch: mean(&|batch| batch.value_bytes() as f64),
            wire_bytes_per_batch: mean(&|batch| batch.bytes().len() as f64),
            entropy: maker.entropy,
            compress_ratio: maker.ratio(maker.entropy)?,
        };
        let weights = maker.space.as_ref().map(|_| (0..groups).map(weight).collect());
        Ok(BatchPool {
            by_partition: maker.space.is_some().then_some(ranges),
            weights,
            places: if stamped { places.into_iter().collect() } else { Vec::new() },
            batches,
            facts,
        })
    }

    /// All batches.
    #[must_use]
    pub fn batches(&self) -> &[BatchTemplate] {
        &self.batches
    }

    /// Which of them may be sent to `partition` of a topic; none if no key belongs there.
    #[must_use]
    pub fn of_partition(&self, partition: i32) -> Range<usize> {
        let Some(ranges) = &self.by_partition else { return 0..self.batches.len() };
        usize::try_from(partition).ok().and_then(|at| ranges.get(at)).cloned().unwrap_or_default()
    }

    /// The part of all requests that `partition` of a topic gets, where keys decide that.
    #[must_use]
    pub fn weight(&self, partition: i32) -> Option<f64> {
        let weights = self.weights.as_ref()?;
        Some(usize::try_from(partition).ok().and_then(|at| weights.get(at)).copied().unwrap_or(0.0))
    }

    /// Where stamps may lie in a batch; none if some batches have no room for one, or their codec
    /// hides it. Then end-to-end latency comes from timestamps, in ms.
    #[must_use]
    pub fn stamp_places(&self) -> &[usize] {
        &self.places
    }

    /// What it is like.
    #[must_use]
    pub fn facts(&self) -> &PoolFacts {
        &self.facts
    }

    /// The shape of the batches of verify mode, where all sizes are one.
    #[must_use]
    pub fn verify_shape(&self, workload: &Workload) -> BatchShape {
        BatchShape {
            records: workload.batch_records,
            record_bytes: workload.record_bytes.fixed().unwrap_or_default(),
            compression: workload.compression,
            level: workload.compression_level,
            entropy: self.facts.entropy,
        }
    }
}

/// How many batches each of `groups` gets.
fn batches_each(workload: &Workload, groups: u64) -> Result<u64, UnbuildableBatch> {
    let records = u64::from(workload.batch_records.max(1));
    let record_bytes = workload.record_bytes.mean() + workload.key_bytes as f64;
    let batch_bytes = (record_bytes * records as f64) as u64 + BATCH_OVERHEAD_BYTES;
    let varied = workload.record_bytes.fixed().is_none() || groups > 1;
    let each = match u64::from(workload.pool_batches) {
        0 if !varied && workload.keys == crate::workload::keys::Keys::None => 1,
        0 => {
            let wanted = u64::from(SAMPLES_MIN).div_ceil(records).max(16);
            wanted.min(POOL_BYTES / (groups * batch_bytes).max(1)).max(1)
        }
        chosen => chosen,
    };
    let all_bytes = each.saturating_mul(groups).saturating_mul(batch_bytes);
    if all_bytes > POOL_BYTES_MAX {
        return Err(UnbuildableBatch(format!(
            "{} prebuilt batches of {batch_bytes} bytes each take {} MiB, more than {}: fewer \
             --partitions (each has batches of its own if there are --keys), smaller batches, or \
             fewer --pool-batches",
            each * groups,
            all_bytes >> 20,
            POOL_BYTES_MAX >> 20
        )));
    }
    Ok(each)
}

/// Makes the contents of batches, in order.
struct Maker<'a> {
    workload: &'a Workload,
    space: Option<KeySpace>,
    random: Random,
    entropy: f64,
}

impl Maker<'_> {
    /// `count` batches of `group`; none if no key belongs to it.
    fn contents(&mut self, group: usize, count: u64) -> Vec<BatchContent> {
        if self.space.as_ref().is_some_and(|space| space.count(group) == 0) {
            return Vec::new();
        }
        let records = self.workload.batch_records as usize;
        let mut sizes = self.sizes(records * count as usize);
        let batches = sizes.chunks_mut(records).enumerate().map(|(idx, values)| {
            // The stamp is in the first record: the first that has room goes there.
            if let Some(roomy) = values.iter().position(|&len| len >= STAMP_BYTES) {
                values.swap(0, roomy);
            }
            BatchContent {
                values: values.to_vec(),
                keys: Vec::new(),
                compression: self.workload.compression,
                level: self.workload.compression_level,
                entropy: self.entropy,
                seed: SEED.wrapping_add((group as u64) << 32 | idx as u64),
            }
        });
        let mut contents: Vec<BatchContent> = batches.collect();
        for content in &mut contents {
            content.keys = self.keys(group, records);
        }
        contents
    }

    /// One sample from each of `count` slices of equal probability, in any order.
    fn sizes(&mut self, count: usize) -> Vec<usize> {
        let sizes = &self.workload.record_bytes;
        if let Some(bytes) = sizes.fixed() {
            return vec![bytes; count];
        }
        let random = &mut self.random;
        let sample = |slice: usize| sizes.quantile((slice as f64 + random.unit()) / count as f64);
        let mut all: Vec<usize> = (0..count).map(sample).collect();
        self.random.shuffle(&mut all);
        all
    }

    fn keys(&mut self, group: usize, count: usize) -> Vec<Vec<u8>> {
        let Some(space) = &mut self.space else { return Vec::new() };
        let random = &mut self.random;
        let drawn = (0..count).filter_map(|_| {
            let key = space.draw(group, random)?;
            let mut bytes = Vec::new();
            space.put(&mut bytes, key);
            Some(bytes)
        });
        drawn.collect()
    }

    /// How many times smaller the codec makes a batch's records at `entropy`. The keys of a batch
    /// hardly matter for it and are left out.
    fn ratio(&self, entropy: f64) -> Result<f64, UnbuildableBatch> {
        if self.workload.compression == Compression::None {
            return Ok(1.0);
        }
        let records = self.workload.batch_records as usize;
        let slice = |idx: usize| (idx as f64 + 0.5) / records as f64;
        let mut content = BatchContent {
            values: (0..records)
                .map(|idx| self.workload.record_bytes.quantile(slice(idx)))
                .collect(),
            keys: Vec::new(),
            compression: self.workload.compression,
            level: self.workload.compression_level,
            entropy,
            seed: SEED,
        };
        let packed = BatchTemplate::of(&content)?.bytes().len() - BATCH_HEADER_BYTES;
        (content.compression, content.level) = (Compression::None, None);
        let plain = BatchTemplate::of(&content)?.bytes().len() - BATCH_HEADER_BYTES;
        Ok(plain as f64 / packed.max(1) as f64)
    }

    /// The entropy that gives the wanted ratio.
    fn calibrated(&self) -> Result<f64, UnbuildableBatch> {
        let wanted = self.workload.compress_ratio;
        if self.workload.compression == Compression::None {
            return Ok(1.0 / wanted); // the broker's codec, or the disk's, may see it
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..16 {
            let middle = (low + high) / 2.0;
            if self.ratio(middle)? > wanted { low = middle } else { high = middle }
        }
        let found = self.ratio(high)?;
        if (found / wanted - 1.0).abs() > RATIO_SLACK {
            return Err(UnbuildableBatch(format!(
                "--compress-ratio {wanted} is out of reach: {} makes {} such records {:.2} to {:.2} \
                 times smaller",
                self.workload.compression.name(),
                self.workload.batch_records,
                self.ratio(1.0)?,
                self.ratio(0.0)?,
            )));
        }
        Ok(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::file::parse;
    use crate::workload::keys::partition_of;
    use thalweg::record::{records, stored_batches};

    fn pool(text: &str) -> BatchPool {
        try_pool(text).expect("a pool")
    }

    fn try_pool(text: &str) -> Result<BatchPool, UnbuildableBatch> {
        BatchPool::build(&parse(text).expect("a workload").remove(0).settled())
    }

    /// Keys and value lengths of a batch, read by the broker library's own reader.
    fn opened(batch: &BatchTemplate) -> Vec<(Option<Vec<u8>>, usize)> {
        let batch = stored_batches(batch.bytes()).next().expect("one").expect("whole");
        let mut opened = records(batch, 1 << 28).expect("opens");
        let mut found = Vec::new();
        while let Some(record) = opened.next_record() {
            let record = record.expect("a record");
            found.push((record.key().map(<[u8]>::to_vec), record.value().map_or(0, <[u8]>::len)));
        }
        found
    }

    #[test]
    fn batches_that_would_be_alike_are_one() {
        let pool = pool("record_bytes = 1000");
        assert_eq!((pool.batches().len(), pool.of_partition(7)), (1, 0..1));
        assert_eq!(pool.facts().value_bytes_per_batch, 100_000.0);
        assert_eq!(pool.stamp_places().len(), 1);
        assert_eq!(pool.weight(0), None);
    }

    #[test]
    fn a_pool_shows_the_distribution_of_sizes() {
        for sizes in
            ["uniform:100..5000", "normal:1000,300", "lognormal:800,0.8", "weighted:50=3,3000=1"]
        {
            let pool = pool(&format!("record_bytes = \"{sizes}\"\nbatch_records = 20"));
            let mut found: Vec<usize> =
                pool.batches().iter().flat_map(opened).map(|(_, len)| len).collect();
            assert!(found.len() >= 1024, "{}", found.len());
            found.sort_unstable();
            let sizes: crate::workload::sizes::RecordBytes = sizes.parse().expect("sizes");
            // The sample of rank k lies in slice k: between the quantiles of its two ends.
            for (rank, &len) in found.iter().enumerate() {
                let end = |at: usize| {
                    sizes.quantile((at as f64 / found.len() as f64).clamp(1e-9, 1.0 - 1e-9))
                };
                assert!((end(rank)..=end(rank + 1)).contains(&len), "{sizes} {rank}: {len}");
            }
            let mean = pool.facts().value_bytes_per_batch / 20.0;
            assert!((mean / sizes.mean() - 1.0).abs() < 0.01, "{sizes}: {mean}");
        }
    }

    #[test]
    fn each_partition_gets_the_keys_that_belong_to_it_and_its_part_of_the_load() {
        let pool = pool(
            "keys = \"zipf\"\nkey_count = 500\npartitions = 6\nbatch_records = 10\nrecord_bytes = 50",
        );
        let mut all = 0.0;
        for partition in 0..6 {
            let batches = pool.of_partition(partition);
            assert!(!batches.is_empty());
            for batch in &pool.batches()[batches] {
                for (key, len) in opened(batch) {
                    let key = key.expect("a key");
                    assert_eq!((key.len(), len), (8, 50));
                    assert_eq!(partition_of(&key, 6), partition as u32);
                }
            }
            all += pool.weight(partition).expect("keys decide");
        }
        assert!((all - 1.0).abs() < 1e-9);
        assert!(pool.facts().distinct_keys > 300, "{}", pool.facts().distinct_keys);
    }

    #[test]
    fn a_partition_that_no_key_belongs_to_gets_nothing() {
        let pool = pool("keys = \"uniform\"\nkey_count = 2\npartitions = 50\nbatch_records = 1");
        let empty = (0..50).filter(|&it| pool.of_partition(it).is_empty()).count();
        assert!(empty >= 48);
        assert!(
            (0..50).all(|it| pool.of_partition(it).is_empty() == (pool.weight(it) == Some(0.0)))
        );
    }

    #[test]
    fn the_codec_compresses_as_many_times_as_was_asked_for() {
        for codec in ["gzip", "snappy", "lz4", "zstd"] {
            for wanted in [1.5, 4.0] {
                let text = format!(
                    "compression = \"{codec}\"\ncompress_ratio = {wanted}\nrecord_bytes = 1000"
                );
                let facts = pool(&text).facts().clone();
                let found = facts.value_bytes_per_batch / facts.wire_bytes_per_batch;
                assert!((found / wanted - 1.0).abs() < 0.07, "{codec} {wanted}: {found}");
            }
        }
        let beyond = try_pool(
            "compression = \"lz4\"\ncompress_ratio = 500\nrecord_bytes = 20\nbatch_records = 1",
        );
        let error = beyond.err().expect("out of reach").to_string();
        assert!(error.contains("--compress-ratio 500") && error.contains("lz4"), "{error}");
    }

    #[test]
    fn the_same_workload_gives_the_same_bytes() {
        let text = "keys = \"uniform\"\nrecord_bytes = \"uniform:10..90\"\npartitions = 3\nbatch_records = 4";
        let (one, two) = (pool(text), pool(text));
        assert!(one.batches().iter().zip(two.batches()).all(|(a, b)| a.bytes() == b.bytes()));
    }

    #[test]
    fn stamps_of_varied_batches_are_found_again_at_one_of_few_places() {
        let varied = pool("record_bytes = \"lognormal:500,1\"\nbatch_records = 5");
        assert!(!varied.stamp_places().is_empty() && varied.stamp_places().len() <= 6);
        // Records without room for a stamp: timestamps have to do.
        assert!(pool("record_bytes = \"uniform:1..15\"").stamp_places().is_empty());
    }

    #[test]
    fn a_pool_beyond_all_memory_is_refused() {
        let text =
            "keys = \"uniform\"\npartitions = 10000\nrecord_bytes = \"1MiB\"\nkey_count = 100000";
        let error = try_pool(text).err().expect("too large").to_string();
        assert!(error.contains("--partitions"), "{error}");
    }
}
