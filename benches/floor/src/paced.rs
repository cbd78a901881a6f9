//! The client of `paced`: frames leave at times that were fixed before, whatever the server does.
//!
//! A frame's number says when it was due. Both latencies begin there: the response ends with the
//! answer, end to end with the arrival of the whole frame at the reader.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::new_histogram;
use crate::ring::{Done, Filled, Memory, Piece, Pool, Ring};
use crate::sockets::Sockets;
use crate::stage::Stage;
use crate::wire::{self, ANSWER, Answer, HEADER, invalid};

/// What the client does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Time to look for work before sleeping.
    pub spin: Duration,
    pub payload_bytes: usize,
    /// Time between two frames, in nanoseconds.
    pub interval_ns: f64,
    /// Frames in flight altogether.
    pub window: usize,
    pub count: Option<u64>,
    /// Sleep until the next frame is due.
    pub sleep: bool,
}

/// What it saw; times in nanoseconds.
#[derive(Debug)]
pub struct Seen {
    pub sent: u64,
    pub taken: u64,
    pub read: u64,
    pub response: Histogram<u64>,
    pub end_to_end: Histogram<u64>,
    /// Frames of the measured time. They count whenever they are answered.
    pub measured: Range<u64>,
    /// Those of them that left over 1 ms late although the window was not full.
    pub late: u64,
    /// Frames that were due and never left; their age at the end is in both latencies.
    pub unsent: u64,
}

const LATE_NS: u64 = 1_000_000;
/// The reader's memory.
const READ_BYTES: usize = 256 << 10;
const PROVIDED: u16 = 256;
/// How long the client looks by itself before a frame is due; a wake-up takes tens of microseconds.
const LOOK_NS: u64 = 100_000;

#[derive(Clone, Copy, Debug)]
enum Op {
    Send(usize),
    Receive(usize),
    Read,
}

#[derive(Default)]
struct Peer {
    /// Frames that wait for the send that is under way.
    waiting: VecDeque<Piece>,
    sending: bool,
    /// Numbers of the frames that are not answered.
    unanswered: VecDeque<u64>,
    cut: Vec<u8>,
}

struct Client<'a> {
    plan: Plan,
    stage: &'a Stage,
    ring: Ring<Op>,
    sockets: &'a Sockets,
    peers: Vec<Peer>,
    /// Frames that nobody sends just now, built before.
    frames: Vec<Piece>,
    reader: Option<Reader<'a>>,
    /// When the first frame is due.
    began: u64,
    seen: Seen,
}

struct Reader<'a> {
    socket: &'a Sockets,
    /// The header of the frame that is arriving, and how much of the frame is there.
    header: Vec<u8>,
    have: usize,
}

/// Runs the schedule to its end, until everything is answered and read.
pub fn run(
    plan: Plan,
    stage: &Stage,
    sockets: &Sockets,
    reader: Option<&Sockets>,
) -> io::Result<Seen> {
    let mut ring = Ring::new(1024, plan.spin)?;
    ring.provide(PROVIDED, BLOCK_OF_ANSWERS)?;
    let frame_bytes = HEADER + plan.payload_bytes;
    let mut pool = Pool::new(plan.window, frame_bytes)?;
    let mut frames = Vec::with_capacity(plan.window);
    while let Some(mut piece) = pool.take() {
        wire::fill(&mut piece, plan.payload_bytes);
        frames.push(piece);
    }
    frames.reverse();
    let reader = reader.map(|socket| Reader { socket, header: Vec::new(), have: 0 });
    let peers = (0..sockets.len()).map(|_| Peer::default()).collect();
    let (response, end_to_end) = (new_histogram(), new_histogram());
    let seen = Seen {
        sent: 0,
        taken: 0,
        read: 0,
        response,
        end_to_end,
        measured: 0..0,
        late: 0,
        unsent: 0,
    };
    let began = stage.now() + plan.interval_ns as u64;
    Client { plan, stage, ring, sockets, peers, frames, reader, began, seen }.run()
}

const BLOCK_OF_ANSWERS: usize = 1024;

impl Client<'_> {
    fn run(mut self) -> io::Result<Seen> {
        for index in 0..self.peers.len() {
            self.ring.receive_many(self.sockets.get(index).as_raw_fd(), Op::Receive(index));
        }
        if self.reader.is_some() {
            let room = Pool::new(1, READ_BYTES)?.take().expect("a new pool has its piece");
            self.read(room);
        }
        let mut done = Vec::new();
        let (mut blocked, mut over) = (false, false);
        while !self.is_over() || !self.is_settled() {
            blocked = self.send_what_is_due(blocked);
            if self.stage.is_over() && !over {
                self.count_unsent();
                over = true;
            }
            self.wait()?;
            self.ring.reap(&mut done);
            let now = self.stage.now();
            for done in done.drain(..) {
                self.take(done, now)?;
            }
            let taken = self.seen.taken;
            self.stage.done(taken, taken * self.plan.payload_bytes as u64);
        }
        self.sockets.finish()?;
        Ok(self.seen)
    }

    fn is_over(&self) -> bool {
        self.stage.is_over() || self.plan.count.is_some_and(|count| self.seen.sent >= count)
    }

    /// Whether nothing is on its way any more.
    fn is_settled(&self) -> bool {
        let read = self.reader.is_none() || self.seen.read == self.seen.sent;
        read && self.seen.taken == self.seen.sent
    }

    fn due(&self, number: u64) -> u64 {
        self.began + (number as f64 * self.plan.interval_ns) as u64
    }

    /// Sends all that is due; `blocked` says whether the window was full before. Returns whether
    /// it is.
    fn send_what_is_due(&mut self, blocked: bool) -> bool {
        while !self.is_over() {
            let (number, now) = (self.seen.sent, self.stage.now());
            let due = self.due(number);
            if due > now {
                return false;
            }
            let in_flight = (number - self.seen.taken) as usize;
            if in_flight >= self.plan.window || self.frames.is_empty() {
                return true;
            }
            let mut frame = self.frames.pop().expect("it is not empty");
            wire::set_number(&mut frame, number);
            if self.stage.is_measured() {
                if self.seen.measured.is_empty() {
                    self.seen.measured.start = number;
                }
                self.seen.measured.end = number + 1;
                self.seen.late += u64::from(!blocked && now - due > LATE_NS);
            }
            self.seen.sent += 1;
            let index = number as usize % self.peers.len();
            self.peers[index].unanswered.push_back(number);
            self.peers[index].waiting.push_back(frame);
            self.send(index);
        }
        false
    }

    /// Counts what was due and waits for a place in the window.
    fn count_unsent(&mut self) {
        let now = self.stage.now();
        let due = |client: &Self| client.due(client.seen.sent + client.seen.unsent);
        while due(self) < now && self.plan.count.is_none() {
            let age = now - due(self);
            self.seen.unsent += 1;
            self.seen.response.saturating_record(age);
            self.seen.end_to_end.saturating_record(age);
        }
    }

    fn send(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if peer.sending {
            return;
        }
        let Some(frame) = peer.waiting.pop_front() else { return };
        peer.sending = true;
        let (socket, bytes) =
            (self.sockets.get(index).as_raw_fd(), HEADER + self.plan.payload_bytes);
        self.ring.send(socket, Memory::Piece(frame), 0, bytes, Op::Send(index));
    }

    /// Until something happens or the next frame is due.
    fn wait(&mut self) -> io::Result<()> {
        if self.is_over() {
            return self.ring.wait(1);
        }
        let due = self.due(self.seen.sent).saturating_sub(self.stage.now());
        if self.plan.sleep && due > LOOK_NS {
            return self.ring.wait_for(1, Duration::from_nanos(due - LOOK_NS));
        }
        self.ring.look()?;
        // The kernel's own threads have work on this core too, such as the flush after a write:
        // without this they wait for the end of our time slice.
        std::thread::yield_now();
        Ok(())
    }

    fn take(&mut self, mut done: Done<Op>, now: u64) -> io::Result<()> {
        match done.token {
            Op::Send(index) => {
                done.bytes()?;
                self.peers[index].sending = false;
                self.frames.push(done.memory.into_piece());
                self.send(index);
                Ok(())
            }
            Op::Receive(index) => {
                match done.bytes() {
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Ok(0) => return Err(invalid("the server has closed a connection")),
                    bytes => {
                        bytes?;
                    }
                }
                if let Some(filled) = done.filled.take() {
                    self.take_answers(index, &filled, now)?;
                    self.ring.give_back(filled);
                }
                if !done.more {
                    let socket = self.sockets.get(index).as_raw_fd();
                    self.ring.receive_many(socket, Op::Receive(index));
                }
                Ok(())
            }
            Op::Read => {
                let bytes = done.bytes()?;
                if bytes == 0 {
                    return Err(invalid("the server has closed the reader's connection"));
                }
                let room = done.memory.into_piece();
                self.take_frames(&room[..bytes], now)?;
                self.read(room);
                Ok(())
            }
        }
    }

    fn take_answers(&mut self, index: usize, filled: &Filled, now: u64) -> io::Result<()> {
        let peer = &mut self.peers[index];
        peer.cut.extend_from_slice(self.ring.received(filled));
        let (answers, rest) = peer.cut.as_chunks::<ANSWER>();
        let (mut numbers, cut) = (Vec::new(), rest.len());
        for answer in answers {
            if Answer::decode(*answer)? == Answer::Refused {
                return Err(invalid("the server refused a frame that is intact"));
            }
            numbers.extend(peer.unanswered.pop_front());
        }
        peer.cut.drain(..peer.cut.len() - cut);
        self.seen.taken += numbers.len() as u64;
        for number in numbers.into_iter().filter(|number| self.seen.measured.contains(number)) {
            let due = self.due(number);
            self.seen.response.saturating_record(now.saturating_sub(due));
        }
        Ok(())
    }

    fn read(&mut self, room: Piece) {
        if let Some(reader) = &self.reader {
            let socket = reader.socket.get(0).as_raw_fd();
            self.ring.receive(socket, room, 0, READ_BYTES, Op::Read);
        }
    }

    fn take_frames(&mut self, mut bytes: &[u8], now: u64) -> io::Result<()> {
        let whole = HEADER + self.plan.payload_bytes;
        while let Some(reader) = self.reader.as_mut().filter(|_| !bytes.is_empty()) {
            let (piece, later) = bytes.split_at(bytes.len().min(whole - reader.have));
            let wanted = HEADER - reader.header.len();
            reader.header.extend_from_slice(&piece[..piece.len().min(wanted)]);
            reader.have += piece.len();
            bytes = later;
            if reader.have < whole {
                continue;
            }
            let number = wire::number(&reader.header);
            if wire::frame_bytes(&reader.header, whole)? != Some(whole) || number >= self.seen.sent
            {
                return Err(invalid("the reader got something else than what was sent"));
            }
            (reader.have, self.seen.read) = (0, self.seen.read + 1);
            reader.header.clear();
            if self.seen.measured.contains(&number) {
                let due = self.due(number);
                self.seen.end_to_end.saturating_record(now.saturating_sub(due));
            }
        }
        Ok(())
    }
}
