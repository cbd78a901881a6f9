//! One producer's connection to one leader: sends batches round over its partitions on its
//! schedule, with a bounded window, and times the answers.
//!
//! A lost connection is counted and made again; the schedule does not wait for it, so an outage of
//! the broker shows as latency, not as a gap.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use thalweg::io::tcp::TcpStream;

use super::pacer::Pacer;
use super::recorder::{Recorder, Sent};
use super::schedule::Schedule;
use super::slots::{FramePool, InFlight, Slots};
use super::verify::MarkingSender;
use crate::client::admin;
use crate::client::error_name;
use crate::client::frames::{Broken, FrameReader};
use crate::wire::produce::{self, FrameTemplate, ProducerIdentity, Send};
use crate::wire::stamp::Stamp;

/// Pause before a lost connection is made again.
const RECONNECT_PAUSE_NS: u64 = 50_000_000;

/// What a lane does.
#[derive(Clone, Debug)]
pub struct LanePlan {
    /// Number of the lane in the whole run.
    pub id: u16,
    /// The leader's address.
    pub leader: SocketAddr,
    /// Partitions it leads, taken in turn.
    pub partitions: Vec<i32>,
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
    /// Records and their value bytes in each batch.
    pub records: u32,
    /// Bytes of the values of one batch.
    pub value_bytes: u64,
    /// Verify mode: the run's number in the marks of its records.
    pub verify: Option<u64>,
}

/// A lane at work.
pub struct Lane {
    plan: LanePlan,
    template: Rc<FrameTemplate>,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    slots: Slots,
    pool: RefCell<FramePool>,
    schedule: RefCell<Schedule>,
    turn: Cell<usize>,
    correlation: Cell<i32>,
    marking: Option<MarkingSender>,
}

/// The idempotent producer's state on one connection: one sequence for each partition.
struct Idempotence {
    identity: ProducerIdentity,
    next_sequence: Vec<i32>,
}

impl Lane {
    /// A lane that sends copies of `template`.
    #[must_use]
    pub fn new(
        plan: LanePlan,
        template: Rc<FrameTemplate>,
        pacer: Rc<Pacer>,
        recorder: Rc<Recorder>,
        marking: Option<MarkingSender>,
    ) -> Rc<Lane> {
        let pool = FramePool::new(Bytes::copy_from_slice(template.frame()));
        let schedule = RefCell::new(plan.schedule.clone());
        Rc::new(Lane {
            slots: Slots::new(plan.in_flight),
            pool: RefCell::new(pool),
            schedule,
            turn: Cell::new(0),
            correlation: Cell::new(0),
            marking,
            plan,
            template,
            pacer,
            recorder,
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
                Some(Idempotence { identity, next_sequence: vec![0; self.plan.partitions.len()] })
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
            let frame = self.prepare(sent, idempotence.as_mut());
            self.pacer.worked();
            stream.send_slices(vec![frame.clone()]).await?;
            self.pacer.worked();
            send_done_ns = self.now();
            let wire_bytes = frame.len() as u64;
            if self.marking.is_none() {
                self.pool.borrow_mut().give_back(frame);
            }
            if !self.plan.answered {
                let (records, value_bytes) = (self.plan.records, self.plan.value_bytes);
                self.recorder.acked(sent, send_done_ns, records, value_bytes, wire_bytes);
            }
        }
        self.slots.drained().await;
        Ok(())
    }

    /// The next frame, patched; notes it as in flight if it will be answered.
    fn prepare(&self, sent: Sent, idempotence: Option<&mut Idempotence>) -> Bytes {
        let turn = self.turn.get();
        self.turn.set((turn + 1) % self.plan.partitions.len());
        let correlation_id = self.correlation.get();
        self.correlation.set(correlation_id.wrapping_add(1) & i32::MAX);
        let identity = idempotence.map(|state| {
            let sequence = state.next_sequence[turn];
            // Kafka's wrap: after the largest int comes 0.
            let next = i64::from(sequence) + i64::from(self.plan.records);
            state.next_sequence[turn] = (next % (i64::from(i32::MAX) + 1)) as i32;
            (state.identity, sequence)
        });
        let send = Send {
            correlation_id,
            partition: self.plan.partitions[turn],
            wall_ms: self.pacer.clock().wall_ms(sent.intended_ns),
            identity,
            stamp: Stamp {
                run: self.plan.run,
                lane: self.plan.id,
                sequence: correlation_id as u16,
                intended_ns: sent.intended_ns,
            },
        };
        let frame = match &self.marking {
            None => {
                let mut frame = self.pool.borrow_mut().take();
                self.template.patch(&mut frame, &send);
                frame
            }
            Some(marking) => {
                let batch = marking.batch(correlation_id, send.partition);
                let template = self.template.with_batch(&batch);
                let mut frame = BytesMut::from(template.frame());
                template.patch(&mut frame, &send);
                frame
            }
        };
        if self.plan.answered {
            self.slots.push(InFlight { correlation_id, sent });
        }
        frame.freeze()
    }

    /// Takes the answers, in order, for as long as the connection lives.
    async fn receive_all(&self, mut reader: FrameReader) -> Result<(), Broken> {
        let wire_bytes = self.template.frame().len() as u64;
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
                let (records, value_bytes) = (self.plan.records, self.plan.value_bytes);
                self.recorder.acked(request.sent, now, records, value_bytes, wire_bytes);
            } else {
                self.recorder.failed(request.sent);
                self.recorder.error(now, "Produce", error_name(acked.error));
            }
            reader.consume(&frame);
        }
    }
}
