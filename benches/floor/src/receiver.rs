//! The client of `send`: takes what comes and throws it away.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::ring::{Done, Memory, Piece, Pool, Ring, wake_at};
use crate::sockets::Sockets;
use crate::stage::Stage;
use crate::wire::invalid;

/// What the client does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Time to look for work before sleeping.
    pub spin: Duration,
    pub chunk_bytes: usize,
    /// Chunks that are asked for and have not come whole; 0: it does not ask.
    pub asked: usize,
    /// Chunks on each connection, where they are counted.
    pub count: Option<u64>,
    pub discard: bool,
}

/// Bytes of a receive, and those that wake it.
const RECEIVE_BYTES: usize = 256 << 10;
const WAKE_BYTES: usize = 128 << 10;

#[derive(Clone, Copy, Debug)]
enum Op {
    Receive(usize),
    Ask,
}

struct Client<'a> {
    plan: Plan,
    stage: &'a Stage,
    ring: Ring<Op>,
    sockets: &'a Sockets,
    /// Bytes, and chunks asked for, of each connection.
    peers: Vec<(u64, u64)>,
    /// What was received last lies here, for all connections.
    room: Vec<Piece>,
    in_flight: usize,
    closed: usize,
}

/// Receives until all connections have ended; returns the bytes.
pub fn run(plan: Plan, stage: &Stage, sockets: &Sockets) -> io::Result<u64> {
    let count = if plan.discard { 0 } else { sockets.len() };
    let mut pool = Pool::new(count, RECEIVE_BYTES)?;
    let room = std::iter::from_fn(|| pool.take()).collect();
    let (ring, peers) = (Ring::new(1024, plan.spin)?, vec![(0, 0); sockets.len()]);
    Client { plan, stage, ring, sockets, peers, room, in_flight: 0, closed: 0 }.run()
}

impl Client<'_> {
    fn run(mut self) -> io::Result<u64> {
        for index in 0..self.peers.len() {
            // Chunks are whole multiples of it, or there is nothing to wait for.
            if self.plan.asked == 0 && self.plan.chunk_bytes.is_multiple_of(WAKE_BYTES) {
                wake_at(self.sockets.get(index).as_fd(), WAKE_BYTES)?;
            }
            self.ask(index)?;
            self.receive(index);
        }
        let mut done = Vec::new();
        let mut told = false;
        while self.closed < self.peers.len() || self.in_flight > 0 {
            self.ring.wait(1)?;
            self.ring.reap(&mut done);
            for done in done.drain(..) {
                self.take(done)?;
            }
            let bytes = self.bytes();
            self.stage.done(bytes / self.plan.chunk_bytes as u64, bytes);
            if self.plan.asked > 0 && self.stage.is_over() && !told {
                // The server sees that nobody asks any more.
                self.sockets.finish()?;
                told = true;
            }
        }
        Ok(self.bytes())
    }

    fn bytes(&self) -> u64 {
        self.peers.iter().map(|(bytes, _)| bytes).sum()
    }

    /// Asks for as many chunks as may be on their way.
    fn ask(&mut self, index: usize) -> io::Result<()> {
        const ASK: [u8; 64] = [1; 64];
        let (bytes, asked) = &mut self.peers[index];
        let whole = *bytes / self.plan.chunk_bytes as u64;
        let most = self.plan.count.unwrap_or(u64::MAX).min(whole + self.plan.asked as u64);
        let more = most.saturating_sub(*asked) as usize;
        if more == 0 || self.stage.is_over() {
            return Ok(());
        }
        if more > ASK.len() {
            return Err(invalid("at most 64 chunks can be asked for at a time"));
        }
        *asked += more as u64;
        let socket = self.sockets.get(index).as_raw_fd();
        self.ring.send(socket, Memory::Shared(&ASK), 0, more, Op::Ask);
        self.in_flight += 1;
        Ok(())
    }

    fn receive(&mut self, index: usize) {
        let (socket, token) = (self.sockets.get(index).as_raw_fd(), Op::Receive(index));
        match self.room.pop() {
            Some(piece) => self.ring.receive(socket, piece, 0, RECEIVE_BYTES, token),
            None => self.ring.discard(socket, RECEIVE_BYTES, token),
        }
    }

    fn take(&mut self, done: Done<Op>) -> io::Result<()> {
        let bytes = done.bytes()?;
        match done.token {
            Op::Ask => self.in_flight -= 1,
            Op::Receive(index) => {
                if let Memory::Piece(piece) = done.memory {
                    self.room.push(piece);
                }
                if bytes == 0 {
                    self.closed += 1;
                    return Ok(());
                }
                self.peers[index].0 += bytes as u64;
                if self.plan.asked > 0 {
                    self.ask(index)?;
                }
                self.receive(index);
            }
        }
        Ok(())
    }
}
