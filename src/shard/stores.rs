//! This shard's stores and the loops that keep them going: commit, write-behind, checkpoint,
//! pre-writing, timed flushes, retention, compaction, removal of files, the scrub.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tracing::{debug, error};

use super::compaction::{self, CompactionPace};
use super::log_starts;
use super::runtime::Shard;
use super::scrub::{ScrubPace, scrub};
use super::task::{self, Task};
use crate::partition::CloseReason;
use crate::storage::StorageError;
use crate::storage::Store;

/// How often topics with `flush.ms` are looked at.
const FLUSH_TICK: Duration = Duration::from_millis(100);

/// Ticks between two looks at silent producers: ten minutes, as in Kafka.
const EXPIRY_TICKS: u32 = 6000;

/// Ticks between two looks at the room of a file system that is not full: a second.
const ROOM_TICKS: u32 = 10;

/// What the loops of a store do by the clock.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    /// Producers that have been silent for so long are forgotten.
    pub producer_idle_max: Duration,
    /// Time between two looks for what is old.
    pub retention_check: Duration,
    /// `None` where `log.cleaner.enable` is false.
    pub compaction: Option<CompactionPace>,
    /// When and how fast closed segments are scrubbed.
    pub scrub: ScrubPace,
}

/// The stores of one shard, in the order of the data directories.
#[derive(Default)]
pub struct Stores {
    stores: RefCell<Vec<Rc<Store>>>,
    loops: RefCell<Vec<Task<()>>>,
    closing: Cell<bool>,
}

impl Stores {
    /// The store in the data directory at `dir_idx`.
    #[must_use]
    pub fn get(&self, dir_idx: usize) -> Option<Rc<Store>> {
        self.stores.borrow().get(dir_idx).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<Store>> {
        self.stores.borrow().clone()
    }

    /// Adds the store of the next data directory and starts its loops.
    pub fn start(&self, shard: &Rc<Shard>, store: Rc<Store>, upkeep: Upkeep) {
        let Upkeep { producer_idle_max, retention_check, compaction, scrub: scrub_pace } = upkeep;
        let mut loops = self.loops.borrow_mut();
        loops.push(task::spawn_joinable(commit(shard.clone(), store.clone())));
        loops.push(task::spawn_joinable(write_behind(shard.clone(), store.clone())));
        loops.push(task::spawn_joinable(checkpoint(shard.clone(), store.clone())));
        loops.push(task::spawn_joinable(prewrite(shard.clone(), store.clone())));
        loops.push(task::spawn_joinable(tick(shard.clone(), store.clone(), producer_idle_max)));
        loops.push(task::spawn_joinable(log_starts::remove(shard.clone(), store.clone())));
        let retain = log_starts::retain(shard.clone(), store.clone(), retention_check);
        loops.push(task::spawn_joinable(retain));
        if let Some(pace) = compaction {
            let compact = compaction::compact(shard.clone(), store.clone(), pace);
            loops.push(task::spawn_joinable(compact));
        }
        loops.push(task::spawn_joinable(scrub(shard.clone(), store.clone(), scrub_pace)));
        drop(loops);
        self.stores.borrow_mut().push(store);
    }

    /// Whether the shard is closing its stores.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Ends the loops once what is staged has been committed, then writes everything into segments
    /// and leaves a clean checkpoint in each store.
    ///
    /// # Errors
    /// The first store that could not be closed cleanly; the others are closed all the same.
    pub async fn close(&self) -> Result<(), StorageError> {
        self.closing.set(true);
        let stores = self.stores.take();
        for store in &stores {
            store.begin_close();
        }
        for ended in self.loops.take() {
            ended.join().await;
        }
        let mut result = Ok(());
        for store in stores {
            if let Err(problem) = store.clone().close().await {
                error!("a store was not closed cleanly: {problem}");
                result = Err(problem);
            }
            let copies = store.copy_ledger();
            debug!(
                bytes_staged = copies.bytes_staged(),
                bytes_extents = copies.bytes_extents(),
                bytes_large = copies.bytes_large(),
                "record bytes copied by a store, and written straight into segments"
            );
        }
        result
    }
}

/// Writes group after group and tells the partitions in each how far they are.
async fn commit(shard: Rc<Shard>, store: Rc<Store>) {
    let problem = loop {
        match store.commit_group().await {
            Ok(group) => {
                for member in &group.members {
                    if let Some(owned) = shard.table().get(&member.topic_partition) {
                        let mut partition = owned.partition().borrow_mut();
                        partition.on_committed(member.written_end, member.durable_end);
                    }
                }
                store.look_at_room_after_writes();
            }
            Err(problem) => break problem,
        }
    };
    ended(&shard, &store, &problem);
}

async fn write_behind(shard: Rc<Shard>, store: Rc<Store>) {
    loop {
        if let Err(problem) = store.write_behind().await {
            return ended(&shard, &store, &problem);
        }
        task::yield_if_needed().await;
    }
}

async fn checkpoint(shard: Rc<Shard>, store: Rc<Store>) {
    loop {
        if let Err(problem) = store.checkpoint_when_due().await {
            return ended(&shard, &store, &problem);
        }
    }
}

async fn prewrite(shard: Rc<Shard>, store: Rc<Store>) {
    loop {
        if let Err(problem) = store.prewrite().await {
            return ended(&shard, &store, &problem);
        }
    }
}

/// What happens by the clock: looks at the file system and at the directory, syncs that `flush.ms`
/// asks for, and forgetting silent producers.
async fn tick(shard: Rc<Shard>, store: Rc<Store>, producer_idle_max: Duration) {
    let idle_ms_max = i64::try_from(producer_idle_max.as_millis()).unwrap_or(i64::MAX);
    let mut ticks: u32 = 0;
    while !shard.stores().is_closing() {
        task::sleep(FLUSH_TICK).await;
        let now_ms = shard.clock().wall_ms();
        if store.sync_due(now_ms) {
            store.request_sync();
        }
        ticks = ticks.wrapping_add(1);
        if store.is_full() || ticks.is_multiple_of(ROOM_TICKS) {
            store.look_at_room();
        }
        store.follow_directory();
        if ticks.is_multiple_of(EXPIRY_TICKS) {
            for (_, owned) in shard.table().all() {
                if Rc::ptr_eq(owned.store(), &store) {
                    let partition = owned.partition().borrow();
                    partition.log().borrow_mut().expire_producers(now_ms, idle_ms_max);
                }
                task::yield_if_needed().await;
            }
        }
    }
}

/// A loop is over: because the store closes, or because of the first failed write or sync, after
/// which nothing in it is acknowledged any more.
pub(super) fn ended(shard: &Shard, store: &Rc<Store>, problem: &StorageError) {
    if matches!(problem, StorageError::Closing | StorageError::NoRoom) {
        return; // the store closes
    }
    let mut closed = 0;
    for (_, owned) in shard.table().all() {
        let mut partition = owned.partition().borrow_mut();
        if Rc::ptr_eq(owned.store(), store) && partition.closed().is_none() {
            partition.close(CloseReason::StorageFailed);
            closed += 1;
        }
    }
    // The other loops of the store end for the same reason and find nothing left to close.
    if closed > 0 {
        error!(shard = %shard.id(), closed, "a data directory is offline: {problem}");
    }
}
