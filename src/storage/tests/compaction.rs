//! What compaction keeps and what it takes, record by record, and that no crash in the middle of it
//! loses a record that is the last of its key.

mod crash;

use std::collections::HashMap;

use super::super::{Compaction, CompactionConfig, CompactionProgress};
use super::*;
use crate::record::{StoredBatch, records};

const DAY_MS: i64 = 24 * 3600 * 1000;
const CODECS: [Compression; 5] = Compression::ALL;

fn compacted(segment_bytes: u64, compaction: CompactionConfig) -> LogConfig {
    LogConfig {
        segment_bytes,
        retention_ms: -1,
        file_delete_delay_ms: 0,
        compaction: Some(compaction),
        ..LogConfig::default()
    }
}

/// Compacts whatever is closed.
fn eager() -> CompactionConfig {
    CompactionConfig { min_dirty_ratio: 0.0, ..CompactionConfig::default() }
}

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn seen(batches: &[Bytes]) -> Vec<Seen> {
    let mut all = Vec::new();
    for bytes in batches {
        let (batch, _) = StoredBatch::split_first(bytes).expect("whole");
        let mut walk = records(batch, 1 << 20).expect("readable");
        while let Some(record) = walk.next_record() {
            let record = record.expect("readable");
            all.push(Seen {
                offset: record.offset().0,
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
            });
        }
    }
    all
}

/// Runs a pass to its end; says what became of it.
fn run(store: &Store, pass: &mut Compaction) -> Result<(), Option<StorageError>> {
    loop {
        match block_on(store.compact_a_little(pass)).expect("the disk is sound") {
            CompactionProgress::Step(step) if step.is_over => return Ok(()),
            CompactionProgress::Step(_) => {}
            CompactionProgress::GaveUp(why) => return Err(why),
        }
    }
}

struct Bench {
    home: Home,
    disk: Rc<crate::io::sim_disk::SimDisk>,
    store: Rc<Store>,
    log: Rc<RefCell<Log>>,
    sent: Vec<Seen>,
}

impl Bench {
    fn new(config: LogConfig) -> Bench {
        let (home, disk) = Home::simulated(small_config());
        home.live(tp(1, 0), config);
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        Bench { home, disk, store, log, sent: Vec::new() }
    }

    fn reopen(&mut self) {
        self.store = self.home.open();
        self.log = self.home.log(&self.store, tp(1, 0));
    }

    fn now_ms(&self) -> i64 {
        self.home.clock.wall_ms()
    }

    fn append_batch(&mut self, batch: &RecordBatch) -> Offset {
        let done = self.log.borrow_mut().append(self.store.journal(), batch, leader(0));
        commit(&self.store);
        background(&self.store).expect("background");
        done.base_offset
    }

    /// Appends records of these keys and values, as one batch.
    fn append(&mut self, codec: Compression, records: &[(&str, Option<&str>)]) -> Offset {
        let now_ms = self.now_ms();
        let mut builder = BatchBuilder::new(codec, now_ms);
        for (key, value) in records {
            builder.append(now_ms, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
        }
        let base = self.append_batch(&builder.build_batch().expect("build"));
        for ((key, value), offset) in records.iter().zip(base.0..) {
            self.sent.push(Seen {
                offset,
                timestamp: now_ms,
                key: Some(key.as_bytes().to_vec()),
                value: value.map(|value| value.as_bytes().to_vec()),
            });
        }
        base
    }

    /// Makes everything so far part of closed segments: fills the current one with other keys.
    fn close_segment(&mut self) {
        let mut builder = BatchBuilder::new(Compression::None, self.now_ms());
        let filler = vec![b'f'; 20_000];
        builder.append(self.now_ms(), Some(b"filler"), Some(&filler), &[]);
        let batch = builder.build_batch().expect("build");
        for _ in 0..2 {
            let end = self.log.borrow().segment_end();
            let base = self.append_batch(&batch);
            while self.log.borrow().segment_end() <= end {
                block_on(self.store.checkpoint()).expect("checkpoint");
                let log = &self.log;
                block_on(super::super::segment::write_extent(
                    self.store.files(),
                    log,
                    self.now_ms(),
                ))
                .expect("write");
            }
            self.sent.push(Seen {
                offset: base.0,
                timestamp: self.now_ms(),
                key: Some(b"filler".to_vec()),
                value: Some(filler.clone()),
            });
        }
    }

    fn pass(&self) -> Option<Compaction> {
        let end = self.log.borrow().written_end();
        self.store.begin_compaction(tp(1, 0), end, 1 << 20)
    }

    fn need(&self) -> Option<f64> {
        let log = self.log.borrow();
        log.compaction_need(log.written_end(), self.home.clock.now())
    }

    fn compact(&self) {
        run(&self.store, &mut self.pass().expect("something is closed")).expect("to its end");
    }

    fn batches(&self) -> Vec<Bytes> {
        read_all(&self.log, Offset(0), 30_000)
    }

    /// Offsets of what is left, but for the fillers.
    fn offsets(&self) -> Vec<i64> {
        let found = seen(&self.batches());
        for record in &found {
            assert!(self.sent.contains(record), "{record:?} was never sent so");
        }
        let mine = found.iter().filter(|it| it.key.as_deref() != Some(b"filler"));
        mine.map(|record| record.offset).collect()
    }

    fn files(&self) -> Vec<String> {
        let dir = self.store.files().partition_dir(tp(1, 0));
        let names = block_on(self.home.disk.list(&dir)).unwrap_or_default();
        let mut names: Vec<String> = names.into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }
}

#[test]
fn of_each_key_the_last_record_stays_with_its_offset_and_time_in_every_codec() {
    for codec in CODECS {
        let mut bench = Bench::new(compacted(16 << 10, eager()));
        bench.append(codec, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]);
        bench.append(codec, &[("c", Some("1")), ("b", Some("2"))]);
        bench.append(codec, &[("d", Some("1")), ("d", Some("2"))]);
        bench.close_segment();
        bench.append(codec, &[("c", Some("the segment that is written to is left alone"))]);
        bench.compact();
        assert_eq!(bench.offsets(), [2, 3, 4, 6, 9], "{codec:?}");
        // The map goes only as far as the closed segments do: `c` at 3 stays.
        block_on(bench.store.checkpoint()).expect("checkpoint");
        bench.reopen();
        assert_eq!(bench.offsets(), [2, 3, 4, 6, 9], "{codec:?}, after a kill");
        bench.close_segment();
        bench.compact();
        assert_eq!(bench.offsets(), [2, 4, 6, 9], "{codec:?}, second pass");
        let codecs: Vec<_> = bench
            .batches()
            .iter()
            .map(|bytes| StoredBatch::split_first(bytes).expect("whole").0.compression())
            .collect();
        assert_eq!(codecs[0], Some(codec), "the codec stays");
    }
}

#[test]
fn a_tombstone_stays_for_delete_retention_after_the_first_pass_that_sees_it() {
    let config = CompactionConfig { delete_retention_ms: 1_000, ..eager() };
    let mut bench = Bench::new(compacted(16 << 10, config));
    bench.append(Compression::None, &[("a", Some("1")), ("b", Some("1"))]);
    bench.append(Compression::Zstd, &[("a", None), ("c", Some("1"))]);
    bench.home.time.advance_ms(DAY_MS as u32);
    bench.close_segment();
    bench.compact();
    assert_eq!(bench.offsets(), [1, 2, 3], "the tombstone takes what was before it");
    bench.home.time.advance_ms(999);
    bench.close_segment();
    bench.compact();
    assert_eq!(bench.offsets(), [1, 2, 3], "it was seen 999 ms ago");
    bench.home.time.advance_ms(1);
    bench.reopen();
    bench.close_segment();
    bench.compact();
    assert_eq!(bench.offsets(), [1, 3], "its time is over");
}

#[test]
fn a_key_that_comes_back_after_its_tombstone_is_not_deleted() {
    let config = CompactionConfig { delete_retention_ms: 0, ..eager() };
    let mut bench = Bench::new(compacted(16 << 10, config));
    bench.append(Compression::None, &[("a", Some("1")), ("a", None), ("a", Some("2"))]);
    for _ in 0..3 {
        bench.close_segment();
        bench.compact();
        assert_eq!(bench.offsets(), [2]);
        bench.home.time.advance_ms(10);
    }
}

#[test]
fn records_without_a_key_go_and_what_lies_in_the_last_segment_stays() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    let keyless = builder(7, 2, 100, bench.now_ms()).build_batch().expect("build");
    bench.append_batch(&keyless);
    bench.append(Compression::None, &[("a", Some("1"))]);
    assert!(bench.need().is_none(), "one segment only");
    bench.close_segment();
    bench.compact();
    assert_eq!(bench.offsets(), [2]);
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    for sequence in 0..3 {
        let mut builder = BatchBuilder::new(Compression::Gzip, 5);
        builder.append(5, Some(b"a"), Some(b"of a producer"), &[]);
        builder.producer(ProducerId(77), ProducerEpoch(2), Sequence(sequence));
        bench.append_batch(&builder.build_batch().expect("build"));
    }
    bench.append(Compression::None, &[("a", Some("of another"))]);
    bench.close_segment();
    bench.compact();
    let batches = bench.batches();
    let (batch, _) = StoredBatch::split_first(&batches[0]).expect("whole");
    assert_eq!((batch.base_offset(), batch.record_count()), (Offset(2), 0));
    let stamp = batch.producer().expect("its producer");
    assert_eq!(
        (stamp.id, stamp.epoch, stamp.last_sequence),
        (ProducerId(77), ProducerEpoch(2), Sequence(2))
    );
    assert_eq!(bench.offsets(), [3]);
    bench.close_segment();
    bench.compact();
    assert_eq!(bench.batches()[0], batches[0], "a second pass leaves it alone");
    // Once the producer is forgotten, so is its batch.
    bench.log.borrow_mut().expire_producers(DAY_MS, 1);
    bench.close_segment();
    bench.compact();
    let (batch, _) = StoredBatch::split_first(&bench.batches()[0])
        .map(|(b, _)| (b.base_offset(), ()))
        .expect("whole");
    assert_eq!(batch, Offset(3));
}

/// A batch of a transaction, or its marker.
fn transactional(id: i64, sequence: i32, key: Option<&str>, marker: Option<u8>) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None, 5);
    match (key, marker) {
        (Some(key), _) => builder.append(5, Some(key.as_bytes()), Some(b"v"), &[]),
        (None, marker) => {
            builder.control();
            builder.append(5, Some(&[0, 0, 0, marker.expect("one of both")]), Some(&[0; 6]), &[])
        }
    };
    builder.producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence)).transactional();
    builder.build_batch().expect("build")
}

#[test]
fn aborted_records_go_and_markers_go_once_they_mark_nothing_and_their_time_is_over() {
    let config = CompactionConfig { delete_retention_ms: 1_000, ..eager() };
    let mut bench = Bench::new(compacted(16 << 10, config));
    bench.append(Compression::None, &[("a", Some("1"))]); // 0
    bench.append_batch(&transactional(1, 0, Some("a"), None)); // 1: aborted
    bench.append_batch(&transactional(2, 0, Some("b"), None)); // 2: committed
    bench.append_batch(&transactional(1, -1, None, Some(0))); // 3: abort
    bench.append_batch(&transactional(2, -1, None, Some(1))); // 4: commit
    bench.append(Compression::None, &[("b", Some("2"))]); // 5
    bench.log.borrow_mut().expire_producers(DAY_MS, 1);
    bench.close_segment();
    let bases = |bench: &Bench| -> Vec<i64> {
        let batches = bench.batches();
        batches
            .iter()
            .map(|b| StoredBatch::split_first(b).expect("whole").0.base_offset().0)
            .collect()
    };
    bench.compact();
    assert_eq!(bases(&bench)[..4], [0, 3, 4, 5], "what was aborted supersedes nothing");
    bench.close_segment();
    bench.compact();
    assert_eq!(bases(&bench)[..4], [0, 3, 4, 5], "the markers mark nothing, from now on");
    bench.home.time.advance_ms(1_000);
    bench.close_segment();
    bench.compact();
    assert_eq!(bases(&bench)[..2], [0, 5]);
}

#[test]
fn nothing_is_decided_behind_the_first_record_of_an_open_transaction() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    bench.append(Compression::None, &[("a", Some("1")), ("a", Some("2"))]); // 0, 1
    bench.append_batch(&transactional(1, 0, Some("a"), None)); // 2: open
    bench.append(Compression::None, &[("x", Some("1")), ("x", Some("2"))]); // 3, 4
    bench.close_segment();
    bench.compact();
    let found: Vec<i64> = seen(&bench.batches()).iter().map(|it| it.offset).collect();
    assert_eq!(found[..4], [1, 2, 3, 4]);
}

#[test]
fn a_pass_is_due_by_its_ratio_or_by_how_long_a_record_has_waited() {
    let config = CompactionConfig { min_dirty_ratio: 0.7, ..CompactionConfig::default() };
    let mut bench = Bench::new(compacted(16 << 10, config));
    bench.append(Compression::None, &[("a", Some("1"))]);
    bench.close_segment();
    assert_eq!(bench.need(), Some(1.0), "all of it is dirty");
    bench.compact();
    assert_eq!(bench.need(), None);
    bench.append(Compression::None, &[("b", Some("1"))]);
    bench.close_segment();
    let half = bench.need();
    assert_eq!(half, None, "about half of it is clean");
    let waits = CompactionConfig { min_dirty_ratio: 0.9, max_lag_ms: 5_000, ..eager() };
    bench.log.borrow_mut().set_config(compacted(16 << 10, waits));
    assert_eq!(bench.need(), None);
    bench.home.time.advance_ms(5_001);
    assert!(bench.need().is_some(), "max.compaction.lag.ms");
    let lags = CompactionConfig { min_lag_ms: 60_000, ..eager() };
    bench.log.borrow_mut().set_config(compacted(16 << 10, lags));
    assert_eq!(bench.need(), None, "min.compaction.lag.ms");
    bench.home.time.advance_ms(60_000);
    assert!(bench.need().is_some());
}

#[test]
fn a_map_that_is_too_small_takes_several_passes_and_loses_nothing() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    let mut last = HashMap::new();
    for round in 0..400_i64 {
        let key = format!("key {}", round * 7 % 150);
        let offset = bench.append(Compression::None, &[(&key, Some("x"))]);
        last.insert(key, offset.0);
    }
    bench.close_segment();
    let mut passes = 0;
    while bench.need().is_some() {
        let end = bench.log.borrow().written_end();
        let mut pass = bench.store.begin_compaction(tp(1, 0), end, 1).expect("dirty");
        run(&bench.store, &mut pass).expect("to its end");
        assert!(pass.report().keys <= 48);
        passes += 1;
    }
    assert!(passes > 3, "{passes}");
    // Several passes with few keys each keep more than one pass with all; the last of each is there.
    let found = bench.offsets();
    assert!(last.values().all(|offset| found.contains(offset)));
    assert!(found.len() < 400);
}

#[test]
fn replaced_files_go_when_no_checkpoint_names_them_and_a_crash_leaves_none_behind() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    for round in 0..5 {
        bench.append(Compression::None, &[("a", Some(&round.to_string()))]);
        bench.close_segment();
    }
    let before = bench.files();
    bench.compact();
    assert!(before.iter().all(|name| bench.files().contains(name)), "checkpoints name them");
    block_on(bench.store.forget_dropped()).expect("checkpoints");
    while block_on(bench.store.remove_piece()).expect("removal") {}
    let after = bench.files();
    assert!(after.len() < before.len(), "{after:?}");
    assert!(after.iter().any(|name| name.contains('-')));
    // A pass that a crash ends.
    bench.append(Compression::None, &[("b", Some("1"))]);
    bench.close_segment();
    bench.close_segment();
    let mut pass = bench.pass().expect("dirty");
    while !bench.files().iter().any(|name| name.contains("-2.")) {
        block_on(bench.store.compact_a_little(&mut pass)).expect("a step");
    }
    drop(pass);
    let expected = bench.offsets();
    bench.reopen();
    block_on(bench.store.sweep()).expect("a look");
    while block_on(bench.store.remove_piece()).expect("removal") {}
    assert!(!bench.files().iter().any(|name| name.contains("-2.")), "{:?}", bench.files());
    assert_eq!(bench.offsets(), expected);
}

#[test]
fn a_pass_gives_up_where_retention_or_a_truncation_overtakes_it() {
    for truncates in [false, true] {
        let mut bench = Bench::new(compacted(64 << 10, eager()));
        for round in 0..12 {
            let value = "v".repeat(12_000);
            bench.append(Compression::None, &[(&round.to_string(), Some(&value))]);
        }
        bench.close_segment();
        let mut pass = bench.pass().expect("dirty");
        while !bench.files().iter().any(|name| name.contains('-')) {
            block_on(bench.store.compact_a_little(&mut pass)).expect("a step");
        }
        let end = bench.log.borrow().log_end();
        if truncates {
            bench.log.borrow_mut().truncate_to(bench.store.journal(), Offset(end.0 - 1));
        } else {
            bench.log.borrow_mut().advance_log_start(bench.store.journal(), Offset(end.0 - 1));
            commit_all(&bench.store);
            bench.log.borrow_mut().drop_segments_before(end);
        }
        let expected = seen(&read_all(&bench.log, bench.log.borrow().log_start(), 30_000));
        assert!(matches!(run(&bench.store, &mut pass), Err(None)), "overtaken");
        assert!(!bench.files().iter().any(|name| name.contains('-')), "{:?}", bench.files());
        let start = bench.log.borrow().log_start();
        assert_eq!(seen(&read_all(&bench.log, start, 30_000)), expected);
    }
}

#[test]
fn a_pass_over_a_log_that_is_deleted_meanwhile_fails_nothing_and_leaves_nothing() {
    for steps in 0..12 {
        let mut bench = Bench::new(compacted(64 << 10, eager()));
        for round in 0..12 {
            let value = "v".repeat(12_000);
            bench.append(Compression::None, &[(&round.to_string(), Some(&value))]);
        }
        bench.close_segment();
        bench.disk.yield_at_every_call();
        let mut pass = bench.pass().expect("dirty");
        {
            let mut work = pin!(async {
                loop {
                    match bench.store.compact_a_little(&mut pass).await.expect("no failure") {
                        CompactionProgress::Step(step) if !step.is_over => {}
                        ended => return ended,
                    }
                }
            });
            for _ in 0..5 * steps {
                assert!(block_on(poll_once(&mut work)).is_none(), "the pass is longer");
            }
            block_on(bench.store.delete_logs(&[tp(1, 0)])).expect("delete");
            assert!(matches!(block_on(work), CompactionProgress::GaveUp(None)));
        }
        assert!(bench.store.failed().is_none());
        assert_eq!(bench.files(), Vec::<String>::new(), "after {steps} steps");
    }
}

#[test]
fn a_full_disk_ends_a_pass_and_nothing_else() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    bench.append(Compression::None, &[("a", Some("1")), ("a", Some("2"))]);
    bench.close_segment();
    let mut pass = bench.pass().expect("dirty");
    let (op, fault) = (crate::io::SimOp::Write, libc::ENOSPC);
    bench.disk.plan_fault(op, 0, true, crate::io::SimFault::Error(fault));
    assert!(matches!(run(&bench.store, &mut pass), Err(Some(_))));
    bench.disk.clear_faults();
    assert!(bench.store.failed().is_none());
    assert_eq!(bench.offsets(), [0, 1]);
    bench.compact();
    assert_eq!(bench.offsets(), [1]);
}

#[test]
fn what_cannot_be_read_is_not_compacted_away() {
    let mut bench = Bench::new(compacted(16 << 10, eager()));
    let mut bytes = builder(1, 1, 100, 5).build_batch().expect("build").bytes().to_vec();
    // Records that nobody can read, under a CRC that fits: an unchecked topic took them.
    let end = bytes.len();
    bytes[61] = 0x7e;
    bytes[end - 1] ^= 1;
    let crc = crate::base::crc::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let unchecked = UncheckedBatch::from_produce(Bytes::from(bytes)).expect("one batch");
    bench.append_batch(&unchecked.check().expect("framing and CRC are right"));
    bench.append(Compression::None, &[("a", Some("1"))]);
    bench.close_segment();
    let before = bench.batches();
    let gave_up = run(&bench.store, &mut bench.pass().expect("dirty"));
    assert!(matches!(gave_up, Err(Some(StorageError::UnreadableRecords { .. }))));
    assert_eq!(bench.batches(), before);
}
