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
use thalweg::io::tcp::TcpStream;

use super::frame_pool::{FramePool, Load};
use super::pacer::Pacer;
use super::progress::Progress;
use super::recorder::{Recorder, Sent};
use super::schedule::{Random, Schedule};
use super::slots::{InFlight, Slots};
use super::verify::MarkingSender;
use crate::client::admin;
use crate::client::error_name;
use crate::client::frames::{Broken, FrameReader};
use crate::wire::produce::{self, ProducerIdentity, Send};
use crate::wire::stamp::Stamp;

/// Pause before a lost connection is made again.
const RECONNECT_PAUSE_NS: u64 = 50_000_000;

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
    /// ApiVersions version to begin with.
    pub greeting: i16,
    /// Tells this run's stamps from others'.
    pub run: u8,
    /// Verify mode: the run's number in the marks of its records.
    pub verify: Option<u64>,
}

/// A lane at work.
pub struct Lane {
    plan: LanePlan,
    frames: Rc<FramePool>,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    progress: Arc<Progress>,
    slots: Slots,
    schedule: RefCell<Schedule>,
    choice: RefCell<Choice>,
    correlation: Cell<i32>,
    marking: Option<MarkingSender>,
}

/// Which partition and which of its batches are next. Batches of the pool are in random order
/// already, so that taking them in turn is as good as drawing, and shows each as often.
struct Choice {
    turn: usize,
    sent: usize,
    random: Random,
}

impl Choice {
    /// Index of the target, and number of the batch in the pool.
    fn next(&mut self, plan: &LanePlan) -> (usize, usize) {
        let at = match &plan.weights {
            None => {
                let at = self.turn;
                self.turn = (at + 1) % plan.targets.len();
                at
            }
            Some(sums) => {
                let drawn = self.random.unit() * sums.last().copied().unwrap_or(1.0);
                sums.partition_point(|&sum| sum <= drawn).min(plan.targets.len() - 1)
            }
        };
        let batches = &plan.targets[at].batches;
        let batch = batches.start + self.sent % batches.len();
        self.sent += 1;
        (at, batch)
    }
}

/// The idempotent producer's state on one connection: one sequence for each partition.
struct Idempotence {
    identity: ProducerIdentity,
    next_sequence: Vec<i32>,
}

impl Lane {
    /// A lane that sends copies of `frames`.
    #[must_use]
    pub fn new(
        plan: LanePlan,
        frames: Rc<FramePool>,
        pacer: Rc<Pacer>,
        recorder: Rc<Recorder>,
        progress: Arc<Progress>,
        marking: Option<MarkingSender>,
    ) -> Rc<Lane> {
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
            plan,
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
                Ok(()) => return,
                Err(broken) => {
                    let now = self.now();
                    self.recorder.error(now, "connection", broken.to_string());
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

    async fn connected(&self) -> Result<(), Broken> {
        let stream = TcpStream::connect(self.plan.leader).await?;
        let mut reader = FrameReader::new(stream.clone());
        admin::greet(&stream, &mut reader, self.plan.greeting).await?;
        let idempotence = match self.plan.idempotent_version {
            None => None,
            Some(version) => {
                let identity = admin::init_producer(&stream, &mut reader, version).await?;
                Some(Idempotence { identity, next_sequence: vec![0; self.plan.targets.len()] })
            }
        };
        self.pacer.until(self.recorder.window().start_ns).await;
        // Both live as long as the connection: no operation is ever started twice.
        future::or(self.send_all(stream, idempotence), self.receive_all(reader)).await
    }

    /// Sends until the end of the run and waits until everything is answered.
    async fn send_all(
        &self,
        stream: TcpStream,
        mut idempotence: Option<Idempotence>,
    ) -> Result<(), Broken> {
        let end_ns = self.recorder.window().end_ns;
        let mut send_done_ns = self.now(); // before, there was no connection to send on
        loop {
            let free_since_ns = self.slots.free().await;
            let next_ns = self.schedule.borrow().next_ns();
            let intended_ns = match next_ns {
                Some(intended_ns) if intended_ns < end_ns => {
                    self.pacer.until(intended_ns).await;
                    Some(intended_ns)
                }
                None if self.now() < end_ns => None,
                _ => break,
            };
            self.schedule.borrow_mut().advance();
            let sent_ns = self.now();
            let sent = Sent { intended_ns: intended_ns.unwrap_or(sent_ns), sent_ns };
            let ready_ns = sent.intended_ns.max(free_since_ns).max(send_done_ns);
            self.recorder.sent(sent, ready_ns);
            let (batch, load, frame) = self.prepare(sent, idempotence.as_mut());
            self.pacer.worked();
            stream.send_slices(vec![frame.clone()]).await?;
            self.pacer.worked();
            send_done_ns = self.now();
            if self.marking.is_none() {
                self.frames.give_back(batch, frame);
            }
            if !self.plan.answered {
                self.recorder.acked(sent, send_done_ns, load);
            }
        }
        self.slots.drained().await;
        Ok(())
    }

    /// The next frame, patched, with its number in the pool and what it carries; notes it as in
    /// flight if it will be answered.
    fn prepare(&self, sent: Sent, idempotence: Option<&mut Idempotence>) -> (usize, Load, Bytes) {
        let (at, batch) = self.choice.borrow_mut().next(&self.plan);
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
        (batch, load, frame.freeze())
    }

    /// Takes the answers, in order, for as long as the connection lives.
    async fn receive_all(&self, mut reader: FrameReader) -> Result<(), Broken> {
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
            if let Some(marking) = &self.marking {
                marking.answered(correlation_id, acked.error == 0);
            }
            if acked.error == 0 {
                self.recorder.acked(request.sent, now, request.load);
                self.progress.acked(request.load.value_bytes);
            } else {
                self.recorder.failed(request.sent);
                self.recorder.error(now, "Produce", error_name(acked.error));
            }
            reader.consume(&frame);
        }
    }
}
