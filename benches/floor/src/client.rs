//! The client of `large` and `small`: a closed loop over frames that were built before.
//!
//! All connections send the same bytes, which stay in the cache; an answer gives the right to send
//! another frame. Latency is from handing a frame over to the answer.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::new_histogram;
use crate::ring::{Done, Memory, Ring};
use crate::sockets::Sockets;
use crate::stage::Stage;
use crate::wire::{ANSWER, Answer, HEADER, frame, invalid};

/// What the client does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Time to look for work before sleeping.
    pub spin: Duration,
    pub in_flight: usize,
    pub payload_bytes: usize,
    /// Connections that send; the others are idle.
    pub active: usize,
    pub count: Option<u64>,
    pub damage_every: Option<u64>,
}

/// What it saw.
#[derive(Debug)]
pub struct Seen {
    pub sent: u64,
    pub taken: u64,
    pub refused: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
}

/// Frames that go out in one send.
const SEND_BYTES: usize = 64 << 10;
/// Room for the answers of one receive.
const ANSWERS_BYTES: usize = 256;
const PROVIDED: u16 = 2048;

#[derive(Clone, Copy, Debug)]
enum Op {
    Send(usize),
    Receive(usize),
}

#[derive(Default)]
struct Peer {
    /// Frames that may be sent.
    owed: usize,
    sending: bool,
    /// When the frames that are not answered were handed over.
    sent_at: VecDeque<u64>,
    cut: Vec<u8>,
}

struct Client<'a> {
    plan: Plan,
    stage: &'a Stage,
    ring: Ring<Op>,
    sockets: &'a Sockets,
    peers: Vec<Peer>,
    frames: &'static [u8],
    damaged: &'static [u8],
    frame_bytes: usize,
    seen: Seen,
}

/// Runs the loop to its end.
pub fn run(plan: Plan, stage: &Stage, sockets: &Sockets) -> io::Result<Seen> {
    let mut ring = Ring::new(4096, plan.spin)?;
    ring.provide(PROVIDED, ANSWERS_BYTES)?;
    let good = frame(plan.payload_bytes);
    let frame_bytes = good.len();
    let mut bad = good.clone();
    bad[HEADER + plan.payload_bytes / 2] ^= 1;
    let at_once = (SEND_BYTES / frame_bytes).clamp(1, plan.in_flight);
    let owed = plan.in_flight;
    let client = Client {
        plan,
        stage,
        ring,
        sockets,
        peers: (0..plan.active).map(|_| Peer { owed, ..Peer::default() }).collect(),
        frames: good.repeat(at_once).leak(),
        damaged: bad.leak(),
        frame_bytes,
        seen: Seen { sent: 0, taken: 0, refused: 0, latency: new_histogram() },
    };
    client.run()
}

impl Client<'_> {
    fn run(mut self) -> io::Result<Seen> {
        for index in 0..self.peers.len() {
            self.ring.receive_many(self.sockets.get(index).as_raw_fd(), Op::Receive(index));
            self.send(index);
        }
        let mut done = Vec::new();
        while self.answered() < self.seen.sent || !self.is_over() {
            self.ring.wait(1)?;
            self.ring.reap(&mut done);
            let now = self.stage.now();
            for done in done.drain(..) {
                match done.token {
                    Op::Send(index) => {
                        done.bytes()?;
                        self.peers[index].sending = false;
                        self.send(index);
                    }
                    Op::Receive(index) => self.received(index, done, now)?,
                }
            }
            let answered = self.answered();
            self.stage.done(answered, answered * self.plan.payload_bytes as u64);
        }
        self.sockets.finish()?;
        Ok(self.seen)
    }

    fn answered(&self) -> u64 {
        self.seen.taken + self.seen.refused
    }

    fn is_over(&self) -> bool {
        self.stage.is_over() || self.plan.count.is_some_and(|count| self.seen.sent >= count)
    }

    fn send(&mut self, index: usize) {
        let left = self.plan.count.map_or(u64::MAX, |count| count - self.seen.sent);
        let peer = &mut self.peers[index];
        let at_once = self.frames.len() / self.frame_bytes;
        let mut frames = peer.owed.min(at_once).min(usize::try_from(left).unwrap_or(usize::MAX));
        if frames == 0 || peer.sending || self.stage.is_over() {
            return;
        }
        let mut bytes = self.frames;
        if let Some(every) = self.plan.damage_every {
            frames = 1;
            if (self.seen.sent + 1).is_multiple_of(every) {
                bytes = self.damaged;
            }
        }
        let now = self.stage.now();
        peer.sent_at.extend(std::iter::repeat_n(now, frames));
        peer.owed -= frames;
        peer.sending = true;
        self.seen.sent += frames as u64;
        let (socket, until) = (self.sockets.get(index).as_raw_fd(), frames * self.frame_bytes);
        self.ring.send(socket, Memory::Shared(bytes), 0, until, Op::Send(index));
    }

    fn received(&mut self, index: usize, mut done: Done<Op>, now: u64) -> io::Result<()> {
        let socket = self.sockets.get(index).as_raw_fd();
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
            self.ring.receive_many(socket, Op::Receive(index));
        }
        self.send(index);
        Ok(())
    }

    fn take_answers(
        &mut self,
        index: usize,
        filled: &crate::ring::Filled,
        now: u64,
    ) -> io::Result<()> {
        let (peer, measured) = (&mut self.peers[index], self.stage.is_measured());
        peer.cut.extend_from_slice(self.ring.received(filled));
        let (answers, rest) = peer.cut.as_chunks::<ANSWER>();
        for answer in answers {
            match Answer::decode(*answer)? {
                Answer::Taken => self.seen.taken += 1,
                Answer::Refused => self.seen.refused += 1,
            }
            let Some(sent_at) = peer.sent_at.pop_front() else {
                return Err(invalid("an answer that nobody waits for"));
            };
            peer.owed += 1;
            if measured {
                self.seen.latency.saturating_record(now - sent_at);
            }
        }
        let cut = rest.len();
        peer.cut.drain(..peer.cut.len() - cut);
        Ok(())
    }
}
