//! The way from any core to a partition's owner: a plain call on the same core, otherwise one
//! message for all partitions that one request has there.

use std::rc::Rc;

use bytes::Bytes;
use thiserror::Error;

use super::mesh::Reply;
use super::runtime::Shard;
use super::task;
use crate::base::ids::{Offset, ShardId, TopicPartition};
use crate::base::signal::OneReceiver;
use crate::partition::ack_queue::AckError;
use crate::partition::append::{AppendError, AppendTicket};
use crate::record::{BatchError, UncheckedBatch};

/// One batch for one partition, as it came.
pub struct AppendAsk {
    /// Where it goes.
    pub tp: TopicPartition,
    /// What the request holds for the partition: one batch if the client keeps the rules.
    pub records: Bytes,
    /// Whether the memory that they lie in may be kept for as long as they are.
    pub fills_memory: bool,
}

/// A batch that is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// What the response says as log append time, if anything.
    pub log_append_time_ms: Option<i64>,
    /// The partition's first offset.
    pub log_start: Offset,
}

/// Why a batch is not acknowledged.
#[derive(Clone, Copy, Debug, Error)]
pub enum AppendFailure {
    /// This core does not own the partition (any more).
    #[error("the partition is not here")]
    NotOwned,
    /// The bytes are not one batch of format 2.
    #[error(transparent)]
    Shape(#[from] BatchError),
    /// The batch was refused; nothing was appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The batch was appended, but will not be acknowledged.
    #[error(transparent)]
    Ack(#[from] AckError),
}

/// How one [`AppendAsk`] ended.
pub type AppendOutcome = Result<Appended, AppendFailure>;

impl Shard {
    /// Appends on the owner, in the order of the calls and of `asks`. The batches are sequenced when
    /// the owner sees the message; the receiver resolves when all are acknowledged or refused.
    pub fn append(
        self: &Rc<Self>,
        owner: ShardId,
        asks: Vec<AppendAsk>,
    ) -> OneReceiver<Vec<AppendOutcome>> {
        self.call(owner, move |shard, reply| append_here(shard, &asks, reply))
    }
}

fn append_here(shard: &Rc<Shard>, asks: &[AppendAsk], reply: Reply<Vec<AppendOutcome>>) {
    let now_ms = shard.clock().wall_ms();
    let tickets: Vec<_> = asks.iter().map(|ask| append_one(shard, ask, now_ms)).collect();
    let shard = shard.clone();
    task::spawn(async move {
        let mut outcomes = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            outcomes.push(acknowledged(ticket).await);
        }
        reply.send(&shard, outcomes);
    });
}

fn append_one(shard: &Shard, ask: &AppendAsk, now_ms: i64) -> Result<AppendTicket, AppendFailure> {
    let owned = shard.table().get(&ask.tp).ok_or(AppendFailure::NotOwned)?;
    let batch = UncheckedBatch::from_produce(ask.records.clone())?;
    let batch = batch.filling_memory(ask.fills_memory);
    let mut partition = owned.partition().borrow_mut();
    Ok(partition.append(owned.store().journal(), batch, now_ms)?)
}

async fn acknowledged(ticket: Result<AppendTicket, AppendFailure>) -> AppendOutcome {
    let ticket = ticket?;
    ticket.acked.await?;
    Ok(Appended {
        base_offset: ticket.base_offset,
        log_append_time_ms: ticket.log_append_time_ms,
        log_start: ticket.log_start,
    })
}
