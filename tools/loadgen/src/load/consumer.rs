//! One consumer's connection to one leader: fetches its partitions for ever, keeps its own
//! offsets (`assign`), and times each batch from the stamp inside it.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::pacer::Pacer;
use super::progress::Progress;
use super::recorder::Recorder;
use super::verify::MarkChecker;
use crate::client::dial::{Connected, Dialer};
use crate::client::error_name;
use crate::client::frames::Broken;
use crate::wire::aborted::AbortedFilter;
use crate::wire::fetch::{self, FetchLimits, FetchRequest, FetchedBatch, FetchedPartition};
use crate::wire::produce;
use crate::wire::stamp::StampPlaces;

const RECONNECT_PAUSE_NS: u64 = 50_000_000;
/// Pause after an answer with errors, so that a broken partition is no busy loop.
const ERROR_PAUSE_NS: u64 = 20_000_000;

/// How often a consumer looks whether its backlog stands.
const BACKLOG_PAUSE_NS: u64 = 1_000_000;

/// One partition of a consumer.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Its number among all partitions of the run.
    pub id: i32,
    /// Partition index in its topic.
    pub partition: i32,
    /// The offset to start from.
    pub from: i64,
}

/// What a consumer does.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    /// The leader's address.
    pub leader: SocketAddr,
    /// Its partitions, topic by topic.
    pub topics: Vec<(String, Vec<Assigned>)>,
    /// Sizes and waits of a fetch.
    pub limits: FetchLimits,
    /// ApiVersions version to begin with.
    pub greeting: i16,
    /// Where in a batch this run's stamp may be; nowhere if end-to-end latency comes from
    /// timestamps (ms).
    pub stamps: StampPlaces,
    /// Whether batches carry this run's timestamps at all (somebody produces).
    pub timed: bool,
    /// Verify mode: the run's number in the marks of its records.
    pub verify: Option<u64>,
}

/// A consumer at work.
pub struct Consumer {
    plan: ConsumerPlan,
    dialer: Dialer,
    client_id: &'static str,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    progress: Arc<Progress>,
    /// By topic and partition: the place in the order of the assignment.
    index: HashMap<Vec<u8>, HashMap<i32, usize>>,
    catch_up: CatchUp,
    checker: Option<MarkChecker>,
}

/// Where one partition stands.
#[derive(Clone, Copy)]
struct Position {
    id: i32,
    next_offset: i64,
    caught_up: bool,
    was_caught_up: bool,
}

/// How far a consumer is with its first way to the end.
#[derive(Default)]
struct CatchUp {
    behind: Cell<usize>,
    read_bytes: Cell<u64>,
}

/// What one answer brought.
#[derive(Default)]
struct Brought {
    batches: u64,
    errors: u64,
}

impl Consumer {
    /// A consumer of `plan`. It ends once nobody produces any more (lanes of all load cores; looked
    /// at once for each fetch) and everything is read.
    #[must_use]
    pub fn new(
        plan: ConsumerPlan,
        dialer: Dialer,
        client_id: &'static str,
        pacer: Rc<Pacer>,
        recorder: Rc<Recorder>,
        progress: Arc<Progress>,
        checker: Option<MarkChecker>,
    ) -> Rc<Consumer> {
        let mut index: HashMap<Vec<u8>, HashMap<i32, usize>> = HashMap::new();
        let mut count = 0;
        for (topic, partitions) in &plan.topics {
            let places = index.entry(topic.as_bytes().to_vec()).or_default();
            places.extend(partitions.iter().zip(count..).map(|(it, idx)| (it.partition, idx)));
            count += partitions.len();
        }
        let catch_up = CatchUp { behind: Cell::new(count), ..CatchUp::default() };
        Rc::new(Consumer {
            plan,
            dialer,
            client_id,
            pacer,
            recorder,
            progress,
            index,
            catch_up,
            checker,
        })
    }

    /// Fetches until the run's end and until everything is read. Dropping the future ends it.
    pub async fn run(self: Rc<Consumer>) {
        if !self.plan.timed {
            // Reading what is there is the load: none of it before the run begins.
            self.pacer.until(self.recorder.window().start_ns).await;
        }
        let mut positions: Vec<Position> = self
            .plan
            .topics
            .iter()
            .flat_map(|(_, partitions)| partitions)
            .map(|it| Position {
                id: it.id,
                next_offset: it.from,
                caught_up: false,
                was_caught_up: false,
            })
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
        let Connected { stream, mut reader, .. } =
            self.dialer.connect(self.plan.leader, self.plan.greeting).await?;
        let topics = self.plan.topics.iter().map(|(topic, partitions)| {
            (topic.as_str(), partitions.iter().map(|it| it.partition).collect())
        });
        let topics: Vec<(&str, Vec<i32>)> = topics.collect();
        let mut request = FetchRequest::new(self.client_id, &topics, &self.plan.limits);
        let mut correlation_id = 0i32;
        while !self.progress.may_drain(self.now()) {
            self.pacer.until(self.now() + BACKLOG_PAUSE_NS).await;
        }
        self.follow_drain();
        loop {
            // Before the fetch leaves: what was acknowledged by then is in its answer or beyond it.
            let last_look = !self.progress.producing();
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

    fn follow_drain(&self) {
        if self.progress.has_backlog() {
            self.recorder.follow(self.progress.drain());
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
            .get(partition.topic)
            .and_then(|places| places.get(&partition.partition))
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
        // Without read_committed the answer names none.
        if let Some(checker) = &self.checker {
            let aborted = AbortedFilter::new(partition.aborted);
            checker.check(position.id, position.next_offset, partition.records, aborted);
        }
        let stamps = Some(&self.plan.stamps);
        let mut aborted = AbortedFilter::new(partition.aborted);
        fetch::walk_batches(partition.records, stamps, |batch| {
            let skipped = aborted.skips(batch.next_offset, batch.producer_id, batch.kind);
            if batch.next_offset > position.next_offset {
                self.note_batch(&batch, now, position.next_offset, skipped);
                position.next_offset = batch.next_offset;
                brought.batches += 1;
            }
        })
        .map_err(|_| Broken::Nonsense("a fetched batch that cannot be read"))?;
        position.caught_up = position.next_offset >= partition.high_watermark;
        if position.caught_up && !std::mem::replace(&mut position.was_caught_up, true) {
            let behind = self.catch_up.behind.get() - 1;
            self.catch_up.behind.set(behind);
            if behind == 0 {
                self.progress.caught_up(now, self.catch_up.read_bytes.get());
                self.follow_drain();
            }
        }
        Ok(())
    }

    fn note_batch(&self, batch: &FetchedBatch, now: u64, expected_offset: i64, skipped: bool) {
        let read_bytes = &self.catch_up.read_bytes;
        read_bytes.set(read_bytes.get() + batch.batch_bytes as u64);
        self.recorder.at(now, |tally| {
            let counters = &mut tally.counters;
            counters.fetched_batches += 1;
            counters.fetched_records += if skipped { 0 } else { u64::from(batch.record_count) };
            counters.fetched_bytes += batch.batch_bytes as u64;
            counters.offset_gaps += u64::from(batch.base_offset > expected_offset);
        });
        if !self.plan.timed || skipped || batch.record_count == 0 {
            return;
        }
        let intended_ns = match batch.stamp {
            Some(stamp) => stamp.intended_ns,
            None if !self.plan.stamps.places.is_empty() => return, // somebody else's batch
            // The timestamp is the intended time, cut to ms: up to 1 ms too long, never too short.
            None => match self.pacer.clock().ns_of_wall(batch.base_timestamp_ms) {
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
