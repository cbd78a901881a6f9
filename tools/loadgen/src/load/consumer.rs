//! One consumer's connection to one leader: fetches its partitions for ever, keeps its own
//! offsets (`assign`), and times each batch from the stamp inside it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use thalweg::io::tcp::TcpStream;

use super::pacer::Pacer;
use super::recorder::Recorder;
use super::verify::MarkChecker;
use crate::client::frames::{Broken, FrameReader};
use crate::client::{admin, error_name};
use crate::wire::fetch::{self, FetchLimits, FetchRequest, FetchedBatch, FetchedPartition};
use crate::wire::produce;

const RECONNECT_PAUSE_NS: u64 = 50_000_000;
/// Pause after an answer with errors, so that a broken partition is no busy loop.
const ERROR_PAUSE_NS: u64 = 20_000_000;

/// What a consumer does.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    /// The leader's address.
    pub leader: SocketAddr,
    /// Topic.
    pub topic: String,
    /// Its partitions and the offsets to start from.
    pub partitions: Vec<(i32, i64)>,
    /// Sizes and waits of a fetch.
    pub limits: FetchLimits,
    /// ApiVersions version to begin with.
    pub greeting: i16,
    /// This run's stamps.
    pub run: u8,
    /// Where in a batch the stamp is; `None` if end-to-end latency comes from timestamps (ms).
    pub stamp_at: Option<usize>,
    /// Whether batches carry this run's timestamps at all (somebody produces).
    pub timed: bool,
    /// Verify mode: the run's number in the marks of its records.
    pub verify: Option<u64>,
}

/// A consumer at work.
pub struct Consumer {
    plan: ConsumerPlan,
    client_id: &'static str,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    producing: Arc<AtomicUsize>,
    index: HashMap<i32, usize>,
    checker: Option<MarkChecker>,
}

/// Where one partition stands.
#[derive(Clone, Copy)]
struct Position {
    next_offset: i64,
    caught_up: bool,
}

/// What one answer brought.
#[derive(Default)]
struct Brought {
    batches: u64,
    errors: u64,
}

impl Consumer {
    /// A consumer of `plan`. It ends once nobody is `producing` any more (lanes of all load cores;
    /// looked at once for each fetch) and everything is read.
    #[must_use]
    pub fn new(
        plan: ConsumerPlan,
        client_id: &'static str,
        pacer: Rc<Pacer>,
        recorder: Rc<Recorder>,
        producing: Arc<AtomicUsize>,
        checker: Option<MarkChecker>,
    ) -> Rc<Consumer> {
        let index =
            plan.partitions.iter().enumerate().map(|(idx, &(part, _))| (part, idx)).collect();
        Rc::new(Consumer { plan, client_id, pacer, recorder, producing, index, checker })
    }

    /// Fetches until the run's end and until everything is read. Dropping the future ends it.
    pub async fn run(self: Rc<Consumer>) {
        let mut positions: Vec<Position> = self
            .plan
            .partitions
            .iter()
            .map(|&(_, next_offset)| Position { next_offset, caught_up: false })
            .collect();
        loop {
            match self.connected(&mut positions).await {
                Ok(()) => return,
                Err(broken) => {
                    let now = self.now();
                    self.recorder.error(now, "connection", broken.to_string());
                    if now >= self.recorder.window().deadline_ns {
                        return;
                    }
                    self.pacer.until(now + RECONNECT_PAUSE_NS).await;
                }
            }
        }
    }

    fn now(&self) -> u64 {
        self.pacer.clock().now_ns()
    }

    async fn connected(&self, positions: &mut [Position]) -> Result<(), Broken> {
        let stream = TcpStream::connect(self.plan.leader).await?;
        let mut reader = FrameReader::new(stream.clone());
        admin::greet(&stream, &mut reader, self.plan.greeting).await?;
        let indexes: Vec<i32> = self.plan.partitions.iter().map(|&(part, _)| part).collect();
        let mut request =
            FetchRequest::new(&self.plan.topic, self.client_id, &indexes, &self.plan.limits);
        let mut correlation_id = 0i32;
        loop {
            // Before the fetch leaves: what was acknowledged by then is in its answer or beyond it.
            let last_look = self.producing.load(Ordering::Acquire) == 0;
            let offsets = positions.iter().map(|position| position.next_offset);
            let frame = Bytes::copy_from_slice(request.patch(correlation_id, offsets));
            self.pacer.worked();
            stream.send_slices(vec![frame]).await?;
            let frame = reader.frame().await?;
            let now = self.now();
            self.pacer.worked();
            let bytes = &reader.bytes()[frame.clone()];
            let nonsense = |_| Broken::Nonsense("a Fetch answer that cannot be read");
            if produce::correlation_id(bytes).map_err(nonsense)? != correlation_id {
                return Err(Broken::Nonsense("answers out of order"));
            }
            let brought = self.read_answer(bytes, now, positions)?;
            reader.consume(&frame);
            correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
            if last_look && positions.iter().all(|it| it.caught_up) {
                return Ok(());
            }
            if brought.errors > 0 {
                self.pacer.until(now + ERROR_PAUSE_NS).await;
            }
        }
    }

    fn read_answer(
        &self,
        frame: &[u8],
        now: u64,
        positions: &mut [Position],
    ) -> Result<Brought, Broken> {
        let mut brought = Brought::default();
        let mut result = Ok(());
        let error = fetch::parse_response(frame, |partition| {
            let step = self.read_partition(&partition, now, positions, &mut brought);
            result = std::mem::replace(&mut result, Ok(())).and(step);
        })
        .map_err(|_| Broken::Nonsense("a Fetch answer that cannot be read"))?;
        result?;
        if error != 0 {
            brought.errors += 1;
            self.recorder.error(now, "Fetch", error_name(error));
        }
        self.recorder.at(now, |tally| {
            tally.counters.fetches += 1;
            tally.counters.empty_fetches += u64::from(brought.batches == 0);
        });
        Ok(brought)
    }

    fn read_partition(
        &self,
        partition: &FetchedPartition<'_>,
        now: u64,
        positions: &mut [Position],
        brought: &mut Brought,
    ) -> Result<(), Broken> {
        let position = self
            .index
            .get(&partition.partition)
            .and_then(|&idx| positions.get_mut(idx))
            .ok_or(Broken::Nonsense("an answer for a partition that was not asked for"))?;
        if partition.error != 0 {
            brought.errors += 1;
            self.recorder.error(now, "Fetch", error_name(partition.error));
            // Retention overtook us: go on where the log begins.
            if partition.error == 1 && partition.log_start > position.next_offset {
                position.next_offset = partition.log_start;
            }
            return Ok(());
        }
        if let Some(checker) = &self.checker {
            checker.check(partition.partition, position.next_offset, partition.records);
        }
        fetch::walk_batches(partition.records, self.plan.stamp_at, |batch| {
            if batch.next_offset > position.next_offset {
                self.note_batch(&batch, now, position.next_offset);
                position.next_offset = batch.next_offset;
                brought.batches += 1;
            }
        })
        .map_err(|_| Broken::Nonsense("a fetched batch that cannot be read"))?;
        position.caught_up = position.next_offset >= partition.high_watermark;
        Ok(())
    }

    fn note_batch(&self, batch: &FetchedBatch, now: u64, expected_offset: i64) {
        self.recorder.at(now, |tally| {
            let counters = &mut tally.counters;
            counters.fetched_batches += 1;
            counters.fetched_records += u64::from(batch.record_count);
            counters.fetched_bytes += batch.batch_bytes as u64;
            counters.offset_gaps += u64::from(batch.base_offset > expected_offset);
        });
        if !self.plan.timed {
            return;
        }
        let intended_ns = match (self.plan.stamp_at, batch.stamp) {
            (Some(_), Some(stamp)) if stamp.run == self.plan.run => stamp.intended_ns,
            (Some(_), _) => return, // somebody else's batch
            // The timestamp is the intended time, cut to ms: up to 1 ms too long, never too short.
            (None, _) => match self.pacer.clock().ns_of_wall(batch.base_timestamp_ms) {
                Some(intended_ns) => intended_ns,
                None => return,
            },
        };
        self.recorder.at(intended_ns, |tally| {
            let latency = now.saturating_sub(intended_ns).max(1);
            tally.latencies.end_to_end.saturating_record(latency);
        });
    }
}
