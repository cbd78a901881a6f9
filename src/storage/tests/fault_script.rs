//! A fault at every operation of a script: the same life of a store again and again, each time with
//! another of its disk operations failing in another way.
//!
//! Whatever fails: after the first failed write or sync nothing is acknowledged any more, the next
//! start is clean, and nothing that was acknowledged is missing. A write without room fails nothing:
//! it waits, and in the end everything that was taken is there.

use std::collections::BTreeMap;

use super::world::{Acks, Task, tasks};
use super::*;
use crate::io::sim_disk::SimDisk;
use crate::io::{SimFault, SimOp};
use crate::storage::Reserve;

/// What happens to the operation.
const FAULTS: [(SimFault, bool); 6] = [
    (SimFault::Error(libc::EIO), false),
    (SimFault::Error(libc::EIO), true),
    (SimFault::Partial(libc::EIO), false),
    (SimFault::Error(libc::ENOSPC), false),
    (SimFault::Partial(libc::ENOSPC), false),
    (SimFault::Error(libc::EROFS), true),
];

const ROUNDS: u64 = 175;
/// The log that is deleted on the way.
const MORTAL: u8 = 9;

/// What one log was given, and what was promised of it.
#[derive(Clone, Default)]
struct Given {
    batches: Vec<(Offset, Bytes)>,
    end: Offset,
    acked: Offset,
    durable: Offset,
    /// The start: as staged, and as known durable.
    start: Offset,
    durable_start: Offset,
    start_group: u64,
}

struct Script {
    home: Home,
    disk: Rc<SimDisk>,
    given: BTreeMap<TopicPartition, Given>,
    tag: u64,
}

impl Script {
    /// A store that was killed after a while of work, with something to recover.
    fn begun() -> Script {
        let config = StoreConfig {
            reserve: Reserve::Exactly(0),
            open_segments_max: 2,
            read_cache_bytes: 8 << 10,
            ..small_config()
        };
        let (home, disk) = Home::simulated(config);
        let usual = LogConfig { file_delete_delay_ms: 0, ..LogConfig::default() };
        let lazy = LogConfig { flush_messages: i64::MAX, flush_ms: 40, ..usual.clone() };
        let often = LogConfig { flush_messages: 10, segment_bytes: 64 << 10, ..usual.clone() };
        home.live(tp(1, 0), LogConfig { segment_bytes: 24 << 10, ..usual.clone() });
        home.live(tp(1, 1), lazy);
        home.live(tp(1, 2), often);
        home.live(tp(1, 3), LogConfig { segment_bytes: 1 << 20, ..usual.clone() });
        home.live(tp(MORTAL, 0), usual);
        let given = home.live.borrow().keys().map(|tp| (*tp, Given::default())).collect();
        let mut script = Script { home, disk, given, tag: 0 };
        let store = script.home.open();
        let acks = Acks::default();
        let mut tasks = tasks(&store, &acks);
        for round in 0..30 {
            script.round(&store, round, &mut tasks, &acks);
        }
        script.disk.yield_at_every_call();
        script
    }

    /// The script proper. Returns the store if it could be opened.
    fn run(&mut self) -> Option<Rc<Store>> {
        let store = self.home.recover_and_try_to_open().ok()?;
        let acks = Acks::default();
        let mut tasks = tasks(&store, &acks);
        for round in 0..ROUNDS {
            self.round(&store, round, &mut tasks, &acks);
            if store.failed().is_some() {
                self.expect_silence(&store, &acks, &mut tasks);
                return Some(store);
            }
        }
        // To rest: everything that was taken is acknowledged.
        for _ in 0..400 {
            store.request_sync();
            store.look_at_room();
            self.poll(&store, &mut tasks, &acks);
            if store.failed().is_some() {
                self.expect_silence(&store, &acks, &mut tasks);
                return Some(store);
            }
            if self.given.values().all(|given| given.durable == given.end) {
                return Some(store);
            }
        }
        let left = self.given.iter().filter(|(_, given)| given.durable < given.end);
        let left: Vec<_> = left.map(|(tp, given)| (*tp, given.durable, given.end)).collect();
        panic!("no failure, and yet not all is acknowledged: {left:?}");
    }

    fn round(&mut self, store: &Rc<Store>, round: u64, tasks: &mut Vec<Task>, acks: &Acks) {
        self.home.time.advance_ms(5);
        let logs: Vec<TopicPartition> = self.given.keys().copied().collect();
        for tp in logs {
            self.append(store, tp, round);
        }
        if round % 4 == 1 {
            self.move_start(store);
        }
        if round % 8 == 3 {
            self.read(store);
        }
        if round == 100 {
            let gone = tp(MORTAL, 0);
            self.given.remove(&gone);
            self.home.live.borrow_mut().remove(&gone);
            // A disk that fails refuses it: its files are found at the next start.
            let store = store.clone();
            tasks.push(Box::pin(async move { store.delete_logs(&[gone]).await }));
        }
        if store.sync_due(self.home.clock.wall_ms()) {
            store.request_sync();
        }
        store.look_at_room();
        self.poll(store, tasks, acks);
    }

    fn append(&mut self, store: &Store, tp: TopicPartition, round: u64) {
        let is_large = tp.partition.0 == 3;
        if !store.journal().has_room() || is_large && !round.is_multiple_of(6) {
            return;
        }
        if store.journal().check_disk().is_err() {
            return; // as a partition does
        }
        self.tag += 1;
        let bytes = if is_large { 90_000 } else { 300 + (round as usize % 7) * 250 };
        let built = batch(self.tag, 1 + (round % 3) as i32, bytes, round as i64);
        let sent = if is_large { received(&built) } else { built };
        let log = self.home.log(store, tp);
        let done = log.borrow_mut().append(store.journal(), &sent, leader(1));
        let given = self.given.get_mut(&tp).expect("known");
        assert_eq!(done.base_offset, given.end, "{tp}: offsets have no gap and no overlap");
        given.batches.push((done.base_offset, sent.bytes().clone()));
        given.end = done.last_offset.plus(1);
    }

    fn move_start(&mut self, store: &Store) {
        let tp = tp(1, 0);
        let given = self.given.get_mut(&tp).expect("known");
        let kept = given.batches.iter().rev().nth(40).map_or(Offset(0), |(base, _)| *base);
        let start = kept.min(given.durable);
        if start > given.start {
            let log = self.home.log(store, tp);
            log.borrow_mut().advance_log_start(store.journal(), start);
            (given.start, given.start_group) = (start, log.borrow().start_group());
        }
    }

    fn read(&self, store: &Store) {
        for (tp, given) in &self.given {
            let log = self.home.log(store, *tp);
            let upto = log.borrow().written_end();
            if given.start >= upto {
                continue;
            }
            let plan = { log.borrow().plan_read(given.start, upto, 30_000) };
            match block_on(plan.read()) {
                Ok(slices) => given.check(&slices.concat()),
                Err(StorageError::Read { .. }) => {}
                Err(problem) => panic!("{tp}: {problem}"),
            }
        }
    }

    fn poll(&mut self, store: &Rc<Store>, tasks: &mut Vec<Task>, acks: &Acks) {
        for _ in 0..60 {
            tasks.retain_mut(|task| {
                let (had_failed, heard) = (store.failed().is_some(), acks.borrow().len());
                let goes_on = block_on(poll_once(task)).is_none();
                let is_silent = !had_failed || acks.borrow().len() == heard;
                assert!(is_silent, "acknowledged after the failure: {:?}", acks.borrow());
                goes_on
            });
            self.note(store, acks);
            if store.failed().is_some() {
                return;
            }
        }
    }

    fn note(&mut self, store: &Rc<Store>, acks: &Acks) {
        for member in acks.borrow_mut().drain(..).flat_map(|group| group.members) {
            let Some(given) = self.given.get_mut(&member.topic_partition) else { continue };
            let config = self.home.live.borrow()[&member.topic_partition].clone();
            let synced = config.flush_messages <= 1;
            let ackable = if synced { member.durable_end } else { member.written_end };
            given.acked = given.acked.max(ackable);
            given.durable = given.durable.max(member.durable_end);
        }
        for (tp, given) in &mut self.given {
            let durable = step(store.journal().until_durable(given.start_group));
            if given.durable_start < given.start && durable.is_some_and(|it| it.is_ok()) {
                given.durable_start = given.start;
                self.home.log(store, *tp).borrow_mut().drop_segments_before(given.start);
            }
        }
    }

    /// A failed store acknowledges nothing more, whatever it is asked.
    fn expect_silence(&mut self, store: &Rc<Store>, acks: &Acks, tasks: &mut Vec<Task>) {
        self.note(store, acks);
        let promised = self.promised();
        self.disk.clear_faults();
        for round in 0..3 {
            let logs: Vec<TopicPartition> = self.given.keys().copied().collect();
            for tp in logs {
                let log = self.home.log(store, tp);
                log.borrow_mut().append(store.journal(), &batch(0, 1, 50, round), leader(1));
            }
            store.request_sync();
            store.look_at_room();
            for _ in 0..100 {
                tasks.retain_mut(|task| block_on(poll_once(task)).is_none());
            }
            assert!(step(store.checkpoint()).is_none_or(|done| done.is_err()));
        }
        assert!(acks.borrow().is_empty(), "acknowledged after the failure");
        self.note(store, acks);
        assert_eq!(self.promised(), promised);
    }

    fn promised(&self) -> Vec<(Offset, Offset, Offset)> {
        self.given.values().map(|it| (it.acked, it.durable, it.durable_start)).collect()
    }

    /// After the disk was healed: a clean start, with all that was promised.
    fn check_restart(&self, disk: Rc<SimDisk>, is_power_cut: bool) {
        disk.clear_faults();
        let home = Home {
            disk: Disk::Sim(disk),
            dir: self.home.dir.clone(),
            config: self.home.config.clone(),
            clock: self.home.clock.clone(),
            time: self.home.time.clone(),
            live: RefCell::new(self.home.live.borrow().clone()),
        };
        let store = home.recover_and_open().expect("a clean start").0;
        for (tp, given) in &self.given {
            let log = home.log(&store, *tp);
            let (start, end) = (log.borrow().log_start(), log.borrow().log_end());
            let promised = if is_power_cut { given.durable } else { given.acked };
            assert!(end >= promised, "{tp}: {end} of {promised}");
            assert!(
                (given.durable_start..=given.start).contains(&start),
                "{tp}: starts at {start}"
            );
            let stored = read_all(&log, start, 50_000);
            stored.iter().for_each(|bytes| given.check(bytes));
            let first = given.batches.partition_point(|(base, _)| *base < start);
            let kept = given.batches[first..].iter().filter(|(base, _)| *base < end).count();
            assert_eq!(stored.len(), kept, "{tp}: from {start} to {end}");
            log.borrow_mut().append(store.journal(), &batch(1, 1, 100, 0), leader(2));
        }
        commit_all(&store);
        block_on(store.clone().close()).expect("a clean close");
        let (_, report) = home.recover_and_open().expect("a start after it");
        assert_eq!(report.groups_replayed, 0);
    }
}

impl Given {
    /// What is stored is what was given.
    fn check(&self, bytes: &[u8]) {
        for stored in stored_batches(bytes) {
            let stored = stored.expect("whole");
            assert!(stored.crc_matches());
            let base = stored.base_offset();
            let found = self.batches.iter().find(|(given, _)| *given == base);
            let (_, given) = found.expect("it was given");
            assert_eq!(stored.bytes()[16..], given[16..], "the batch at {base}");
        }
    }
}

/// Operations that the script makes when nothing fails.
fn operations() -> u64 {
    let mut script = Script::begun();
    let before = script.disk.op_count(SimOp::Any);
    script.run().expect("opens");
    script.disk.op_count(SimOp::Any) - before
}

/// The script with `fault` at its operation `number`. Says what was hit, and whether the store failed.
fn run_with(number: u64, (fault, is_lasting): (SimFault, bool)) -> (Option<SimOp>, bool) {
    let shown = Shown(number, fault, is_lasting);
    let mut script = Script::begun();
    script.disk.plan_fault(SimOp::Any, number, is_lasting, fault);
    let store = script.run();
    let met = script.disk.faults_met().first().copied();
    let has_failed = store.as_ref().is_none_or(|store| store.failed().is_some());
    drop(store);
    let is_broken = matches!(fault, SimFault::Error(libc::EIO) | SimFault::Partial(libc::EIO));
    if matches!(met, Some(SimOp::Sync)) || is_broken && matches!(met, Some(SimOp::Write)) {
        assert!(has_failed, "a failed {met:?} is the end");
    }
    let is_full = matches!(fault, SimFault::Error(libc::ENOSPC) | SimFault::Partial(libc::ENOSPC));
    let mut after = vec![(script.disk.crash(number), true)];
    after.push((script.disk.clone(), false));
    if is_full && !has_failed {
        let acked = script.given.values().all(|given| given.acked == given.end);
        assert!(acked, "what was taken is acknowledged in the end");
    }
    after.into_iter().for_each(|(disk, is_cut)| script.check_restart(disk, is_cut));
    std::mem::forget(shown);
    (met, has_failed)
}

/// Says which case it was when a test panics.
struct Shown(u64, SimFault, bool);

impl Drop for Shown {
    fn drop(&mut self) {
        eprintln!("failed at operation {} with {:?}, lasting: {}", self.0, self.1, self.2);
    }
}

fn campaign(stride: u64) {
    let operations = operations();
    assert!(operations >= 2000, "the script has {operations} operations");
    let mut outcomes: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (index, fault) in (0..).zip(FAULTS) {
        for number in (index * 13 % stride..operations).step_by(stride as usize) {
            let (met, has_failed) = run_with(number, fault);
            let kind = format!("{:?} {met:?}", fault.0);
            outcomes.entry(kind).or_default()[usize::from(has_failed)] += 1;
        }
    }
    println!("{operations} operations; went on, failed: {outcomes:#?}");
    let went_on: u64 = outcomes.values().map(|counts| counts[0]).sum();
    let failed: u64 = outcomes.values().map(|counts| counts[1]).sum();
    assert!(went_on > 0 && failed > went_on, "both ends are seen: {went_on}, {failed}");
}

#[test]
fn a_fault_at_any_operation_ends_in_silence_and_a_clean_start() {
    campaign(149);
}

/// Minutes: `cargo dev faults`.
#[test]
#[ignore = "minutes; cargo dev faults runs it"]
fn a_fault_at_every_operation_ends_in_silence_and_a_clean_start() {
    let stride = std::env::var("THALWEG_FAULT_STRIDE").ok().and_then(|it| it.parse().ok());
    campaign(stride.unwrap_or(1));
}

/// One case again: `THALWEG_FAULT=operation,kind`.
#[test]
fn one_case_can_be_run_again() {
    let asked = std::env::var("THALWEG_FAULT").unwrap_or_else(|_| "700,0".to_owned());
    let (number, kind) = asked.split_once(',').expect("operation,kind");
    let kind: usize = kind.parse().expect("a number");
    let number = number.parse().expect("a number");
    assert_eq!(run_with(number, FAULTS[kind]), run_with(number, FAULTS[kind]), "it is the same");
}
