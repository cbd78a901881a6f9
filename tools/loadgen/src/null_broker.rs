//! A broker that keeps nothing: answers what this tool asks, at once. Against it the generator
//! measures itself (its limit), and tests make it stall or fail.
//!
//! Not here: durability, correctness for anybody else. One executor, one core.
//! Callers: `main` (`null-broker`), tests.

mod quick;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thalweg::base::ids::{Offset, PartitionIndex};
use thalweg::base::signal::Event;
use thalweg::io::tcp::{TcpListener, TcpStream};
use thalweg::protocol::codec::messages::{self, KafkaResponse};
use thalweg::protocol::codec::{decode, encode_response};
use thalweg::protocol::{ApiKey, ErrorCode, RequestHeader, api_key, fetch, produce};

use crate::args::{Idle, NullBrokerArgs};
use crate::client::frames::{Broken, FrameReader};
use crate::clock::RunClock;
use crate::load::core::{driven, on_core};
use crate::load::pacer::Pacer;
use crate::run::{Outcome, RunError};
use crate::units::Rate;
use crate::wire::fetch::walk_batches;
use crate::wire::produce::PRODUCE_VERSION_MAX;
use quick::{HEAD_BYTES, OneBatch};

/// Batches kept for each partition, where any are: enough for a reader that keeps up.
const BATCHES_KEPT_MAX: usize = 1024;

/// What a broker must not do with what it acknowledged; verify mode is tried on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Every tenth batch is acknowledged and not kept.
    Lose,
    /// Every tenth batch is kept twice.
    Repeat,
    /// A byte of every tenth batch is changed.
    Spoil,
}

/// How the null broker behaves.
#[derive(Clone, Debug, Default)]
pub struct NullOptions {
    /// Keep the latest batches in memory, so that consumers get something.
    pub keep: bool,
    /// Answer nothing for so long, from then on after the first Produce request: `(after, for)`.
    pub stall: Option<(Duration, Duration)>,
    /// Answer every n-th Produce request with this error.
    pub fail_every: Option<(u64, ErrorCode)>,
    /// What it does wrong, if it keeps anything.
    pub misdeed: Option<Misdeed>,
    /// Records a second that it takes: one server, one queue, for all connections.
    pub capacity: Option<f64>,
    /// The address that it names in its answers, if clients meet it elsewhere.
    pub advertise: Option<SocketAddr>,
    /// Spin when idle, as the load cores do.
    pub spin: bool,
}

/// `thalweg-bench null-broker`: serves until it is killed.
pub fn command(args: &NullBrokerArgs) -> Result<Outcome, RunError> {
    let spin = args.idle == Idle::Spin;
    let capacity = match args.capacity {
        None => None,
        Some(Rate::RecordsPerSecond(records)) => Some(records),
        Some(_) => return Err(RunError::Flags("--capacity is in records, like 200k/s".to_owned())),
    };
    let options = NullOptions { keep: args.keep, capacity, spin, ..NullOptions::default() };
    let addr = start(args.core, args.listen, options)
        .map_err(|error| RunError::Io("the null broker", error))?;
    println!("null broker ready at {addr}, cpu {}", args.core);
    loop {
        std::thread::park();
    }
}

/// Starts a null broker on CPU `cpu`; returns its address. It lives as long as the process.
///
/// # Errors
/// When the executor, the ring or the socket cannot be set up.
pub fn start(cpu: usize, listen: SocketAddr, options: NullOptions) -> io::Result<SocketAddr> {
    let (out, bound) = mpsc::channel();
    on_core("null-broker", cpu, move |reactor| async move {
        let idle = if options.spin { Idle::Spin } else { Idle::Park };
        let pacer = Pacer::new(RunClock::start(), idle);
        let (spin, turned) = (pacer.driver_spin(), pacer.clone());
        let serve = async move {
            let listener = TcpListener::bind(listen);
            let addr = listener.as_ref().map_err(|error| io::Error::from(error.kind()));
            // The starter waits for it.
            let _ = out.send(addr.and_then(TcpListener::local_addr));
            if let Ok(listener) = listener {
                serve(&listener, options, pacer).await;
            }
        };
        driven(reactor, spin, move || turned.turn(), serve).await;
    })?;
    bound.recv().map_err(|_| io::Error::other("the null broker died"))?
}

async fn serve(listener: &TcpListener, options: NullOptions, pacer: Rc<Pacer>) {
    let Ok(addr) = listener.local_addr() else { return };
    let broker = Rc::new(NullBroker {
        addr: options.advertise.unwrap_or(addr),
        options,
        pacer,
        topics: RefCell::default(),
        first_produce: RefCell::default(),
        produced: Cell::new(0),
        records: Cell::new(0),
        busy_until: Cell::new(Instant::now()),
        overslept: Cell::new(Duration::ZERO),
        appended: Event::new(),
    });
    while let Ok((stream, _)) = listener.accept().await {
        let broker = broker.clone();
        // The connection's end is the client's business.
        glommio::spawn_local(async move { broker.connection(stream).await.err() }).detach();
    }
}

struct NullBroker {
    addr: SocketAddr,
    options: NullOptions,
    /// Timers that are exact on a core that spins; glommio's come up to 100 ms late there.
    pacer: Rc<Pacer>,
    topics: RefCell<BTreeMap<String, Vec<Partition>>>,
    first_produce: RefCell<Option<Instant>>,
    /// Batches seen, ever.
    produced: Cell<u64>,
    /// Records taken, ever.
    records: Cell<u64>,
    /// When all that was taken is done, where there is a capacity.
    busy_until: Cell<Instant>,
    /// How much later than it should have the last wait for it ended.
    overslept: Cell<Duration>,
    appended: Event,
}

/// A batch that was counted in.
struct Taken {
    /// Offset of its first record.
    base: i64,
    /// Its number among all batches.
    number: u64,
}

#[derive(Default)]
struct Partition {
    end: i64,
    kept: VecDeque<(i64, Bytes)>,
}

impl NullBroker {
    async fn connection(&self, stream: TcpStream) -> Result<(), Broken> {
        let mut reader = FrameReader::new(stream.clone());
        let mut answers = Vec::new();
        loop {
            if self.is_quick() {
                let (head, len) = reader.head(HEAD_BYTES).await?;
                if let Some(request) = OneBatch::read(&reader.bytes()[head]) {
                    self.answer_quickly(&request, &mut answers);
                    reader.discard(len).await?;
                    // What arrived together is answered together.
                    if !reader.has_frame() && !answers.is_empty() {
                        stream.send_slices(vec![std::mem::take(&mut answers).into()]).await?;
                    }
                    continue;
                }
            }
            let place = reader.frame().await?;
            let request = &reader.bytes()[place.clone()];
            let frame = Bytes::copy_from_slice(request);
            reader.consume(&place);
            let answer = self.answer(&frame).await;
            let mut answer =
                answer.ok_or(Broken::Nonsense("a request that is not answered here"))?;
            if !answers.is_empty() {
                answer.insert(0, std::mem::take(&mut answers).into());
            }
            if !answer.is_empty() {
                stream.send_slices(answer).await?;
            }
        }
    }

    /// Whether all that a batch needs is to be counted.
    fn is_quick(&self) -> bool {
        let NullOptions { keep, stall, capacity, .. } = &self.options;
        !keep && stall.is_none() && capacity.is_none()
    }

    fn answer_quickly(&self, request: &OneBatch<'_>, answers: &mut Vec<u8>) {
        let (index, count) = (PartitionIndex(request.partition), request.record_count);
        let taken = self.take(request.topic, index, Some(u64::from(count)));
        if request.acks != 0 {
            let (error, base) = match taken {
                Ok(Taken { base, .. }) => (ErrorCode::None, base),
                Err(error) => (error, Offset::UNKNOWN.0),
            };
            request.answer(error.code(), base, answers);
        }
    }

    /// The answer's slices; none for acks=0; `None` closes the connection.
    async fn answer(&self, frame: &Bytes) -> Option<Vec<Bytes>> {
        let (header, body) = RequestHeader::parse(frame).ok()?;
        match header.api() {
            ApiKey::Produce => self.produce(&header, body).await,
            ApiKey::Fetch => self.fetch(&header, body).await,
            _ => Some(vec![self.admin(&header, body)?]),
        }
    }

    async fn produce(&self, header: &RequestHeader, body: Bytes) -> Option<Vec<Bytes>> {
        self.stall().await;
        let request = produce::ProduceRequest::parse(body, header.version()).ok()?;
        let mut results = Vec::new();
        let records_before = self.records.get();
        for topic in request.topics() {
            let name = String::from_utf8_lossy(topic.topic().name()?.as_bytes()).into_owned();
            for partition in topic.partitions() {
                results.push(self.append(&name, partition.index(), partition.records()));
            }
        }
        self.appended.notify();
        self.work_off(self.records.get() - records_before).await;
        if request.acks() == 0 {
            return Some(Vec::new());
        }
        let head = produce::ResponseHead {
            correlation_id: header.correlation_id(),
            throttle_time_ms: 0,
            node_endpoints: &[],
        };
        Some(vec![produce::encode_response(&request, &head, results).ok()?])
    }

    /// Counts a batch of `record_count` records in; one without is corrupt.
    fn take(
        &self,
        topic: &str,
        index: PartitionIndex,
        record_count: Option<u64>,
    ) -> Result<Taken, ErrorCode> {
        let number = self.produced.get() + 1;
        self.produced.set(number);
        if let Some((every, error)) = self.options.fail_every
            && number.is_multiple_of(every)
        {
            return Err(error);
        }
        let mut topics = self.topics.borrow_mut();
        let partition = topics
            .get_mut(topic)
            .and_then(|partitions| partitions.get_mut(usize::try_from(index.0).ok()?))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let base = partition.end;
        let record_count = record_count.ok_or(ErrorCode::CorruptMessage)?;
        partition.end += record_count.cast_signed();
        self.records.set(self.records.get() + record_count);
        Ok(Taken { base, number })
    }

    fn append(
        &self,
        topic: &str,
        index: PartitionIndex,
        records: Option<Bytes>,
    ) -> produce::PartitionResult {
        let records = records.unwrap_or_default();
        let mut count = 0;
        // Only the headers are looked at.
        let walked = walk_batches(&records, None, |it| count += u64::from(it.record_count));
        let Taken { base, number } = match self.take(topic, index, walked.ok().map(|()| count)) {
            Ok(taken) => taken,
            Err(error) => return produce::PartitionResult::failed(error),
        };
        let mut topics = self.topics.borrow_mut();
        let partition = topics
            .get_mut(topic)
            .and_then(|partitions| partitions.get_mut(usize::try_from(index.0).ok()?));
        let Some(partition) = partition else {
            return produce::PartitionResult::failed(ErrorCode::UnknownTopicOrPartition);
        };
        if self.options.keep {
            let mut stored = BytesMut::from(&records[..]);
            stored[..8].copy_from_slice(&base.to_be_bytes());
            match self.options.misdeed.filter(|_| number.is_multiple_of(10)) {
                Some(Misdeed::Lose) => stored.clear(),
                Some(Misdeed::Spoil) => *stored.last_mut().expect("a batch has bytes") ^= 1,
                Some(Misdeed::Repeat) => {
                    let again = partition.end;
                    partition.end += again - base;
                    let mut copy = stored.clone();
                    copy[..8].copy_from_slice(&again.to_be_bytes());
                    partition.kept.push_back((base, stored.split().freeze()));
                    partition.kept.push_back((again, copy.freeze()));
                }
                None => {}
            }
            if !stored.is_empty() {
                partition.kept.push_back((base, stored.freeze()));
            }
            if partition.kept.len() > BATCHES_KEPT_MAX {
                partition.kept.pop_front();
            }
        }
        produce::PartitionResult::appended(Offset(base), -1, Offset::ZERO)
    }

    /// Waits until a server of this capacity has done all that came before, and these records.
    async fn work_off(&self, records: u64) {
        /// Idle time that is made up for: the wire takes its time, too.
        const SLACK: Duration = Duration::from_millis(2);
        let Some(capacity) = self.options.capacity else { return };
        let now = Instant::now();
        // A timer that fires late is no loss of capacity: what waited meanwhile began in time.
        let since = now.checked_sub(SLACK + self.overslept.get()).unwrap_or(now);
        if since > self.busy_until.get() {
            self.overslept.set(Duration::ZERO); // it was idle
        }
        let begin = since.max(self.busy_until.get());
        let done = begin + Duration::from_secs_f64(records as f64 / capacity);
        self.busy_until.set(done);
        let left = done.saturating_duration_since(now);
        if !left.is_zero() {
            self.sleep(left).await;
            self.overslept.set(done.elapsed());
        }
    }

    async fn sleep(&self, length: Duration) {
        let now_ns = self.pacer.clock().now_ns();
        self.pacer.until(now_ns.saturating_add(length.as_nanos() as u64)).await; // 584 years fit
    }

    async fn stall(&self) {
        let now = Instant::now();
        let first = *self.first_produce.borrow_mut().get_or_insert(now);
        if let Some((after, length)) = self.options.stall {
            let since = now.duration_since(first);
            if since >= after && since < after + length {
                self.sleep(after + length - since).await;
            }
        }
    }

    async fn fetch(&self, header: &RequestHeader, body: Bytes) -> Option<Vec<Bytes>> {
        let request = fetch::FetchRequest::parse(body, header.version()).ok()?;
        let wait = Duration::from_millis(u64::try_from(request.wait_ms_max()).unwrap_or(0));
        let deadline = Instant::now() + wait;
        loop {
            let appended = self.appended.wait();
            let results = self.read(&request)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if results.iter().any(|it| !it.records.is_empty()) || left.is_zero() {
                let head = fetch::ResponseHead {
                    correlation_id: header.correlation_id(),
                    throttle_time_ms: 0,
                    error: ErrorCode::None,
                    session_id: 0,
                    node_endpoints: &[],
                };
                return fetch::encode_response(header.version(), &head, results).ok();
            }
            futures_lite::future::or(appended, async {
                self.sleep(left).await;
            })
            .await;
        }
    }

    fn read<'a>(
        &self,
        request: &'a fetch::FetchRequest,
    ) -> Option<Vec<fetch::PartitionResult<'a>>> {
        let topics = self.topics.borrow();
        let mut results = Vec::new();
        for topic in request.topics() {
            let name = String::from_utf8_lossy(topic.topic().name()?.as_bytes()).into_owned();
            for wanted in topic.partitions() {
                let index = usize::try_from(wanted.index().0).ok()?;
                let partition = topics.get(&name).and_then(|it| it.get(index));
                let (end, records) = partition.map_or((0, Vec::new()), |it| {
                    let from = wanted.fetch_offset().0;
                    let mut left = usize::try_from(wanted.bytes_max()).unwrap_or(0);
                    let batches = it.kept.iter().filter(|(base, _)| *base >= from);
                    // The first comes whole, as from any broker.
                    let fits = batches.enumerate().take_while(|(index, (_, batch))| {
                        let fits = *index == 0 || batch.len() <= left;
                        left = left.saturating_sub(batch.len());
                        fits
                    });
                    (it.end, fits.map(|(_, (_, batch))| batch.clone()).collect())
                });
                results.push(fetch::PartitionResult {
                    error: ErrorCode::None,
                    high_watermark: Offset(end),
                    last_stable: Offset(end),
                    log_start: Offset::ZERO,
                    records,
                    ..fetch::PartitionResult::failed(topic.topic(), wanted.index(), ErrorCode::None)
                });
            }
        }
        Some(results)
    }

    fn admin(&self, header: &RequestHeader, body: Bytes) -> Option<Bytes> {
        let version = header.version();
        match header.api() {
            ApiKey::ApiVersions => encode(header, &api_versions()),
            ApiKey::Metadata => {
                let request = decode::<messages::MetadataRequest>(body, version).ok()?;
                encode(header, &self.metadata(&request))
            }
            ApiKey::CreateTopics => {
                let request = decode::<messages::CreateTopicsRequest>(body, version).ok()?;
                let mut answer = messages::CreateTopicsResponse::default();
                for wanted in &request.topics {
                    let count = usize::try_from(wanted.num_partitions).ok()?.min(100_000);
                    let partitions = (0..count).map(|_| Partition::default()).collect();
                    let name = wanted.name.as_str().to_owned();
                    self.topics.borrow_mut().insert(name, partitions);
                    let mut result =
                        messages::create_topics_response::CreatableTopicResult::default();
                    result.name = wanted.name.clone();
                    answer.topics.push(result);
                }
                encode(header, &answer)
            }
            ApiKey::DeleteTopics => {
                let request = decode::<messages::DeleteTopicsRequest>(body, version).ok()?;
                for name in &request.topic_names {
                    self.topics.borrow_mut().remove(name.as_str());
                }
                encode(header, &messages::DeleteTopicsResponse::default())
            }
            ApiKey::ListOffsets => {
                let request = decode::<messages::ListOffsetsRequest>(body, version).ok()?;
                encode(header, &self.offsets(&request))
            }
            ApiKey::InitProducerId => {
                let mut answer = messages::InitProducerIdResponse::default();
                answer.producer_id = 1;
                answer.producer_epoch = 0;
                encode(header, &answer)
            }
            ApiKey::DescribeConfigs => {
                encode(header, &messages::DescribeConfigsResponse::default())
            }
            _ => None,
        }
    }

    fn metadata(&self, request: &messages::MetadataRequest) -> messages::MetadataResponse {
        let mut answer = messages::MetadataResponse::default();
        let mut broker = messages::metadata_response::MetadataResponseBroker::default();
        broker.node_id = 1;
        broker.host = self.addr.ip().to_string().into();
        broker.port = i32::from(self.addr.port());
        answer.brokers = vec![broker];
        answer.controller_id = 1;
        for wanted in request.topics.iter().flatten() {
            let mut topic = messages::metadata_response::MetadataResponseTopic::default();
            topic.name.clone_from(&wanted.name);
            let name = wanted.name.as_ref().map_or("", |it| it.as_str());
            match self.topics.borrow().get(name) {
                None => topic.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                Some(partitions) => {
                    topic.partitions = (0..partitions.len())
                        .map(|index| {
                            let mut it =
                                messages::metadata_response::MetadataResponsePartition::default();
                            it.partition_index = i32::try_from(index).unwrap_or(i32::MAX);
                            it.leader_id = 1;
                            it.replica_nodes = vec![1];
                            it.isr_nodes = vec![1];
                            it
                        })
                        .collect();
                }
            }
            answer.topics.push(topic);
        }
        answer
    }

    fn offsets(&self, request: &messages::ListOffsetsRequest) -> messages::ListOffsetsResponse {
        let mut answer = messages::ListOffsetsResponse::default();
        let topics = self.topics.borrow();
        for wanted in &request.topics {
            let mut topic = messages::list_offsets_response::ListOffsetsTopicResponse::default();
            topic.name = wanted.name.clone();
            for wanted in &wanted.partitions {
                let mut it =
                    messages::list_offsets_response::ListOffsetsPartitionResponse::default();
                it.partition_index = wanted.partition_index;
                let partition = topics
                    .get(topic.name.as_str())
                    .and_then(|all| all.get(usize::try_from(wanted.partition_index).ok()?));
                it.offset = match (partition, wanted.timestamp) {
                    (Some(partition), -1) => partition.end,
                    _ => 0,
                };
                topic.partitions.push(it);
            }
            answer.topics.push(topic);
        }
        answer
    }
}

fn encode<M: KafkaResponse>(header: &RequestHeader, message: &M) -> Option<Bytes> {
    encode_response(header.correlation_id(), header.version(), message).ok()
}

fn api_versions() -> messages::ApiVersionsResponse {
    let mut answer = messages::ApiVersionsResponse::default();
    answer.api_keys = api_key::advertised()
        .map(|api| {
            let mut it = messages::api_versions_response::ApiVersion::default();
            it.api_key = api.key().code();
            it.min_version = api.min();
            // From there on topics go by ids, of which this broker has none.
            it.max_version = match api.key() {
                ApiKey::Produce | ApiKey::Fetch => api.max().min(PRODUCE_VERSION_MAX),
                _ => api.max(),
            };
            it
        })
        .collect();
    answer
}
