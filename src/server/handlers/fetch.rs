//! Fetch, key 1, versions 4-17.
//!
//! v7 sessions (KIP-227): refused with session id 0, which makes every fetch a full one; v9 leader
//! epochs (KIP-320); v12 flexible, diverging epochs (KIP-595); v13 topics by id (KIP-516). At least
//! one whole batch is sent however small the client's limits are (KIP-74). A fetch offset inside a
//! batch gets the whole batch: the client skips what it has.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::base::clock::micros;
use crate::base::ids::{PartitionIndex, ShardId, TopicPartition};
use crate::base::signal::OneReceiver;
use crate::cluster::image::MetadataImage;
use crate::partition::read_plan::{Isolation, ReadRequest};
use crate::protocol::fetch::{
    EpochEnd, FetchPartition, FetchRequest, IsolationLevel, PartitionResult, ResponseHead,
    encode_response,
};
use crate::protocol::{ErrorCode, Malformed, TopicRef};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::errors;
use crate::server::handlers::topics::find_topic;
use crate::server::reply::Answer;
use crate::shard::reads::{OLD_BYTES_MAX, ReadAnswer, ReadAsk, ReadResult, ReadTerms, Seen};
use crate::shard::runtime::Shard;

/// A longer wait makes no sense to a client: its own request time-out is shorter.
const WAIT_MS_MAX: i32 = 60_000;
/// What one answer may hold at most, whatever the client asks for.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What one core is asked, and for which places of the response.
struct Part {
    owner: ShardId,
    slots: Vec<usize>,
    asks: Vec<ReadAsk>,
}

/// One partition of the request on its way to its result.
struct Slot<'a> {
    topic: TopicRef<'a>,
    index: PartitionIndex,
    outcome: Result<Option<ReadAnswer>, ErrorCode>,
}

/// Reads what the request asks for, waiting for it as long as the request says.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let fetch = FetchRequest::parse(request.body, version)?;
    let mut head = ResponseHead {
        correlation_id: request.header.correlation_id(),
        throttle_time_ms: 0,
        error: ErrorCode::None,
        session_id: 0,
        node_endpoints: &[],
    };
    if let Some(error) = session_error(&fetch) {
        head.error = error;
        return Ok(encode(version, &head, Vec::new()));
    }
    let (mut slots, parts) = route(&core.image(), &fetch);
    if fetch.replica().0 >= 0 {
        // There are no followers yet: whoever says that it is one is not (CVE-2018-1288).
        for slot in &mut slots {
            slot.outcome = Err(ErrorCode::ClusterAuthorizationFailed);
        }
    } else {
        let any_failed = slots.iter().any(|slot| slot.outcome.is_err());
        read_parts(core.shard(), parts, terms_of(&fetch, any_failed), &mut slots).await;
    }
    let committed = fetch.isolation() == IsolationLevel::ReadCommitted;
    let results = slots.into_iter().map(|slot| result_of(slot, committed)).collect();
    Ok(encode(version, &head, results))
}

/// Sessions are refused: a client that was never given one cannot name one.
fn session_error(fetch: &FetchRequest) -> Option<ErrorCode> {
    match (fetch.session_id(), fetch.session_epoch()) {
        (0, -1 | 0) => None,
        (0, _) => Some(ErrorCode::InvalidFetchSessionEpoch),
        _ => Some(ErrorCode::FetchSessionIdNotFound),
    }
}

fn terms_of(fetch: &FetchRequest, any_failed: bool) -> ReadTerms {
    let bytes_max = usize::try_from(fetch.bytes_max()).unwrap_or(0).min(ANSWER_BYTES_MAX);
    let bytes_min = usize::try_from(fetch.bytes_min()).unwrap_or(0);
    let wait_ms = if any_failed { 0 } else { fetch.wait_ms_max().clamp(0, WAIT_MS_MAX) };
    ReadTerms {
        // Who wants more than an answer may bring from disk does not wait for it in vain.
        bytes_min: bytes_min.min(bytes_max).min(OLD_BYTES_MAX),
        bytes_max,
        wait_max: Duration::from_millis(u64::from(wait_ms.unsigned_abs())),
    }
}

fn route<'a>(image: &MetadataImage, fetch: &'a FetchRequest) -> (Vec<Slot<'a>>, Vec<Part>) {
    let isolation = match fetch.isolation() {
        IsolationLevel::ReadUncommitted => Isolation::ReadUncommitted,
        IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
    };
    let mut slots = Vec::with_capacity(fetch.partition_count());
    let mut parts: Vec<Part> = Vec::new();
    for topic in fetch.topics() {
        let (found, missing) = find_topic(image, topic.topic());
        for partition in topic.partitions() {
            let slot = slots.len();
            let placed = match found {
                None => Err(missing),
                Some(topic) => topic
                    .partition(partition.index())
                    .map(|placed| (topic.id(), placed.shard()))
                    .ok_or(ErrorCode::UnknownTopicOrPartition),
            };
            slots.push(Slot {
                topic: topic.topic(),
                index: partition.index(),
                outcome: placed.map(|_| None),
            });
            let Ok((topic_id, owner)) = placed else { continue };
            let tp = TopicPartition { topic_id, partition: partition.index() };
            let ask = ReadAsk { tp, request: read_request(&partition, isolation) };
            match parts.iter_mut().find(|part| part.owner == owner) {
                Some(part) => {
                    part.slots.push(slot);
                    part.asks.push(ask);
                }
                None => parts.push(Part { owner, slots: vec![slot], asks: vec![ask] }),
            }
        }
    }
    (slots, parts)
}

fn read_request(partition: &FetchPartition, isolation: Isolation) -> ReadRequest {
    ReadRequest {
        fetch_offset: partition.fetch_offset(),
        bytes_max: usize::try_from(partition.bytes_max()).unwrap_or(0),
        current_leader_epoch: partition.current_epoch(),
        last_fetched_epoch: partition.last_fetched_epoch(),
        isolation,
    }
}

/// Reads on all owners. Where there is only one, it waits there by itself; otherwise this core looks
/// at all, and has them watched while there is too little.
async fn read_parts(
    shard: &Rc<Shard>,
    mut parts: Vec<Part>,
    terms: ReadTerms,
    slots: &mut [Slot<'_>],
) {
    if parts.is_empty() {
        return; // Nothing to wait for: the Java consumer closes with a fetch of no topics.
    }
    if parts.len() == 1 {
        let Some(part) = parts.pop() else { return };
        let results = shard.read(part.owner, part.asks, terms).await;
        store(slots, &part.slots, results.unwrap_or_default());
        return;
    }
    let wait_us = micros(terms.wait_max);
    let deadline_us = shard.clock().mono_us().saturating_add(wait_us);
    let now = ReadTerms { bytes_min: 0, wait_max: Duration::ZERO, ..terms };
    loop {
        let reads: Vec<_> =
            parts.iter().map(|part| shard.read(part.owner, part.asks.clone(), now)).collect();
        for (part, read) in parts.iter().zip(reads) {
            store(slots, &part.slots, read.await.unwrap_or_default());
        }
        let left_us = deadline_us.saturating_sub(shard.clock().mono_us());
        if left_us == 0 || shard.is_draining() || is_enough(slots, terms.bytes_min) {
            break;
        }
        let left = Duration::from_micros(left_us);
        let watches = parts.iter().map(|part| shard.watch(part.owner, seen(part, slots), left));
        first_of(watches.collect()).await;
    }
    trim(slots, terms.bytes_max);
}

fn store(slots: &mut [Slot<'_>], places: &[usize], results: Vec<ReadResult>) {
    let mut results = results.into_iter();
    for &place in places {
        slots[place].outcome = match results.next() {
            Some(Ok(answer)) => Ok(Some(answer)),
            Some(Err(failure)) => Err(errors::of_read(&failure)),
            None => Err(ErrorCode::NotLeaderOrFollower),
        };
    }
}

fn bytes_of(slot: &Slot<'_>) -> usize {
    match &slot.outcome {
        Ok(Some(answer)) => answer.records.iter().map(Bytes::len).sum(),
        _ => 0,
    }
}

fn is_enough(slots: &[Slot<'_>], bytes_min: usize) -> bool {
    let settled = |slot: &Slot<'_>| match &slot.outcome {
        Err(_) => true,
        Ok(answer) => answer.as_ref().is_some_and(|answer| answer.diverging.is_some()),
    };
    slots.iter().any(settled) || slots.iter().map(bytes_of).sum::<usize>() >= bytes_min
}

/// Every owner kept to the limit by itself; together they may be over it.
fn trim(slots: &mut [Slot<'_>], bytes_max: usize) {
    let mut sent = 0;
    for slot in slots {
        let bytes = bytes_of(slot);
        if sent > 0 && sent + bytes > bytes_max {
            if let Ok(Some(answer)) = &mut slot.outcome {
                answer.records.clear();
            }
        } else {
            sent += bytes;
        }
    }
}

fn seen(part: &Part, slots: &[Slot<'_>]) -> Vec<Seen> {
    let seen_at = |(place, ask): (&usize, &ReadAsk)| match &slots[*place].outcome {
        Ok(Some(answer)) => Some(Seen { tp: ask.tp, high_watermark: answer.high_watermark }),
        _ => None,
    };
    part.slots.iter().zip(&part.asks).filter_map(seen_at).collect()
}

/// Resolves with the first of `waits`.
async fn first_of(mut waits: Vec<OneReceiver<()>>) {
    std::future::poll_fn(|cx| {
        for wait in &mut waits {
            if Pin::new(wait).poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

fn result_of<'a>(slot: Slot<'a>, committed: bool) -> PartitionResult<'a> {
    match slot.outcome {
        Err(error) => PartitionResult::failed(slot.topic, slot.index, error),
        Ok(None) => PartitionResult::failed(slot.topic, slot.index, ErrorCode::UnknownServerError),
        Ok(Some(answer)) => PartitionResult {
            topic: slot.topic,
            index: slot.index,
            error: ErrorCode::None,
            high_watermark: answer.high_watermark,
            last_stable: answer.last_stable,
            log_start: answer.log_start,
            diverging: answer.diverging.map(|(epoch, end)| EpochEnd { epoch, end }),
            current_leader: None,
            aborted: committed.then(Vec::new),
            preferred_replica: None,
            records: answer.records,
        },
    }
}

fn encode(version: i16, head: &ResponseHead<'_>, results: Vec<PartitionResult<'_>>) -> Answer {
    match encode_response(version, head, results) {
        Ok(slices) => Answer::Send(slices),
        Err(problem) => Answer::Close(format!("Fetch: {problem}")),
    }
}
