//! A store under a random scheduler on a simulated disk: appends, reads and every background step
//! interleaved at each disk call, kills and power cuts at any moment, and a model of what must hold.

mod flips;
mod stores;

use std::collections::BTreeMap;

use super::*;
use futures_lite::future::yield_now;

use crate::io::sim_disk::SimDisk;
use crate::io::{SimFault, SimOp};
use crate::storage::epoch_history::EpochHistory;
use crate::storage::producer_table::ProducerTable;
use stores::Stores;

/// Numbers from a seed (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A batch as it was appended.
#[derive(Clone)]
struct Sent {
    batch: RecordBatch,
    base: Offset,
    last: Offset,
    epoch: i32,
}

/// What one log must be.
#[derive(Default)]
struct Model {
    batches: Vec<Sent>,
    end: Offset,
    written: Offset,
    durable: Offset,
    /// The durable end that a group on the disk speaks of.
    attested: Offset,
    log_start: Offset,
    /// What the start will not fall behind again, and the group that makes it `log_start`.
    durable_start: Offset,
    start_group: u64,
    sequence: i32,
    producer: i64,
    /// A truncation or move of the start that may or may not have become durable.
    unsettled: bool,
    was_cut: bool,
}

pub(super) type Task = std::pin::Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

/// What a run of the world ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Close,
    Kill,
    PowerCut,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) home: Home,
    pub(super) disk: Rc<SimDisk>,
    models: BTreeMap<TopicPartition, Model>,
    tag: u64,
    epoch: i32,
    time_ms: i64,
    pub(super) truncates: bool,
    pub(super) retains: bool,
    /// Starts with other numbers of shards.
    pub(super) reshards: bool,
    /// Levels of durability, segment sizes and retention change while records come in.
    pub(super) reconfigures: bool,
    /// Before some starts, one with a flipped bit is tried on a copy of the disk.
    pub(super) flips: bool,
    /// A number for each step: what was chosen and what came of it.
    pub(super) trace: Vec<u64>,
    closed: bool,
    faulty: bool,
    large_percent: u64,
    /// Bytes that went through the large lane.
    pub(super) large_bytes: u64,
    pub(super) starts_moved: u64,
    pub(super) flips_refused: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let mut config = small_config();
        if random.chance(30) {
            config.write_behind_window_bytes = 1 << 30;
            config.extent_bytes = 1 << 30;
        }
        if random.chance(30) {
            config.read_cache_bytes = 0;
        }
        config.open_segments_max = 1 + random.below(5) as usize;
        config.index_entries_max = [3, 40, 5 << 18][random.below(3) as usize];
        config.index_entries_unwritten_max = [0, 2, 16][random.below(3) as usize];
        config.syncs_max = [0, 3, 100][random.below(3) as usize];
        config.read_ahead_bytes = [0, 20 << 10, 8 << 20][random.below(3) as usize];
        let (home, disk) = Home::simulated(config);
        let mut models = BTreeMap::new();
        for partition in 0..=random.below(4) as i32 {
            let tp = tp(1, partition);
            home.live(tp, any_log_config(&mut random));
            models.insert(tp, Model::default());
        }
        disk.yield_at_every_call();
        let large_percent = [0, 10, 80][random.below(3) as usize];
        World {
            random,
            home,
            disk,
            models,
            tag: 0,
            epoch: 0,
            time_ms: 0,
            truncates: false,
            retains: false,
            reshards: false,
            reconfigures: false,
            flips: false,
            trace: Vec::new(),
            closed: false,
            faulty: false,
            large_percent,
            large_bytes: 0,
            starts_moved: 0,
            flips_refused: 0,
        }
    }

    /// One life of the broker: opens, checks, works for a while, ends as told. Says whether the
    /// store failed on the way.
    pub(super) fn live_once(&mut self, steps: u64, end: End) -> bool {
        if self.flips && self.random.chance(50) {
            self.try_with_a_flipped_bit();
        }
        let shards = if self.reshards { 1 + self.random.below(3) as u16 } else { 1 };
        match self.home.recover_and_open_shards(shards) {
            Ok((stores, report)) => {
                if std::mem::take(&mut self.closed) {
                    assert_eq!(report.groups_replayed, 0, "a clean start replays nothing");
                }
                self.work(&Stores::new(stores), steps, end)
            }
            Err(error) => panic!("recovery refused: {error}"),
        }
    }

    /// As [`World::live_once`], with a disk that fails at some operation. The first failure of a
    /// write or sync is the last thing that the store says.
    pub(super) fn live_with_fault(&mut self, steps: u64) -> bool {
        let ops = [SimOp::Write, SimOp::Sync, SimOp::Any, SimOp::Resize, SimOp::Name, SimOp::Open];
        let op = ops[self.random.below(ops.len() as u64) as usize];
        self.live_with_failing(op, steps)
    }

    /// As [`World::live_with_fault`], with an operation of this kind.
    pub(super) fn live_with_failing(&mut self, op: SimOp, steps: u64) -> bool {
        let bound = [5, 50, 500][self.random.below(3) as usize];
        let after = self.random.below(bound);
        let lasting = self.random.chance(50);
        let errno = if self.random.chance(50) { libc::EIO } else { libc::ENOSPC };
        let fault = match self.random.chance(50) {
            true => SimFault::Error(errno),
            false => SimFault::Partial(errno),
        };
        self.disk.plan_fault(op, after, lasting, fault);
        (self.faulty, self.closed) = (true, false);
        let failed = match self.home.recover_and_try_to_open() {
            Ok(store) => self.work(&Stores::new(vec![store]), steps, End::Kill),
            Err(_) => true,
        };
        self.disk.clear_faults();
        self.faulty = false;
        failed
    }

    /// Cuts the power while nothing runs.
    pub(super) fn cut_power(&mut self) {
        let after = self.disk.crash(self.random.next());
        self.disk = after.clone();
        self.disk.yield_at_every_call();
        self.home.disk = Disk::Sim(after);
        for model in self.models.values_mut() {
            model.written = model.durable;
        }
    }

    fn work(&mut self, stores: &Stores, steps: u64, end: End) -> bool {
        if !self.check_recovered(stores) {
            return true;
        }
        self.epoch += 1;
        let acks = Rc::new(RefCell::new(Vec::new()));
        let mut tasks: Vec<Task> = stores.all().iter().flat_map(|it| tasks(it, &acks)).collect();
        for tp in self.logs() {
            let store = stores.of(tp);
            let log = self.home.log(store, tp);
            log.borrow_mut().start_epoch(store.journal(), LeaderEpoch(self.epoch));
        }
        for _ in 0..steps {
            self.act(stores);
            let number = self.random.below(tasks.len() as u64) as usize;
            let polled = block_on(poll_once(&mut tasks[number]));
            self.note_acks(stores, &acks);
            if self.retains {
                self.note_starts(stores);
            }
            self.note_step(stores);
            if let Some(result) = polled {
                result.expect_err("a loop ends only by failing");
            }
            if stores.failed() {
                break;
            }
        }
        let failed = stores.failed();
        if failed {
            self.expect_silence(stores, &acks);
        }
        self.large_bytes +=
            stores.all().iter().map(|it| it.copy_ledger().bytes_large()).sum::<u64>();
        match end {
            End::Kill => {}
            _ if failed => {}
            End::PowerCut => self.cut_power(),
            End::Close => self.close(stores, tasks, &acks),
        }
        failed
    }

    fn close(&mut self, stores: &Stores, mut tasks: Vec<Task>, acks: &Acks) {
        stores.all().iter().for_each(|store| store.begin_close());
        let mut left = 10_000;
        while !tasks.is_empty() {
            tasks.retain_mut(|task| match block_on(poll_once(task)) {
                None => true,
                Some(ended) => {
                    assert!(matches!(ended, Err(StorageError::Closing)), "{ended:?}");
                    false
                }
            });
            left -= 1;
            assert!(left > 0, "{} loops do not end", tasks.len());
        }
        self.note_acks(stores, acks);
        for store in stores.all() {
            assert_eq!(store.journal().staged_bytes(), 0, "everything came to rest");
            block_on(store.clone().close()).expect("close");
        }
        self.closed = true;
    }

    /// What the step did, in a number: where the random choices are, what the disk was asked, how
    /// far the logs are.
    fn note_step(&mut self, stores: &Stores) {
        let mut step = self.random.0 ^ self.disk.op_count(SimOp::Any).rotate_left(32);
        for (tp, model) in &self.models {
            let staged = stores.of(*tp).journal().staged_bytes() as u64;
            for number in
                [staged, model.end.0 as u64, model.written.0 as u64, model.durable.0 as u64]
            {
                step = step.wrapping_mul(0x0100_0000_01B3) ^ number;
            }
        }
        self.trace.push(step);
    }

    /// A failed store acknowledges nothing, whatever the disk says from now on.
    fn expect_silence(&mut self, stores: &Stores, acks: &Acks) {
        self.note_acks(stores, acks);
        self.disk.clear_faults();
        for tp in self.logs() {
            let store = stores.of(tp);
            let log = self.home.log(store, tp);
            let ends = (log.borrow().written_end(), log.borrow().durable_end());
            log.borrow_mut().append(store.journal(), &batch(0, 1, 10, 0), leader(self.epoch));
            for _ in 0..20 {
                assert!(step(store.commit_group()).is_none_or(|result| result.is_err()));
                assert!(step(store.checkpoint()).is_none_or(|result| result.is_err()));
            }
            assert_eq!(ends, (log.borrow().written_end(), log.borrow().durable_end()));
        }
        assert!(acks.borrow().is_empty());
    }

    fn logs(&self) -> Vec<TopicPartition> {
        let mut logs: Vec<TopicPartition> = self.models.keys().copied().collect();
        logs.sort();
        logs
    }

    /// Something that a partition would do.
    fn act(&mut self, stores: &Stores) {
        self.home.time.advance_ms(self.random.below(3) as u32);
        let logs = self.logs();
        let tp = logs[self.random.below(logs.len() as u64) as usize];
        let store = stores.of(tp);
        let log = self.home.log(store, tp);
        match self.random.below(100) {
            0..40 if store.journal().has_room() => self.append(store, tp, &log),
            40..50 => self.read(tp, &log),
            50..55 if store.sync_due(self.home.clock.wall_ms()) => store.request_sync(),
            55 if self.truncates => self.cut(store, tp, &log),
            56..60 if self.retains => self.retain(store, tp, &log),
            60 if self.reconfigures => self.reconfigure(tp, &log),
            // What changes a log beside its appends and reads has its place here (compaction, too),
            // behind a habit of its own, and what must hold after it in `check_recovered`.
            _ => {}
        }
    }

    fn reconfigure(&mut self, tp: TopicPartition, log: &Rc<RefCell<Log>>) {
        let config = any_log_config(&mut self.random);
        self.home.live(tp, config.clone());
        log.borrow_mut().set_config(config);
    }

    fn append(&mut self, store: &Rc<Store>, tp: TopicPartition, log: &Rc<RefCell<Log>>) {
        let model = self.models.get_mut(&tp).expect("known");
        self.tag += 1;
        self.time_ms += self.random.below(3) as i64;
        let records = 1 + self.random.below(6) as i32;
        let bytes = match self.random.below(20) {
            _ if self.random.chance(self.large_percent) => 30_000,
            0 => 12_000,
            1 => 30_000,
            _ => 8 + self.random.below(900) as usize,
        };
        let mut builder = builder(self.tag, records, bytes, self.time_ms);
        if self.random.chance(50) && !model.was_cut {
            let (id, epoch) = (ProducerId(model.producer), ProducerEpoch(0));
            builder.producer(id, epoch, Sequence(model.sequence));
            model.sequence += records;
        }
        let built = builder.build_batch().expect("build");
        let batch = if self.random.chance(50) { received(&built) } else { built };
        let base = log.borrow().log_end();
        let done = log.borrow_mut().append(store.journal(), &batch, leader(self.epoch));
        assert_eq!(done.base_offset, base);
        assert!(base >= model.written && base >= model.durable, "an offset is used again");
        assert_eq!(base, model.end, "offsets have no gap");
        let last = done.last_offset;
        model.end = last.plus(1);
        model.batches.push(Sent { batch, base, last, epoch: self.epoch });
    }

    /// Cuts the log at either end, at a border of batches.
    fn cut(&mut self, store: &Rc<Store>, tp: TopicPartition, log: &Rc<RefCell<Log>>) {
        let model = self.models.get_mut(&tp).expect("known");
        if model.batches.is_empty() {
            return;
        }
        let pick = self.random.below(model.batches.len() as u64) as usize;
        if self.random.chance(50) {
            let start = model.batches[pick].base.min(model.written);
            log.borrow_mut().advance_log_start(store.journal(), start);
            model.log_start = model.log_start.max(start);
            assert_eq!(log.borrow().log_start(), model.log_start);
        } else {
            let wanted = model.batches[pick].base;
            if wanted < model.log_start {
                return;
            }
            let end = log.borrow_mut().truncate_to(store.journal(), wanted);
            assert!(end <= wanted);
            model.batches.retain(|sent| sent.base < end);
            model.end = end;
            model.written = model.written.min(end);
            model.durable = model.durable.min(end);
            model.attested = model.attested.min(end);
            model.log_start = model.log_start.min(end);
            model.durable_start = model.durable_start.min(end);
            model.was_cut = true;
        }
        model.unsettled = true;
    }

    /// Retention's look at a log, or a deletion of records on request.
    fn retain(&mut self, store: &Rc<Store>, tp: TopicPartition, log: &Rc<RefCell<Log>>) {
        let model = self.models.get_mut(&tp).expect("known");
        let start = match self.random.below(10) {
            0 => Some(Offset(self.random.below(model.written.0 as u64 + 1) as i64)),
            _ => log.borrow().retention_start(model.written, self.home.clock.now()),
        };
        let Some(start) = start.filter(|start| *start > model.log_start) else { return };
        assert!(start <= model.written, "{tp}: {start} is not committed");
        log.borrow_mut().advance_log_start(store.journal(), start);
        assert_eq!(log.borrow().log_start(), start);
        (model.log_start, model.start_group) = (start, log.borrow().start_group());
        self.starts_moved += 1;
    }

    /// Starts that have become durable are told to readers, and their segments go.
    fn note_starts(&mut self, stores: &Stores) {
        for (tp, model) in &mut self.models {
            let store = stores.of(*tp);
            let durable = step(store.journal().until_durable(model.start_group));
            if model.durable_start < model.log_start && durable.is_some_and(|it| it.is_ok()) {
                model.durable_start = model.log_start;
                let log = self.home.log(store, *tp);
                log.borrow_mut().drop_segments_before(model.durable_start);
            }
        }
    }

    fn read(&mut self, tp: TopicPartition, log: &Rc<RefCell<Log>>) {
        let model = &self.models[&tp];
        let (start, end) = (log.borrow().log_start(), log.borrow().written_end());
        if start >= end {
            return;
        }
        let from = Offset(start.0 + self.random.below((end.0 - start.0) as u64) as i64);
        let bytes_max = [1, 3000, 100_000][self.random.below(3) as usize];
        let plan = { log.borrow().plan_read(from, end, bytes_max) };
        let bytes = match block_on(plan.read()) {
            Ok(slices) => slices.concat(),
            Err(StorageError::Read { .. }) if self.faulty => return,
            Err(error) => panic!("read of {tp} at {from}: {error}"),
        };
        let first = model.batches.partition_point(|sent| sent.last < from);
        let mut taken = 0;
        for (batch, sent) in stored_batches(&bytes).zip(&model.batches[first..]) {
            let batch = batch.expect("whole");
            check_batch(batch.bytes(), sent);
            taken += batch.len_bytes();
        }
        assert_eq!(taken, bytes.len(), "no more than was sent");
        assert!(taken > 0, "{tp}: nothing at {from}, though the log is written up to {end}");
        let first = &model.batches[first];
        assert!(taken <= bytes_max.max(first.batch.len_bytes()), "more than was asked for");
        if self.random.chance(30) {
            self.look_up(tp, log, end);
        }
    }

    fn look_up(&mut self, tp: TopicPartition, log: &Rc<RefCell<Log>>, upto: Offset) {
        let model = &self.models[&tp];
        let start = log.borrow().log_start();
        let target = self.random.below(self.time_ms.max(1) as u64 + 5) as i64;
        let plan = { log.borrow().plan_timestamp(target, upto) };
        let found = match block_on(plan.find()) {
            Ok(found) => found.map(|found| found.offset),
            Err(StorageError::Read { .. }) if self.faulty => return,
            Err(error) => panic!("look-up in {tp}: {error}"),
        };
        let expected = model.batches.iter().filter(|sent| sent.last < upto).find_map(|sent| {
            let times = (sent.base.0..=sent.last.0).zip(sent.batch.base_timestamp()..);
            times.filter(|(offset, _)| *offset >= start.0).find(|(_, time)| *time >= target)
        });
        assert_eq!(found.map(|found| found.0), expected.map(|(offset, _)| offset), "{tp} {target}");
        if start > Offset(0) {
            return; // the latest of all may lie before the start
        }
        let plan = { log.borrow().plan_max_timestamp(upto) };
        let found = match block_on(plan.find()) {
            Ok(found) => found.map(|found| found.timestamp_ms),
            Err(StorageError::Read { .. }) if self.faulty => return,
            Err(error) => panic!("latest of {tp}: {error}"),
        };
        let whole = model.batches.iter().filter(|sent| sent.last < upto);
        assert_eq!(found, whole.map(|sent| sent.batch.max_timestamp()).max(), "{tp}");
    }

    fn note_acks(&mut self, stores: &Stores, acks: &Acks) {
        for group in acks.borrow_mut().drain(..) {
            self.note_attested(stores, &group);
            for member in group.members {
                let model = self.models.get_mut(&member.topic_partition).expect("known");
                let store = stores.of(member.topic_partition);
                let end = model.end;
                assert!(member.written_end <= end && member.durable_end <= member.written_end);
                model.written = model.written.max(member.written_end);
                model.durable = model.durable.max(member.durable_end);
                if member.durable_end == end && store.journal().staged_bytes() == 0 {
                    model.unsettled = false;
                }
            }
        }
    }

    /// After a recovery: nothing that was acknowledged is missing, nothing is half there, and what
    /// is there is what was sent. The model goes on from there. Says whether a failing disk let it
    /// look.
    fn check_recovered(&mut self, stores: &Stores) -> bool {
        for tp in self.logs() {
            let log = self.home.log(stores.of(tp), tp);
            let model = self.models.get_mut(&tp).expect("known");
            let end = log.borrow().log_end();
            if !model.unsettled {
                assert!(end >= model.written, "{tp}: acknowledged {}, found {end}", model.written);
                assert!(end >= model.durable, "{tp}: durable {}, found {end}", model.durable);
                let found = log.borrow().log_start();
                let possible = model.durable_start..=model.log_start;
                assert!(possible.contains(&found), "{tp}: begins at {found}, not in {possible:?}");
                model.log_start = found;
            }
            if model.unsettled {
                // Either way is right; go on from what is there.
                let start = log.borrow().log_start();
                let stored = match try_read_all(&log, start, 20_000) {
                    Err(StorageError::Read { .. }) if self.faulty => return false,
                    stored => stored.expect("read"),
                };
                model.batches = found_batches(&log.borrow(), stored);
                model.log_start = start;
                model.unsettled = false;
                model.was_cut = true;
            } else {
                let kept = model.batches.iter().filter(|sent| sent.last < end).count();
                let kept_end = model.batches[..kept].last().map(|sent| sent.last.plus(1));
                let whole = kept_end.unwrap_or(Offset(0)) == end || model.was_cut;
                assert!(whole, "{tp}: ends at {end}: a part of a batch, or more than was sent");
                model.batches.truncate(kept);
                let start = log.borrow().log_start();
                let expected = model.batches.iter().filter(|sent| sent.last >= start);
                match try_read_all(&log, start, 20_000) {
                    Err(StorageError::Read { .. }) if self.faulty => {}
                    stored => {
                        let stored = stored.expect("read");
                        assert_eq!(stored.len(), expected.clone().count(), "{tp}");
                        stored.iter().zip(expected).for_each(|(b, sent)| check_batch(b, sent));
                    }
                }
            }
            if !model.was_cut {
                check_derived(&log.borrow(), &model.batches);
            }
            model.end = end;
            (model.written, model.durable, model.attested) = (end, end, end);
            (model.durable_start, model.start_group) = (model.log_start, 0);
            // Sequences go on behind what was lost, under another id.
            model.sequence = 0;
            model.producer += 1;
        }
        true
    }
}

fn any_log_config(random: &mut Random) -> LogConfig {
    LogConfig {
        segment_bytes: [16 << 10, 64 << 10, 1 << 20, 4 << 20][random.below(4) as usize],
        segment_ms: [50, i64::MAX][random.below(2) as usize],
        flush_messages: [1, 1, 10, i64::MAX][random.below(4) as usize],
        flush_ms: [5, i64::MAX][random.below(2) as usize],
        retention_ms: [-1, 500, 5000][random.below(3) as usize],
        retention_bytes: [-1, 0, 100_000][random.below(3) as usize],
        file_delete_delay_ms: [0, 20][random.below(2) as usize],
        compaction: None,
    }
}

pub(super) type Acks = Rc<RefCell<Vec<CommittedGroup>>>;

pub(super) fn tasks(store: &Rc<Store>, acks: &Acks) -> Vec<Task> {
    let (committer, acks) = (store.clone(), acks.clone());
    let (writer, checkpointer, prewriter) = (store.clone(), store.clone(), store.clone());
    let (remover, forgetter) = (store.clone(), store.clone());
    vec![
        Box::pin(async move {
            loop {
                let group = committer.commit_group().await?;
                acks.borrow_mut().push(group);
            }
        }),
        Box::pin(async move {
            loop {
                writer.write_behind().await?;
            }
        }),
        Box::pin(async move {
            loop {
                checkpointer.checkpoint_when_due().await?;
            }
        }),
        Box::pin(async move {
            loop {
                prewriter.prewrite().await?;
            }
        }),
        Box::pin(async move {
            loop {
                remover.remove_piece().await?;
                yield_now().await;
            }
        }),
        Box::pin(async move {
            forgetter.sweep().await?;
            loop {
                forgetter.forget_dropped().await?;
                for _ in 0..30 {
                    yield_now().await;
                }
            }
        }),
    ]
}

/// What a log holds, as the model would have noted it.
fn found_batches(log: &Log, stored: Vec<Bytes>) -> Vec<Sent> {
    let sent = |bytes: Bytes| {
        let unchecked = crate::record::UncheckedBatch::from_produce(bytes).expect("one batch");
        let batch = unchecked.check().expect("whole");
        let found = batch.as_stored();
        let (base, last, epoch) =
            (found.base_offset(), found.last_offset(), found.leader_epoch().0);
        assert!(last < log.log_end());
        Sent { batch, base, last, epoch }
    };
    stored.into_iter().map(sent).collect()
}

fn check_batch(bytes: &[u8], sent: &Sent) {
    let (batch, rest) = crate::record::StoredBatch::split_first(bytes).expect("whole");
    assert!(rest.is_empty());
    assert_eq!((batch.base_offset(), batch.last_offset()), (sent.base, sent.last));
    assert_eq!(batch.leader_epoch(), LeaderEpoch(sent.epoch));
    assert_eq!(bytes[16..], sent.batch.bytes()[16..], "batch at {}", sent.base);
}

/// Epochs and producers are what the batches say.
fn check_derived(log: &Log, batches: &[Sent]) {
    let mut epochs = EpochHistory::new();
    let mut producers = ProducerTable::default();
    for sent in batches {
        epochs.assign(LeaderEpoch(sent.epoch), sent.base);
        if let Some(stamp) = sent.batch.producer() {
            producers.record(&stamp, sent.base, sent.last, sent.batch.max_timestamp());
        }
    }
    assert_eq!(*log.producers(), producers);
    if log.log_start() == Offset(0) {
        let written: Vec<_> = log.epochs().entries().to_vec();
        // An epoch that began and wrote nothing may stand behind the last one that did.
        let known = written.iter().filter(|e| e.start_offset < log.log_end().0).count();
        assert_eq!(written[..known], *epochs.entries());
    }
}
