//! The server for large frames: each is received straight into the aligned memory that is written.
//!
//! For a frame: receives of `chunk` bytes into a piece, the CRC over it, one write of the piece, the
//! answer; several writes may be under way. Answers of a connection keep the order of its frames.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use crate::args::{Durability, Submit};
use crate::disk::Disk;
use crate::forward::Reader;
use crate::ring::{Done, Memory, Piece, Pool, Ring, blocks, wake_at};
use crate::sockets::Sockets;
use crate::wire::{self, ANSWER, Answer};

/// What the server does.
pub struct Plan {
    /// Time to look for work before sleeping.
    pub spin: Duration,
    pub durability: Durability,
    pub submit: Submit,
    /// Bytes of the whole frames.
    pub frame_bytes: usize,
    /// A receive wakes us when so much is there.
    pub chunk_bytes: usize,
    /// Frames that may be in memory.
    pub pieces: usize,
    pub check: bool,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Receive(usize),
    Answer(usize),
    Write { peer: usize, ticket: u64, bytes: usize },
    Forward,
}

/// A connection.
struct Peer {
    socket: RawFd,
    /// What of the current frame is there.
    have: usize,
    /// Bytes that wake a receive, as the kernel was told last.
    wakes_at: usize,
    /// Answers from the oldest frame that is not answered; `first` is its ticket.
    answers: VecDeque<Option<Answer>>,
    first: u64,
    /// Answers that wait for the one that is being sent.
    outbox: Vec<u8>,
    sending: bool,
}

pub struct Server<'a> {
    plan: Plan,
    ring: Ring<Op>,
    sockets: &'a Sockets,
    peers: Vec<Peer>,
    pool: Pool,
    disk: Option<&'a mut Disk>,
    reader: Option<Reader>,
    /// Connections that wait for memory.
    starved: VecDeque<usize>,
    in_flight: usize,
}

impl<'a> Server<'a> {
    /// Serves the sockets; what is taken also goes to `reader`, if there is one.
    pub fn new(
        plan: Plan,
        sockets: &'a Sockets,
        reader: Option<&Sockets>,
        disk: Option<&'a mut Disk>,
    ) -> io::Result<Server<'a>> {
        let mut ring = Ring::new(1024, plan.spin)?;
        let pool = Pool::new(plan.pieces, plan.frame_bytes)?;
        ring.register(&pool)?;
        let peers = sockets.iter().map(|socket| Peer {
            socket: socket.as_raw_fd(),
            have: 0,
            wakes_at: 1,
            answers: VecDeque::new(),
            first: 0,
            outbox: Vec::new(),
            sending: false,
        });
        let (peers, reader) = (peers.collect(), reader.map(Reader::new));
        let starved = VecDeque::new();
        Ok(Server { plan, ring, sockets, peers, pool, disk, reader, starved, in_flight: 0 })
    }

    /// Serves until all connections are closed and everything is answered.
    pub fn run(mut self) -> io::Result<()> {
        (0..self.peers.len()).for_each(|peer| self.starved.push_back(peer));
        let mut done = Vec::new();
        loop {
            self.feed()?;
            if self.in_flight == 0 {
                return Ok(());
            }
            self.ring.wait(1)?;
            self.ring.reap(&mut done);
            for done in done.drain(..) {
                self.in_flight -= 1;
                self.take(done)?;
            }
        }
    }

    fn take(&mut self, mut done: Done<Op>) -> io::Result<()> {
        let memory = std::mem::replace(&mut done.memory, Memory::None);
        match done.token {
            Op::Receive(peer) => self.received(peer, done.bytes()?, memory.into_piece()),
            Op::Answer(peer) => {
                done.bytes()?;
                self.peers[peer].sending = false;
                self.flush(peer);
                Ok(())
            }
            Op::Write { peer, ticket, bytes } => {
                if done.bytes()? != bytes {
                    return Err(wire::invalid("the disk took a part of a write"));
                }
                self.kept(peer, ticket, memory.into_piece());
                Ok(())
            }
            Op::Forward => {
                done.bytes()?;
                self.pool.give(memory.into_piece());
                self.reader.as_mut().into_iter().for_each(Reader::sent);
                self.forward();
                Ok(())
            }
        }
    }

    /// Gives memory to connections that wait for it.
    fn feed(&mut self) -> io::Result<()> {
        while !self.starved.is_empty() {
            let Some(piece) = self.pool.take() else { break };
            let peer = self.starved.pop_front().expect("it is not empty");
            self.receive(peer, piece)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, piece: Piece) -> io::Result<()> {
        let peer = &mut self.peers[index];
        // Frames are of one length here, so that a receive never gets bytes of the next one.
        let most = (self.plan.frame_bytes - peer.have).min(self.plan.chunk_bytes);
        if peer.wakes_at != most {
            wake_at(self.sockets.get(index).as_fd(), most)?;
            peer.wakes_at = most;
        }
        self.ring.receive(peer.socket, piece, peer.have, most, Op::Receive(index));
        self.in_flight += 1;
        Ok(())
    }

    fn received(&mut self, index: usize, bytes: usize, piece: Piece) -> io::Result<()> {
        let peer = &mut self.peers[index];
        if bytes == 0 && peer.have > 0 {
            return Err(wire::invalid("a connection was closed within a frame"));
        }
        if bytes == 0 {
            self.pool.give(piece);
            return Ok(());
        }
        peer.have += bytes;
        if peer.have < self.plan.frame_bytes {
            return self.receive(index, piece);
        }
        let whole = self.plan.frame_bytes;
        if wire::frame_bytes(&piece, whole)? != Some(whole) {
            return Err(wire::invalid("a frame of another length than the others"));
        }
        peer.have = 0;
        let ticket = peer.first + peer.answers.len() as u64;
        peer.answers.push_back(None);
        self.starved.push_back(index);
        if self.plan.check && !wire::is_intact(&piece[..whole]) {
            self.answer(index, ticket, Answer::Refused);
            self.pool.give(piece);
            return Ok(());
        }
        self.keep(index, ticket, piece)
    }

    /// Writes a frame, or has it written.
    fn keep(&mut self, peer: usize, ticket: u64, mut piece: Piece) -> io::Result<()> {
        let whole = self.plan.frame_bytes;
        let Some(disk) = &mut self.disk else {
            self.kept(peer, ticket, piece);
            return Ok(());
        };
        let (bytes, sync) = (blocks(whole), self.plan.durability == Durability::Durable);
        piece[whole..bytes].fill(0);
        let at = disk.place(bytes)?;
        if self.plan.submit == Submit::Inline {
            disk.write(&piece[..bytes], at, sync)?;
            self.kept(peer, ticket, piece);
            return Ok(());
        }
        let token = Op::Write { peer, ticket, bytes };
        self.ring.write(disk.descriptor(), piece, bytes, at, sync, token);
        self.in_flight += 1;
        Ok(())
    }

    fn kept(&mut self, peer: usize, ticket: u64, piece: Piece) {
        self.answer(peer, ticket, Answer::Taken);
        self.free(piece);
    }

    /// A frame that was kept goes to the reader, if there is one.
    fn free(&mut self, piece: Piece) {
        match &mut self.reader {
            None => self.pool.give(piece),
            Some(reader) => {
                reader.push(piece, self.plan.frame_bytes);
                self.forward();
            }
        }
    }

    fn forward(&mut self) {
        let Some((socket, piece, bytes)) = self.reader.as_mut().and_then(Reader::next) else {
            return;
        };
        self.ring.send(socket, Memory::Piece(piece), 0, bytes, Op::Forward);
        self.in_flight += 1;
    }

    fn answer(&mut self, index: usize, ticket: u64, answer: Answer) {
        let peer = &mut self.peers[index];
        peer.answers[(ticket - peer.first) as usize] = Some(answer);
        while let Some(Some(answer)) = peer.answers.front() {
            peer.outbox.extend(answer.encode());
            peer.answers.pop_front();
            peer.first += 1;
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if peer.sending || peer.outbox.is_empty() {
            return;
        }
        let room = Vec::with_capacity(16 * ANSWER);
        let answers = std::mem::replace(&mut peer.outbox, room);
        let bytes = answers.len();
        peer.sending = true;
        self.ring.send(peer.socket, Memory::Bytes(answers), 0, bytes, Op::Answer(index));
        self.in_flight += 1;
    }
}
