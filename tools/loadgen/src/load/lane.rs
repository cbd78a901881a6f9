//! One producer's connection to one leader: sends batches round over its partitions on its
//! schedule, with a bounded window, and times the answers.
//!
//! A lost connection is counted and made again; the schedule does not wait for it, so an outage of
//! the broker shows as latency, not as a gap.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_lite::future;

use super::choice::Choice;
use super::frame_pool::{FramePool, Load};
use super::pacer::Pacer;
use super::progress::Progress;
use super::recorder::{Recorder, Sent, TxnEnd};
use super::schedule::Schedule;
use super::slots::{InFlight, Slots};
use super::txn::{BUSY_PAUSE_NS, CONCURRENT_TRANSACTIONS, Transactions, TxnPlan};
use super::verify::MarkingSender;
use crate::client::admin;
use crate::client::dial::{Connected, Dialer};
use crate::client::error_name;
use crate::client::frames::{Broken, FrameReader};
use crate::client::stream::Stream;
use crate::wire::produce::{self, ProducerIdentity, Send};
use crate::wire::stamp::Stamp;

/// Pause before a lost connection is made again.
const RECONNECT_PAUSE_NS: u64 = 50_000_000;

/// Requests that are due at the same moment leave in one send of up to so many bytes: what a send
/// costs is the kernel's, and nearly the same for one small frame as for ten.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// A partition of one of the run's topics.
#[derive(Clone, Debug)]
pub struct LaneTarget {
    /// Its number among all partitions of the run.
    pub id: i32,
    /// The topic's name, where the run has several.
    pub topic: Option<Arc<str>>,
    /// Partition index.
    pub partition: i32,
    /// The batches of the pool that it may be sent: one at least.
    pub batches: Range<usize>,
}

/// What a lane does.
#[derive(Clone, Debug)]
pub struct LanePlan {
    /// Number of the lane in the whole run.
    pub id: u16,
    /// The leader's address.
    pub leader: SocketAddr,
    /// Partitions it leads: taken in turn, or by their weights.
    pub targets: Vec<LaneTarget>,
    /// The running sum of the targets' weights, where keys decide the partition.
    pub weights: Option<Vec<f64>>,
    /// When requests are meant to leave.
    pub schedule: Schedule,
    /// Requests in flight.
    pub in_flight: usize,
    /// Whether the broker answers at all (acks is not 0).
    pub answered: bool,
    /// Whether to send as an idempotent producer, and the InitProducerId version for it.
    pub idempotent_version: Option<i16>,
    /// Whether and how to send in transactions.
    pub txn: Option<TxnPlan>,
    /// ApiVersions version to begin with.
    pub greeting: i16,
    /// Tells this run's stamps from others'.
    pub run: u8,
    /// Verify mode: the run's number in the marks of its records.
    pub verify: Option<u64>,
}

/// What a lane has in common with others of its load core, or of the run.
pub struct Shared {
    /// How to connect.
    pub dialer: Dialer,
    /// What is sent.
    pub frames: Rc<FramePool>,
    /// The core's time.
    pub pacer: Rc<Pacer>,
    /// The core's book.
    pub recorder: Rc<Recorder>,
    /// How all load cores go on.
    pub progress: Arc<Progress>,
}

/// A lane at work.
pub struct Lane {
    plan: LanePlan,
    dialer: Dialer,
    frames: Rc<FramePool>,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    progress: Arc<Progress>,
    slots: Slots,
    schedule: RefCell<Schedule>,
    choice: RefCell<Choice>,
    correlation: Cell<i32>,
    marking: Option<MarkingSender>,
    /// A batch of an idempotent producer failed: its sequences have a gap.
    start_over: Cell<bool>,
    /// The batch that begins a transaction is alone in flight.
    alone: Cell<bool>,
    /// It came too early for the broker, and has to be sent again.
    again: Cell<bool>,
    /// Each request leaves alone: in transactions, which it may begin or end, and in verify mode.
    alone_each: bool,
}

/// A request that leaves.
struct Leaving {
    /// Number of its batch in the pool.
    batch: usize,
    frame: Bytes,
    sent: Sent,
    load: Load,
}

/// The idempotent producer's state on one connection: one sequence for each partition.
struct Idempotence {
    identity: ProducerIdentity,
    next_sequence: Vec<i32>,
}

impl Idempotence {
    fn new(identity: ProducerIdentity, partitions: usize) -> Idempotence {
        Idempotence { identity, next_sequence: vec![0; partitions] }
    }

    /// Begins anew under another id or epoch.
    fn renew(&mut self, identity: ProducerIdentity) {
        self.identity = identity;
        self.next_sequence.fill(0);
    }
}

/// The two of one connection that is idempotent, and perhaps transactional.
struct Producing {
    idempotence: Option<Idempotence>,
    transactions: Option<Transactions>,
}

/// Why a connection is no longer sent on.
enum Pass {
    /// The run is over and everything answered.
    Done,
    /// An idempotent producer needs a new producer id.
    StartOver,
}

impl Lane {
    /// A lane that sends copies of `frames`.
    #[must_use]
    pub fn new(plan: LanePlan, shared: Shared, marking: Option<MarkingSender>) -> Rc<Lane> {
        let Shared { dialer, frames, pacer, recorder, progress } = shared;
        let alone_each = plan.txn.is_some() || marking.is_some();
        let schedule = RefCell::new(plan.schedule.clone());
        Rc::new(Lane {
            slots: Slots::new(plan.in_flight),
            schedule,
            choice: RefCell::new(Choice::new(plan.id)),
            correlation: Cell::new(0),
            marking,
            start_over: Cell::new(false),
            alone: Cell::new(false),
            again: Cell::new(false),
            alone_each,
            plan,
            dialer,
            frames,
            pacer,
            recorder,
            progress,
        })
    }

    /// Sends until the run's end, then waits for the answers. Dropping the future ends it early;
    /// [`Lane::settle`] then writes down what is missing.
    pub async fn run(self: Rc<Lane>) {
        loop {
            match self.connected().await {
                Ok(Pass::Done) => return,
                Ok(Pass::StartOver) => {}
                Err(broken) => {
                    let now = self.now();
                    self.recorder.error(now, "connection", broken.to_string());
                    if let Some(marking) = &self.marking {
                        marking.transaction_ended(None);
                    }
                    for lost in self.slots.drain() {
                        self.recorder.failed(lost.sent);
                    }
                    if now >= self.recorder.window().deadline_ns {
                        return;
                    }
                    self.pacer.until(now + RECONNECT_PAUSE_NS).await;
                }
            }
        }
    }

    /// Writes down what was never answered and never sent.
    pub fn settle(&self) {
        let now = self.now();
        for waiting in self.slots.drain() {
            self.recorder.unanswered(waiting.sent, now);
        }
        let mut schedule = self.schedule.borrow_mut();
        while let Some(intended) = schedule.next_ns() {
            if intended >= self.recorder.window().end_ns {
                break;
            }
            self.recorder.unsent(intended, now);
            schedule.advance();
        }
    }

    fn now(&self) -> u64 {
        self.pacer.clock().now_ns()
    }

    async fn connected(&self) -> Result<Pass, Broken> {
        let connected = self.dialer.connect(self.plan.leader, self.plan.greeting).await?;
        let Connected { stream, mut reader, .. } = connected;
        let producing = self.identify(&stream, &mut reader).await?;
        self.start_over.set(false);
        self.pacer.until(self.recorder.window().start_ns).await;
        // Both live as long as the connection: no operation is ever started twice.
        future::or(self.send_all(stream, producing), self.receive_all(reader)).await
    }

    /// Gets the producer id that the plan asks for.
    async fn identify(
        &self,
        stream: &Stream,
        reader: &mut FrameReader,
    ) -> Result<Producing, Broken> {
        let count = self.plan.targets.len();
        if let Some(plan) = &self.plan.txn {
            let (leader, greeting) = (self.plan.leader, self.plan.greeting);
            let pacer = self.pacer.clone();
            let transactions =
                Transactions::begin(plan.clone(), &self.dialer, leader, greeting, pacer).await?;
            let idempotence = Idempotence::new(transactions.identity(), count);
            return Ok(Producing {
                idempotence: Some(idempotence),
                transactions: Some(transactions),
            });
        }
        let idempotence = match self.plan.idempotent_version {
            None => None,
            Some(version) => {
                let identity = admin::init_producer(stream, reader, version).await?;
                Some(Idempotence::new(identity, count))
            }
        };
        Ok(Producing { idempotence, transactions: None })
    }

    /// Sends until the end of the run and waits until everything is answered.
    async fn send_all(&self, stream: Stream, mut producing: Producing) -> Result<Pass, Broken> {
        let end_ns = self.recorder.window().end_ns;
        let mut send_done_ns = self.now(); // before, there was no connection to send on
        let mut leaving = Vec::with_capacity(self.plan.in_flight);
        loop {
            let free_since_ns = self.slots.free().await;
            if self.start_over.get() && !self.recovered(&mut producing).await? {
                return Ok(Pass::StartOver);
            }
            let next_ns = self.schedule.borrow().next_ns();
            let intended_ns = match next_ns {
                Some(intended_ns) if intended_ns < end_ns => Some(intended_ns),
                None if self.now() < end_ns => None,
                _ => break,
            };
            if self.ends_transaction(&mut producing, intended_ns).await? {
                send_done_ns = self.now();
                continue;
            }
            if let Some(intended_ns) = intended_ns {
                self.pacer.until(intended_ns).await;
            }
            let choice = self.choice.borrow_mut().next(&self.plan);
            let begins = match &mut producing.transactions {
                None => false,
                Some(transactions) => {
                    let begins = transactions.enter(&self.plan.targets[choice.0]).await?;
                    send_done_ns = send_done_ns.max(if begins { self.now() } else { 0 });
                    begins
                }
            };
            let sent_ns = self.now();
            let first = Sent { intended_ns: intended_ns.unwrap_or(sent_ns), sent_ns };
            let ready_ns = free_since_ns.max(send_done_ns);
            self.alone.set(begins);
            self.prepare_due((first, choice), ready_ns, &mut producing.idempotence, &mut leaving);
            self.pacer.worked();
            stream.send_slices(leaving.iter().map(|it| it.frame.clone()).collect()).await?;
            self.pacer.worked();
            send_done_ns = self.now();
            if begins {
                self.begun(&stream, &leaving[0]).await?;
                send_done_ns = self.now();
            }
            leaving.drain(..).for_each(|it| self.sent(it, send_done_ns));
        }
        self.slots.drained().await;
        self.end_transaction(&mut producing).await?;
        Ok(Pass::Done)
    }

    /// A frame has left: its buffer comes back, and it counts at once if nobody answers it.
    fn sent(&self, leaving: Leaving, now_ns: u64) {
        let Leaving { batch, frame, sent, load } = leaving;
        if self.marking.is_none() {
            self.frames.give_back(batch, frame);
        }
        if !self.plan.answered {
            self.recorder.acked(sent, now_ns, load);
        }
    }

    /// Waits for the answer to the batch that began a transaction; while the broker is busy with
    /// the last one (KIP-890), it is sent again.
    async fn begun(&self, stream: &Stream, leaving: &Leaving) -> Result<(), Broken> {
        let &Leaving { ref frame, sent, load, .. } = leaving;
        self.slots.drained().await;
        while self.again.take() {
            self.pacer.until(self.now() + BUSY_PAUSE_NS).await;
            let correlation_id = self.correlation.get().wrapping_sub(1) & i32::MAX;
            self.slots.push(InFlight { correlation_id, sent, load });
            stream.send_slices(vec![frame.clone()]).await?;
            self.slots.drained().await;
        }
        self.alone.set(false);
        Ok(())
    }

    /// After a batch failed: a transaction is aborted and the next one begins with a new epoch.
    /// False if there are none: then a new connection gets a new producer id.
    async fn recovered(&self, producing: &mut Producing) -> Result<bool, Broken> {
        self.slots.drained().await;
        let Producing { idempotence: Some(idempotence), transactions: Some(transactions) } =
            producing
        else {
            return Ok(false);
        };
        let asked_ns = self.now();
        transactions.start_over().await?;
        idempotence.renew(transactions.identity());
        self.recorder.transaction(TxnEnd::Failed, asked_ns, self.now());
        if let Some(marking) = &self.marking {
            marking.transaction_ended(Some(false));
        }
        self.start_over.set(false);
        Ok(true)
    }

    /// Ends the open transaction if it is due before the next batch. Says whether it was.
    async fn ends_transaction(
        &self,
        producing: &mut Producing,
        intended_ns: Option<u64>,
    ) -> Result<bool, Broken> {
        let next_ns = intended_ns.unwrap_or(0).max(self.now());
        let end_ns = producing.transactions.as_ref().and_then(|it| it.ends_by(next_ns));
        let Some(end_ns) = end_ns else { return Ok(false) };
        self.pacer.until(end_ns).await;
        self.slots.drained().await;
        self.end_transaction(producing).await?;
        Ok(true)
    }

    /// Ends the open transaction, if one is open and everything in it went well; else aborts it.
    async fn end_transaction(&self, producing: &mut Producing) -> Result<(), Broken> {
        if self.start_over.get() {
            self.recovered(producing).await?;
            return Ok(());
        }
        let Producing { idempotence: Some(idempotence), transactions: Some(transactions) } =
            producing
        else {
            return Ok(());
        };
        if !transactions.is_open() {
            return Ok(());
        }
        let ended = transactions.end().await?;
        if let Some(identity) = ended.next {
            idempotence.renew(identity);
        }
        let how = if ended.committed { TxnEnd::Committed } else { TxnEnd::Aborted };
        self.recorder.transaction(how, ended.asked_ns, self.now());
        if let Some(marking) = &self.marking {
            marking.transaction_ended(Some(ended.committed));
        }
        Ok(())
    }

    /// The first request, and those behind it that are due by then and have a place in the window.
    fn prepare_due(
        &self,
        (first, choice): (Sent, (usize, usize)),
        ready_ns: u64,
        idempotence: &mut Option<Idempotence>,
        leaving: &mut Vec<Leaving>,
    ) {
        let (mut sent, mut choice, mut bytes) = (first, choice, 0);
        loop {
            self.schedule.borrow_mut().advance();
            self.recorder.sent(sent, sent.intended_ns.max(ready_ns));
            let next = self.prepare(sent, choice, idempotence.as_mut());
            let len = next.frame.len();
            bytes += len;
            leaving.push(next);
            // The next frame is about as long.
            let full = self.alone_each || bytes + len > SEND_BYTES_MAX || !self.slots.has_room();
            if full || leaving.len() >= self.plan.in_flight {
                return;
            }
            let Some(intended_ns) = self.due(sent.sent_ns) else { return };
            sent.intended_ns = intended_ns;
            choice = self.choice.borrow_mut().next(&self.plan);
        }
    }

    /// The intended time of the next request, if it is due at `now_ns`.
    fn due(&self, now_ns: u64) -> Option<u64> {
        let intended_ns = self.schedule.borrow().next_ns().unwrap_or(now_ns);
        let end_ns = self.recorder.window().end_ns;
        (intended_ns <= now_ns && intended_ns < end_ns).then_some(intended_ns)
    }

    /// The request with `batch` for target `at`; notes it as in flight if it will be answered.
    fn prepare(
        &self,
        sent: Sent,
        (at, batch): (usize, usize),
        idempotence: Option<&mut Idempotence>,
    ) -> Leaving {
        let target = &self.plan.targets[at];
        let load = self.frames.load(batch);
        let correlation_id = self.correlation.get();
        self.correlation.set(correlation_id.wrapping_add(1) & i32::MAX);
        let identity = idempotence.map(|state| {
            let sequence = state.next_sequence[at];
            // Kafka's wrap: after the largest int comes 0.
            let next = i64::from(sequence) + i64::from(load.records);
            state.next_sequence[at] = (next % (i64::from(i32::MAX) + 1)) as i32;
            (state.identity, sequence)
        });
        let send = Send {
            correlation_id,
            partition: target.partition,
            wall_ms: self.pacer.clock().wall_ms(sent.intended_ns),
            identity,
            stamp: Stamp {
                run: self.plan.run,
                lane: self.plan.id,
                sequence: correlation_id as u16,
                intended_ns: sent.intended_ns,
            },
        };
        let template = self.frames.template(batch);
        let topic = target.topic.as_deref();
        let frame = match &self.marking {
            None => {
                let mut frame = self.frames.take(batch);
                template.patch(&mut frame, &send);
                template.patch_topic(&mut frame, topic);
                frame
            }
            Some(marking) => {
                let template = template.with_batch(&marking.batch(correlation_id, target.id));
                let mut frame = BytesMut::from(template.frame());
                template.patch(&mut frame, &send);
                template.patch_topic(&mut frame, topic);
                frame
            }
        };
        if self.plan.answered {
            self.slots.push(InFlight { correlation_id, sent, load });
        }
        Leaving { batch, frame: frame.freeze(), sent, load }
    }

    /// Takes the answers, in order, for as long as the connection lives.
    async fn receive_all(&self, mut reader: FrameReader) -> Result<Pass, Broken> {
        let (mut receives, mut now) = (0, 0);
        loop {
            let frame = reader.frame().await?;
            if reader.receives() != receives {
                // Frames that came in one receive arrived at one time.
                receives = reader.receives();
                now = self.now();
            }
            self.pacer.worked();
            let bytes = &reader.bytes()[frame.clone()];
            let nonsense = |_| Broken::Nonsense("a Produce answer that cannot be read");
            let correlation_id = produce::correlation_id(bytes).map_err(nonsense)?;
            let acked = produce::parse_response(bytes).map_err(nonsense)?;
            let request =
                self.slots.pop(now).ok_or(Broken::Nonsense("an answer that nobody asked for"))?;
            if request.correlation_id != correlation_id {
                self.recorder.failed(request.sent);
                return Err(Broken::Nonsense("answers out of order"));
            }
            reader.consume(&frame);
            self.answered(request, acked.error, now);
        }
    }

    fn answered(&self, request: InFlight, error: i16, now: u64) {
        if error == CONCURRENT_TRANSACTIONS && self.alone.get() {
            self.again.set(true);
            return;
        }
        if let Some(marking) = &self.marking {
            marking.answered(request.correlation_id, error == 0);
        }
        if error == 0 {
            self.recorder.acked(request.sent, now, request.load);
            self.progress.acked(request.load.value_bytes);
        } else {
            self.start_over.set(self.plan.idempotent_version.is_some() || self.plan.txn.is_some());
            self.recorder.failed(request.sent);
            self.recorder.error(now, "Produce", error_name(error));
        }
    }
}
