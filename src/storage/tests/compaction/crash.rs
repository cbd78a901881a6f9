//! Compaction in lives that end at any moment. Run one case again with `THALWEG_SEED=n`.

use std::cell::Cell;
use std::collections::BTreeMap;

use futures_lite::future::yield_now;

use super::super::world::{End, Random};
use super::*;

/// What a compacted log may be after any crash: see [`CrashWorld::check`].
struct CrashWorld {
    random: Random,
    home: Home,
    disk: Rc<crate::io::sim_disk::SimDisk>,
    sent: BTreeMap<i64, Seen>,
    written: Offset,
    durable: Offset,
    passes: usize,
    dropped: usize,
}

impl CrashWorld {
    fn new(seed: u64) -> CrashWorld {
        let mut random = Random::new(seed);
        let (home, disk) = Home::simulated(small_config());
        let delete_retention_ms = [0, 20, DAY_MS][random.below(3) as usize];
        let compaction = CompactionConfig { delete_retention_ms, ..eager() };
        let segment_bytes = [16 << 10, 64 << 10][random.below(2) as usize];
        home.live(tp(1, 0), compacted(segment_bytes, compaction));
        disk.yield_at_every_call();
        let (sent, written, durable) = (BTreeMap::new(), Offset(0), Offset(0));
        CrashWorld { random, home, disk, sent, written, durable, passes: 0, dropped: 0 }
    }

    fn append(&mut self, store: &Store, log: &RefCell<Log>) {
        let codec = CODECS[self.random.below(5) as usize];
        let now_ms = self.home.clock.wall_ms();
        let mut builder = BatchBuilder::new(codec, now_ms);
        let base = log.borrow().log_end();
        assert!(base >= self.written, "an offset is used again");
        self.sent.retain(|offset, _| *offset < base.0);
        for offset in base.0..=base.0 + self.random.below(4) as i64 {
            let key = self.random.below(12).to_string().into_bytes();
            let value = (!self.random.chance(20)).then(|| {
                let mut value = offset.to_be_bytes().to_vec();
                value.resize(8 + self.random.below(2_000) as usize, offset as u8);
                value
            });
            builder.append(now_ms, Some(&key), value.as_deref(), &[]);
            self.sent.insert(offset, Seen { offset, timestamp: now_ms, key: Some(key), value });
        }
        let batch = builder.build_batch().expect("build");
        log.borrow_mut().append(store.journal(), &batch, leader(0));
    }

    /// Every record that is there is one that was sent, in order; every one that is not has a later
    /// one of its key in the log, or is a tombstone.
    fn check(&mut self, log: &RefCell<Log>) {
        let end = log.borrow().log_end();
        let written = log.borrow().written_end();
        assert!(end >= self.durable, "durable {}, found {end}", self.durable);
        let found = seen(&read_all(log, Offset(0), 20_000));
        assert!(found.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        let there: HashMap<i64, &Seen> = found.iter().map(|it| (it.offset, it)).collect();
        let mut later: HashMap<&[u8], i64> = HashMap::new();
        self.dropped = 0;
        for (offset, sent) in self.sent.range(..written.0).rev() {
            let key = sent.key.as_deref().expect("a key");
            match there.get(offset) {
                Some(found) => assert_eq!(*found, sent),
                None => {
                    let is_superseded = later.contains_key(key);
                    assert!(is_superseded || sent.value.is_none(), "{sent:?} is lost");
                    self.dropped += 1;
                }
            }
            later.entry(key).or_insert(*offset);
        }
        assert_eq!(found.iter().filter(|it| !self.sent.contains_key(&it.offset)).count(), 0);
    }

    fn live_once(&mut self, steps: u64, end: End) {
        let store = self.home.open();
        let log = self.home.log(&store, tp(1, 0));
        self.check(&log);
        (self.written, self.durable) = (log.borrow().log_end(), log.borrow().log_end());
        let finished = Rc::new(Cell::new(0));
        let acks = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = super::super::world::tasks(&store, &acks);
        tasks.push(Box::pin(compactions(store.clone(), finished.clone())));
        for _ in 0..steps {
            self.home.time.advance_ms(self.random.below(3) as u32);
            match self.random.below(100) {
                0..30 if store.journal().has_room() => self.append(&store, &log),
                30..32 => self.check(&log),
                _ => {}
            }
            let number = self.random.below(tasks.len() as u64) as usize;
            assert!(block_on(poll_once(&mut tasks[number])).is_none(), "a loop ended");
            self.written = log.borrow().written_end();
            self.durable = log.borrow().durable_end();
        }
        self.passes += finished.get();
        match end {
            End::PowerCut => {
                let after = self.disk.crash(self.random.next());
                after.yield_at_every_call();
                self.disk = after.clone();
                self.home.disk = Disk::Sim(after);
                self.written = self.durable;
            }
            End::Kill | End::Close => {}
        }
    }
}

/// Passes one after the other, for ever.
async fn compactions(store: Rc<Store>, finished: Rc<Cell<usize>>) -> Result<(), StorageError> {
    loop {
        let log = store.log(tp(1, 0)).expect("open");
        let (end, now) = (log.borrow().written_end(), store.clock().now());
        let is_due = log.borrow().compaction_need(end, now).is_some();
        let pass = is_due.then(|| store.begin_compaction(tp(1, 0), end, 1 << 20)).flatten();
        let Some(mut pass) = pass else {
            yield_now().await;
            continue;
        };
        while let CompactionProgress::Step(step) = store.compact_a_little(&mut pass).await? {
            if step.is_over {
                finished.set(finished.get() + 1);
                break;
            }
            yield_now().await;
        }
    }
}

#[test]
fn a_crash_at_any_moment_of_compaction_loses_no_last_record_of_a_key() {
    let (mut passes, mut dropped) = (0, 0);
    for seed in super::super::crash::seeds(10) {
        let mut world = CrashWorld::new(seed);
        for _ in 0..5 {
            let steps = [100, 500, 2_500][world.random.below(3) as usize];
            let end = if world.random.chance(50) { End::PowerCut } else { End::Kill };
            world.live_once(steps, end);
        }
        world.live_once(10, End::Kill);
        (passes, dropped) = (passes + world.passes, dropped + world.dropped);
    }
    let is_one = std::env::var("THALWEG_SEED").is_ok();
    assert!(is_one || passes > 10 && dropped > 100, "{passes} passes, {dropped} records gone");
}
