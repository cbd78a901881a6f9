//! The server for small frames: they share a tail, and one write makes all of it durable.
//!
//! For a frame: a receive (of whatever is there), the CRC, a copy to the tail. Whenever no write is
//! under way, what is in the tail is written and its frames are answered, those of a connection at
//! once. The memory of the tail is bounded by what the client may have in flight.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use serde::Serialize;

use crate::args::{Durability, Receive, Submit};
use crate::disk::Disk;
use crate::forward::Reader;
use crate::ring::{Done, Memory, Piece, Pool, Ring, blocks};
use crate::sockets::Sockets;
use crate::tail::{TAILS, Tail};
use crate::wire::{self, Answer, Frames};

/// What the server does.
pub struct Plan {
    /// Time to look for work before sleeping.
    pub spin: Duration,
    pub durability: Durability,
    pub submit: Submit,
    pub receive: Receive,
    /// Bytes of the longest frame.
    pub frame_bytes: usize,
    /// Room for all frames that may be in flight.
    pub tail_bytes: usize,
    /// Wait for so many completions, but no longer than this.
    pub gather: (usize, Duration),
}

/// Receive buffers: of a connection, or of all together.
const RECEIVE_BYTES: usize = 16 << 10;
const PROVIDED: u16 = 512;
#[derive(Clone, Copy, Debug)]
enum Op {
    Receive(usize),
    Answer(usize),
    Write,
    Forward,
}

/// A connection.
#[derive(Default)]
struct Peer {
    frames: Frames,
    /// Answers for frames in the tail, and before them `committing` bytes for those that are
    /// being written.
    waiting: Vec<u8>,
    committing: usize,
    /// Answers that may leave, and room for the next ones.
    outbox: Vec<u8>,
    sending: bool,
}

/// What the server did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Work {
    pub groups: u64,
    pub frames: u64,
    pub refused: u64,
}

pub struct Server<'a> {
    plan: Plan,
    ring: Ring<Op>,
    sockets: &'a Sockets,
    peers: Vec<Peer>,
    tail: Tail,
    /// Connections with frames in the tail, and with frames that are being written.
    staged: Vec<usize>,
    committing: Option<Vec<usize>>,
    /// The bytes that are being written, before they are padded.
    written: usize,
    disk: Option<&'a mut Disk>,
    reader: Option<Reader>,
    open: usize,
    /// Requests in flight other than receives.
    in_flight: usize,
    work: Work,
}

impl<'a> Server<'a> {
    /// Serves the sockets; what is taken also goes to `reader`, if there is one.
    pub fn new(
        plan: Plan,
        sockets: &'a Sockets,
        reader: Option<&Sockets>,
        disk: Option<&'a mut Disk>,
    ) -> io::Result<Server<'a>> {
        let mut ring = Ring::new(4096, plan.spin)?;
        let pool = Pool::new(if reader.is_some() { TAILS } else { 2 }, plan.tail_bytes)?;
        if plan.submit == Submit::Ring {
            ring.register(&pool)?;
        }
        match plan.receive {
            Receive::Multishot => {
                ring.provide(PROVIDED, RECEIVE_BYTES)?;
                for (index, socket) in sockets.iter().enumerate() {
                    ring.receive_many(socket.as_raw_fd(), Op::Receive(index));
                }
            }
            Receive::Single => {
                let mut pool = Pool::new(sockets.len(), RECEIVE_BYTES)?;
                for (index, socket) in sockets.iter().enumerate() {
                    let piece = pool.take().expect("one for each connection");
                    let token = Op::Receive(index);
                    ring.receive(socket.as_raw_fd(), piece, 0, RECEIVE_BYTES, token);
                }
            }
        }
        Ok(Server {
            plan,
            ring,
            sockets,
            peers: sockets.iter().map(|_| Peer::default()).collect(),
            tail: Tail::new(pool),
            staged: Vec::new(),
            committing: None,
            written: 0,
            disk,
            reader: reader.map(Reader::new),
            open: sockets.len(),
            in_flight: 0,
            work: Work::default(),
        })
    }

    /// Serves until all connections are closed and everything is answered.
    pub fn run(mut self) -> io::Result<Work> {
        let mut done = Vec::new();
        let (wait, limit) = self.plan.gather;
        while self.open > 0 || self.in_flight > 0 {
            if wait > 1 {
                self.ring.wait_for(wait, limit)?;
            } else {
                self.ring.wait(1)?;
            }
            self.ring.reap(&mut done);
            for done in done.drain(..) {
                self.take(done)?;
            }
            self.commit()?;
        }
        Ok(self.work)
    }

    fn take(&mut self, done: Done<Op>) -> io::Result<()> {
        match done.token {
            Op::Receive(peer) => self.received(peer, done),
            Op::Answer(peer) => {
                self.in_flight -= 1;
                done.bytes()?;
                self.peers[peer].sending = false;
                if let Memory::Bytes(mut room) = done.memory {
                    room.clear();
                    self.flush(peer, room);
                }
                Ok(())
            }
            Op::Write => {
                self.in_flight -= 1;
                let bytes = done.bytes()?;
                self.committed(bytes, done.memory.into_piece())
            }
            Op::Forward => {
                self.in_flight -= 1;
                done.bytes()?;
                self.tail.give(done.memory.into_piece());
                self.reader.as_mut().into_iter().for_each(Reader::sent);
                self.forward();
                Ok(())
            }
        }
    }

    fn received(&mut self, index: usize, mut done: Done<Op>) -> io::Result<()> {
        let socket = self.sockets.get(index).as_raw_fd();
        let bytes = match done.bytes() {
            // The kernel found no buffer; by now they are back.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.ring.receive_many(socket, Op::Receive(index));
                return Ok(());
            }
            bytes => bytes?,
        };
        if bytes == 0 {
            self.open -= 1;
            if !self.peers[index].frames.is_between() {
                return Err(wire::invalid("a connection was closed within a frame"));
            }
            return Ok(());
        }
        let Peer { frames, waiting, .. } = &mut self.peers[index];
        let (most, before) = (self.plan.frame_bytes, waiting.len());
        let (tail, work) = (&mut self.tail, &mut self.work);
        let stage = |frame: &[u8]| {
            let answer = tail.stage(frame)?;
            work.frames += u64::from(answer == Answer::Taken);
            work.refused += u64::from(answer == Answer::Refused);
            waiting.extend(answer.encode());
            Ok(())
        };
        if let Some(filled) = done.filled.take() {
            let data = self.ring.received(&filled);
            frames.take(data, most, stage)?;
            self.ring.give_back(filled);
            if !done.more {
                self.ring.receive_many(socket, Op::Receive(index));
            }
        } else {
            let piece = done.memory.into_piece();
            frames.take(&piece[..bytes], most, stage)?;
            self.ring.receive(socket, piece, 0, RECEIVE_BYTES, Op::Receive(index));
        }
        let peer = &self.peers[index];
        if before == peer.committing && peer.waiting.len() > before {
            self.staged.push(index);
        }
        Ok(())
    }

    /// Writes the tail, unless a write is under way or the reader has all the memory.
    fn commit(&mut self) -> io::Result<()> {
        if self.staged.is_empty() || self.committing.is_some() {
            return Ok(());
        }
        let Some((piece, written)) = self.tail.cut() else { return Ok(()) };
        self.written = written;
        let staged = std::mem::take(&mut self.staged);
        for index in &staged {
            let peer = &mut self.peers[*index];
            peer.committing = peer.waiting.len();
        }
        self.committing = Some(staged);
        self.work.groups += 1;
        let bytes = blocks(self.written);
        let Some(disk) = self.disk.as_mut().filter(|_| bytes > 0) else {
            return self.committed(bytes, piece);
        };
        let at = disk.place(bytes)?;
        let sync = self.plan.durability == Durability::Durable;
        if self.plan.submit == Submit::Inline {
            disk.write(&piece[..bytes], at, sync)?;
            return self.committed(bytes, piece);
        }
        self.ring.write(disk.descriptor(), piece, bytes, at, sync, Op::Write);
        self.in_flight += 1;
        Ok(())
    }

    fn committed(&mut self, bytes: usize, piece: Piece) -> io::Result<()> {
        if bytes != blocks(self.written) {
            return Err(wire::invalid("the disk took a part of a write"));
        }
        let mut peers = self.committing.take().unwrap_or_default();
        for index in peers.drain(..) {
            let peer = &mut self.peers[index];
            peer.outbox.extend(peer.waiting.drain(..peer.committing));
            peer.committing = 0;
            self.flush(index, Vec::new());
        }
        match &mut self.reader {
            Some(reader) if self.written > 0 => reader.push(piece, self.written),
            _ => self.tail.give(piece),
        }
        self.forward();
        if self.staged.is_empty() {
            // Its memory serves again.
            self.staged = peers;
        }
        Ok(())
    }

    fn forward(&mut self) {
        let Some((socket, piece, bytes)) = self.reader.as_mut().and_then(Reader::next) else {
            return;
        };
        self.ring.send(socket, Memory::Piece(piece), 0, bytes, Op::Forward);
        self.in_flight += 1;
    }

    /// Sends what is to be answered, unless a send is under way; later answers go into `room`.
    fn flush(&mut self, index: usize, room: Vec<u8>) {
        let peer = &mut self.peers[index];
        if peer.sending {
            return;
        }
        if peer.outbox.is_empty() {
            if room.capacity() > 0 {
                peer.outbox = room;
            }
            return;
        }
        let answers = std::mem::replace(&mut peer.outbox, room);
        let bytes = answers.len();
        peer.sending = true;
        let socket = self.sockets.get(index).as_raw_fd();
        self.ring.send(socket, Memory::Bytes(answers), 0, bytes, Op::Answer(index));
        self.in_flight += 1;
    }
}
