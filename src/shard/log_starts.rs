//! Moves of log starts on the owning core: deleting records on request, and retention, which looks at
//! every log of the core once in `log.retention.check.interval.ms`; and the removal of the files that
//! are left over by both.

use std::rc::Rc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::debug;

use super::mesh::Reply;
use super::runtime::Shard;
use super::stores::ended;
use super::table::Owned;
use super::task;
use crate::base::ids::{Offset, ShardId, TopicPartition};
use crate::base::signal::OneReceiver;
use crate::partition::log_start::{DeleteRecordsError, StagedStart};
use crate::storage::{StorageError, Store};

/// Logs whose starts move together: one durable group of the journal for all of them.
const MOVES_AT_ONCE: usize = 256;

/// How long others have the disk to themselves behind a piece of removed files, in parts of what the
/// piece took: a device that is slow to forget is left alone for longer.
const REMOVAL_PAUSE: u32 = 4;

/// How often files are looked at whose delay (`file.delete.delay.ms`) is not over.
const REMOVAL_TICK: Duration = Duration::from_secs(1);

/// Why records of one partition are not deleted.
#[derive(Clone, Debug, Error)]
pub enum DeleteRecordsFailure {
    /// This core does not own the partition (any more).
    #[error("the partition is not here")]
    NotOwned,
    /// Nothing was deleted.
    #[error(transparent)]
    Refused(#[from] DeleteRecordsError),
    /// The deletion could not be made durable.
    #[error("{0}")]
    Storage(String),
}

/// How a deletion of records ended: where the log begins now.
pub type DeleteRecordsOutcome = Result<Offset, DeleteRecordsFailure>;

impl Shard {
    /// Deletes the records before an offset (-1: the high watermark) on the owner. Resolves when that
    /// is durable.
    pub fn delete_records(
        self: &Rc<Self>,
        owner: ShardId,
        tp: TopicPartition,
        before: Offset,
    ) -> OneReceiver<DeleteRecordsOutcome> {
        self.call(owner, move |shard, reply: Reply<DeleteRecordsOutcome>| {
            let shard = shard.clone();
            task::spawn(async move {
                let outcome = delete_here(&shard, &tp, before).await;
                reply.send(&shard, outcome);
            });
        })
    }
}

async fn delete_here(shard: &Shard, tp: &TopicPartition, before: Offset) -> DeleteRecordsOutcome {
    let owned = shard.table().get(tp).ok_or(DeleteRecordsFailure::NotOwned)?;
    let journal = owned.store().journal();
    let staged = owned.partition().borrow_mut().delete_records(journal, before)?;
    let durable = journal.until_durable(staged.group).await;
    durable.map_err(|problem| DeleteRecordsFailure::Storage(problem.to_string()))?;
    let log_start = owned.partition().borrow_mut().start_moved(staged);
    Ok(log_start)
}

/// Looks at the store's logs again and again.
pub(super) async fn retain(shard: Rc<Shard>, store: Rc<Store>, check_interval: Duration) {
    let mut is_swept = false;
    while task::timeout(check_interval, store.until_over()).await.is_none() {
        let looked = async {
            if !std::mem::replace(&mut is_swept, true) {
                store.sweep().await?;
            }
            look(&shard, &store).await
        };
        if let Err(problem) = looked.await {
            return ended(&shard, &store, &problem);
        }
    }
}

/// One look at every log, a few at a time.
async fn look(shard: &Shard, store: &Rc<Store>) -> Result<(), StorageError> {
    let owned: Vec<Rc<Owned>> = shard.table().all().into_iter().map(|(_, owned)| owned).collect();
    let mine: Vec<&Rc<Owned>> = owned.iter().filter(|it| Rc::ptr_eq(it.store(), store)).collect();
    for some in mine.chunks(MOVES_AT_ONCE) {
        let mut moves: Vec<(&Rc<Owned>, StagedStart)> = Vec::new();
        for owned in some {
            let now = shard.clock().now();
            let staged = owned.partition().borrow_mut().retain(store.journal(), now);
            moves.extend(staged.map(|staged| (*owned, staged)));
            task::yield_if_needed().await;
        }
        let Some(last) = moves.iter().map(|(_, staged)| staged.group).max() else { continue };
        store.journal().until_durable(last).await?;
        for (owned, staged) in moves {
            let mut partition = owned.partition().borrow_mut();
            let log_start = partition.start_moved(staged);
            debug!(tp = %partition.topic_partition(), %log_start, "old segments go");
        }
    }
    store.forget_dropped().await
}

/// Removes files that nothing needs any more, with pauses, unless the room is needed now.
pub(super) async fn remove(shard: Rc<Shard>, store: Rc<Store>) {
    while !shard.stores().is_closing() {
        let began = Instant::now();
        match store.remove_piece().await {
            Err(problem) => return ended(&shard, &store, &problem),
            Ok(true) if store.journal().check_disk().is_err() => {}
            Ok(true) => {
                task::timeout(began.elapsed() * REMOVAL_PAUSE, store.until_over()).await;
            }
            Ok(false) if store.has_removals() => {
                task::timeout(REMOVAL_TICK, store.removals_come()).await;
            }
            Ok(false) => store.removals_come().await,
        }
    }
}
