//! The server of `send`: bytes from memory, or read ahead from a file, to every connection.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::args::Source;
use crate::ring::{BLOCK, Done, Memory, Piece, Pool, Ring};
use crate::sockets::Sockets;
use crate::stage::Stage;
use crate::wire::invalid;

/// What the server does.
pub struct Plan {
    /// Time to look for work before sleeping.
    pub spin: Duration,
    pub source: Source,
    pub chunk_bytes: usize,
    /// Hot: chunks of memory that are sent in turn.
    pub chunks: usize,
    /// Cold: reads under way, or done and not sent, for each connection.
    pub depth: usize,
    /// The file to read, and its length.
    pub file: Option<(RawFd, u64)>,
    /// Chunks for each connection.
    pub count: Option<u64>,
    /// Whether a chunk is sent only when it was asked for, with a byte.
    pub asked: bool,
}

const PROVIDED: u16 = 64;

#[derive(Clone, Copy, Debug)]
enum Op {
    Ask(usize),
    Read { peer: usize, ticket: u64 },
    Send(usize),
}

/// A connection.
struct Peer {
    /// Chunks that were read, from the next one to be sent; `sent` is its number.
    ready: VecDeque<Option<Piece>>,
    sent: u64,
    begun: u64,
    /// Chunks that were asked for, since the beginning.
    asked: u64,
    sending: bool,
    gone: bool,
}

struct Server<'a> {
    plan: Plan,
    stage: &'a Stage,
    ring: Ring<Op>,
    sockets: &'a Sockets,
    peers: Vec<Peer>,
    pool: Pool,
    memory: &'static [u8],
    in_flight: usize,
}

/// Sends until the end; returns how many chunks.
pub fn run(plan: Plan, stage: &Stage, sockets: &Sockets) -> io::Result<u64> {
    let mut ring = Ring::new(1024, plan.spin)?;
    let peers = match plan.source {
        Source::Read => 1,
        Source::Hot | Source::Cold => sockets.len(),
    };
    let pieces = if plan.source == Source::Hot { 0 } else { peers * plan.depth };
    let pool = Pool::new(pieces, plan.chunk_bytes)?;
    if pieces > 0 {
        ring.register(&pool)?;
    }
    let asked = if plan.asked { 0 } else { u64::MAX };
    let new_peer =
        || Peer { ready: VecDeque::new(), sent: 0, begun: 0, asked, sending: false, gone: false };
    let peers = (0..peers).map(|_| new_peer()).collect();
    let memory = memory(plan.chunks * plan.chunk_bytes)?;
    Server { plan, stage, ring, sockets, peers, pool, memory, in_flight: 0 }.run()
}

/// Bytes in huge pages, for ever.
fn memory(bytes: usize) -> io::Result<&'static [u8]> {
    let mut piece = Pool::new(1, bytes)?.take().expect("a new pool has its piece");
    piece.fill(0x5A);
    Ok(piece.leak())
}

impl Server<'_> {
    fn run(mut self) -> io::Result<u64> {
        if self.plan.asked {
            self.ring.provide(PROVIDED, BLOCK)?;
            for (index, socket) in self.sockets.iter().enumerate() {
                self.ring.receive_many(socket.as_raw_fd(), Op::Ask(index));
            }
        }
        let mut done = Vec::new();
        loop {
            for index in 0..self.peers.len() {
                self.read_ahead(index);
                self.send(index);
            }
            if self.plan.source == Source::Read {
                let chunks = self.peers[0].sent;
                self.stage.done(chunks, chunks * self.plan.chunk_bytes as u64);
            }
            if self.in_flight == 0 && self.peers.iter().all(|peer| self.is_done(peer)) {
                self.sockets.finish()?;
                return Ok(self.peers.iter().map(|peer| peer.sent).sum());
            }
            self.ring.wait(1)?;
            self.ring.reap(&mut done);
            for done in done.drain(..) {
                self.take(done)?;
            }
        }
    }

    /// Whether nothing more is to be begun.
    fn is_over(&self, peer: &Peer) -> bool {
        self.is_done(peer) || self.plan.count.is_some_and(|count| peer.begun >= count)
    }

    /// Whether nothing more is to be sent.
    fn is_done(&self, peer: &Peer) -> bool {
        let counted = self.plan.count.is_some_and(|count| peer.sent >= count);
        peer.gone || counted || self.stage.is_over()
    }

    /// Begins reads, in the order in which the chunks are sent.
    fn read_ahead(&mut self, index: usize) {
        let Some((file, file_bytes)) = self.plan.file else { return };
        let chunk = self.plan.chunk_bytes;
        while self.peers[index].ready.len() < self.plan.depth {
            if self.is_over(&self.peers[index]) {
                return;
            }
            let Some(piece) = self.pool.take() else { return };
            let peer = &mut self.peers[index];
            let at = peer.begun % (file_bytes / chunk as u64) * chunk as u64;
            let token = Op::Read { peer: index, ticket: peer.begun };
            peer.ready.push_back(None);
            peer.begun += 1;
            self.ring.read(file, piece, chunk, at, token);
            self.in_flight += 1;
        }
    }

    fn send(&mut self, index: usize) {
        let chunk = self.plan.chunk_bytes;
        if self.plan.source == Source::Hot {
            let over = self.is_over(&self.peers[index]);
            let peer = &mut self.peers[index];
            if over || peer.sending || peer.asked <= peer.begun {
                return;
            }
            let at = (peer.begun as usize % self.plan.chunks) * chunk;
            peer.begun += 1;
            peer.sending = true;
            let socket = self.sockets.get(index).as_raw_fd();
            self.ring.send(socket, Memory::Shared(self.memory), at, at + chunk, Op::Send(index));
            self.in_flight += 1;
            return;
        }
        let peer = &mut self.peers[index];
        while !peer.sending && peer.asked > peer.sent {
            let Some(piece) = peer.ready.front_mut().and_then(Option::take) else { return };
            if self.plan.source == Source::Read || peer.gone {
                peer.ready.pop_front();
                peer.sent += u64::from(!peer.gone);
                self.pool.give(piece);
                continue;
            }
            peer.sending = true;
            let socket = self.sockets.get(index).as_raw_fd();
            self.ring.send(socket, Memory::Piece(piece), 0, chunk, Op::Send(index));
            self.in_flight += 1;
        }
    }

    fn take(&mut self, mut done: Done<Op>) -> io::Result<()> {
        let chunk = self.plan.chunk_bytes;
        match done.token {
            Op::Ask(index) => {
                let asked = done.bytes()?;
                let peer = &mut self.peers[index];
                peer.asked += asked as u64;
                peer.gone |= asked == 0;
                if let Some(filled) = done.filled.take() {
                    self.ring.give_back(filled);
                }
                if !done.more && asked > 0 {
                    let socket = self.sockets.get(index).as_raw_fd();
                    self.ring.receive_many(socket, Op::Ask(index));
                }
            }
            Op::Read { peer, ticket } => {
                self.in_flight -= 1;
                if done.bytes()? != chunk {
                    return Err(invalid("the disk gave a part of a read"));
                }
                let peer = &mut self.peers[peer];
                peer.ready[(ticket - peer.sent) as usize] = Some(done.memory.into_piece());
            }
            Op::Send(index) => {
                self.in_flight -= 1;
                if done.bytes()? != chunk {
                    return Err(invalid("a connection took a part of a chunk"));
                }
                let peer = &mut self.peers[index];
                peer.sending = false;
                peer.sent += 1;
                if let Memory::Piece(piece) = done.memory {
                    peer.ready.pop_front();
                    self.pool.give(piece);
                }
            }
        }
        Ok(())
    }
}
