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

use super::frame_pool::{FramePool, Load};
use super::pacer::Pacer;
use super::progress::Progress;
use super::recorder::{Recorder, Sent, TxnEnd};
use super::schedule::{Random, Schedule};
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
    /// Requests that may leave in one send.
    frames_max: usize,
}

/// What leaves in one send.
struct Outgoing {
    bytes: Bytes,
    /// The buffer that they lie in, to be given back; none in verify mode.
    buffer: Option<Bytes>,
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
    pub fn new(
        plan: LanePlan,
        shared: Shared,
        marking: Option<MarkingSender>,
    ) -> Rc<Lane> {
        let frame = template.frame();
        let fitting = (SEND_BYTES_MAX / frame.len()).clamp(1, plan.in_flight.max(1));
        let frames_max = if marking.is_some() { 1 } else { fitting };
        let pool = FramePool::new(frame, frames_max);
        let schedule = RefCell::new(plan.schedule.clone());
        // Lanes begin at different batches, so that they do not all send the large ones at once.
        let mut random = Random::new(u64::from(plan.id) + 1);
        let choice = Choice { turn: 0, sent: random.below(1 << 20), random };
        Rc::new(Lane {
            slots: Slots::new(plan.in_flight),
            schedule,
            choice: RefCell::new(choice),
            correlation: Cell::new(0),
            marking,
            frames_max,
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
        let mut leaving = Vec::with_capacity(self.frames_max);
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
            let sent_ns = self.now();
            let first = Sent { intended_ns: intended_ns.unwrap_or(sent_ns), sent_ns };
            let ready_ns = free_since_ns.max(send_done_ns);
            let outgoing = self.prepare(first, ready_ns, idempotence.as_mut(), &mut leaving);
            self.pacer.worked();
            let wire_bytes = (outgoing.bytes.len() / leaving.len()) as u64;
            stream.send_slices(vec![outgoing.bytes]).await?;
            self.pacer.worked();
            send_done_ns = self.now();
            if let Some(buffer) = outgoing.buffer {
                self.pool.borrow_mut().give_back(buffer);
            }
            if !self.plan.answered {
                let (records, value_bytes) = (self.plan.records, self.plan.value_bytes);
                for sent in &leaving {
                    self.recorder.acked(*sent, send_done_ns, records, value_bytes, wire_bytes);
                }
            }
            self.sent((batch, frame), (sent, load), send_done_ns);
        }
        self.slots.drained().await;
        self.end_transaction(&mut producing).await?;
        Ok(Pass::Done)
    }

    /// A frame has left: its buffer comes back, and it counts at once if nobody answers it.
    fn sent(&self, (batch, frame): (usize, Bytes), (sent, load): (Sent, Load), now_ns: u64) {
        if self.marking.is_none() {
            self.frames.give_back(batch, frame);
        }
        if !self.plan.answered {
            self.recorder.acked(sent, now_ns, load);
        }
    }

    /// Waits for the answer to the batch that began a transaction; while the broker is busy with
    /// the last one (KIP-890), it is sent again.
    async fn begun(
        &self,
        stream: &Stream,
        frame: &Bytes,
        (sent, load): (Sent, Load),
    ) -> Result<(), Broken> {
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

    /// The request of `first`, and those behind it that are due by then and have a place in the
    /// window. Notes them in `leaving`, and as in flight if they will be answered.
    fn prepare(
        &self,
        first: Sent,
        ready_ns: u64,
        mut idempotence: Option<&mut Idempotence>,
        leaving: &mut Vec<Sent>,
    ) -> Outgoing {
        leaving.clear();
        let mut sent = first;
        let marked = self.marking.is_some();
        let mut buffer = if marked { BytesMut::new() } else { self.pool.borrow_mut().take() };
        let frame_bytes = self.template.frame().len();
        loop {
            self.schedule.borrow_mut().advance();
            self.recorder.sent(sent, sent.intended_ns.max(ready_ns));
            let send = self.next_send(sent, idempotence.as_deref_mut());
            match &self.marking {
                None => {
                    let at = leaving.len() * frame_bytes;
                    self.template.patch(&mut buffer[at..at + frame_bytes], &send);
                }
                Some(marking) => {
                    let batch = marking.batch(send.correlation_id, send.partition);
                    let template = self.template.with_batch(&batch);
                    buffer = BytesMut::from(template.frame());
                    template.patch(&mut buffer, &send);
                }
            }
            leaving.push(sent);
            if self.plan.answered {
                self.slots.push(InFlight { correlation_id: send.correlation_id, sent });
            }
            if leaving.len() == self.frames_max || !self.slots.has_room() {
                break;
            }
            let Some(intended_ns) = self.due(sent.sent_ns) else { break };
            sent.intended_ns = intended_ns;
        }
        let buffer = buffer.freeze();
        let bytes =
            if marked { buffer.clone() } else { buffer.slice(..leaving.len() * frame_bytes) };
        Outgoing { bytes, buffer: (!marked).then_some(buffer) }
    }

    /// The intended time of the next request, if it is due at `now_ns`.
    fn due(&self, now_ns: u64) -> Option<u64> {
        let intended_ns = self.schedule.borrow().next_ns().unwrap_or(now_ns);
        let end_ns = self.recorder.window().end_ns;
        (intended_ns <= now_ns && intended_ns < end_ns).then_some(intended_ns)
    }

    /// What the next request says.
    fn next_send(&self, sent: Sent, idempotence: Option<&mut Idempotence>) -> Send {
        let turn = self.turn.get();
        self.turn.set((turn + 1) % self.plan.partitions.len());
        let correlation_id = self.correlation.get();
        self.correlation.set(correlation_id.wrapping_add(1) & i32::MAX);
        let identity = idempotence.map(|state| {
            let sequence = state.next_sequence[at];
            // Kafka's wrap: after the largest int comes 0.
            let next = i64::from(sequence) + i64::from(load.records);
            state.next_sequence[at] = (next % (i64::from(i32::MAX) + 1)) as i32;
            (state.identity, sequence)
        });
        Send {
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
        }
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
