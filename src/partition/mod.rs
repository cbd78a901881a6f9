//! One partition on the core that owns it: what may be appended, what may be acknowledged, what
//! may be read. Methods of [`Partition`] are spread by verb over the files beside this one.
//!
//! Not here: bytes on disk and in the journal (`storage`), the wire and its error codes (`protocol`,
//! `server`), which partition lives where (`shard`, `cluster`). Nothing here waits: whatever takes
//! time is a plan or a future that the caller drives outside of any borrow of the partition.
//!
//! Lives on: the owning shard only, single-threaded, no locks.
//!
//! Invariants, each asserted where its state changes, in release too:
//! - `log_start <= local_log_start <= last_stable <= high_watermark <= ackable <= log_end`, and
//!   none of them goes back ([`Offsets`]);
//! - `ackable` is the durable end where the topic syncs before it acknowledges, else the written
//!   end; a batch is acknowledged only below it, in offset order ([`AckQueue`]);
//! - a single replica commits what it may acknowledge: high watermark = ackable; without open
//!   transactions the last stable offset is the high watermark;
//! - a closed partition stays closed: nothing is acknowledged after a failed write or sync.
//!
//! Callers: `shard` (router and commit loop); `coordinator` for internal partitions.

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::base::signal::Event;
use crate::storage::{Journal, Log};

pub mod ack_queue;
pub mod admission;
pub mod append;
pub mod append_error;
pub mod config;
pub mod epochs;
pub mod fetch_queue;
pub mod high_watermark;
pub mod list_offsets;
pub mod log_start;
pub mod offsets;
pub mod read_plan;

use ack_queue::{AckError, AckQueue};
use config::PartitionConfig;
use fetch_queue::FetchQueue;
use offsets::{OffsetChain, Offsets};

/// Why a partition takes no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Another shard or broker owns it now (NOT_LEADER_OR_FOLLOWER, 6).
    #[error("the partition has moved")]
    Moved,
    /// Its topic was deleted (UNKNOWN_TOPIC_OR_PARTITION, 3).
    #[error("the partition was deleted")]
    Deleted,
    /// The broker stops (NOT_LEADER_OR_FOLLOWER, 6).
    #[error("the broker is stopping")]
    Stopping,
    /// A write or sync of its log directory has failed, and the directory with it, for the life of
    /// this process (KAFKA_STORAGE_ERROR, 56).
    #[error("the log directory has failed")]
    StorageFailed,
}

/// One partition, led by this broker.
pub struct Partition {
    log: Rc<RefCell<Log>>,
    topic_partition: TopicPartition,
    leader_epoch: LeaderEpoch,
    config: PartitionConfig,
    offsets: Offsets,
    /// Below this, written is enough although the topic syncs first now: those batches were taken
    /// when it did not, and none of them asked the journal for a sync.
    written_is_enough_below: Offset,
    acks: AckQueue,
    fetches: FetchQueue,
    closed: Option<CloseReason>,
}

impl Partition {
    /// Leads the partition of `log` in `leader_epoch`, which begins at the log's end. Everything
    /// that recovery left in the log is committed.
    #[must_use]
    pub fn open(
        log: Rc<RefCell<Log>>,
        journal: &Journal,
        leader_epoch: LeaderEpoch,
        config: PartitionConfig,
    ) -> Partition {
        let (topic_partition, offsets) = {
            let mut log = log.borrow_mut();
            log.start_epoch(journal, leader_epoch);
            log.set_config(config.log.clone());
            (log.topic_partition(), Offsets::recovered(log.log_start(), log.log_end()))
        };
        Partition {
            log,
            topic_partition,
            leader_epoch,
            config,
            offsets,
            written_is_enough_below: Offset::ZERO,
            acks: AckQueue::new(),
            fetches: FetchQueue::new(),
            closed: None,
        }
    }

    /// Which partition this is.
    #[must_use]
    pub fn topic_partition(&self) -> TopicPartition {
        self.topic_partition
    }

    /// The epoch in which this broker leads.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The offsets as they are now.
    #[must_use]
    pub fn offsets(&self) -> &OffsetChain {
        self.offsets.get()
    }

    /// The log below.
    #[must_use]
    pub fn log(&self) -> &Rc<RefCell<Log>> {
        &self.log
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &PartitionConfig {
        &self.config
    }

    /// Puts other settings in force, for appends and acknowledgements from now on. What may be
    /// acknowledged already stays so.
    pub fn set_config(&mut self, config: PartitionConfig) {
        if config.syncs_before_ack() && !self.config.syncs_before_ack() {
            self.written_is_enough_below = self.offsets.get().log_end;
        }
        self.log.borrow_mut().set_config(config.log.clone());
        self.config = config;
    }

    /// Has `fetch` notified once, when the high watermark moves or the partition closes. One event
    /// can be parked on many partitions. Park right after the read that found too little, without
    /// an `.await` between.
    pub fn park(&self, fetch: &Rc<Event>) {
        self.fetches.park(fetch);
    }

    /// Wakes the fetches that are parked although nothing has changed here: because the core stops.
    pub fn wake_parked(&self) {
        self.fetches.wake();
    }

    /// Takes no more work: fails all who wait for an acknowledgement, wakes all who wait for
    /// records. The first reason stands.
    pub fn close(&mut self, reason: CloseReason) {
        let reason = *self.closed.get_or_insert(reason);
        self.acks.fail(AckError::Closed(reason));
        self.fetches.wake();
    }

    /// Why the partition is closed, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }
}

#[cfg(test)]
mod tests;
