//! The reader's end at the server: pieces go out one after the other, whole.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};

use crate::ring::Piece;
use crate::sockets::Sockets;

/// A connection that gets what is durable.
pub struct Reader {
    socket: RawFd,
    waiting: VecDeque<(Piece, usize)>,
    sending: bool,
}

impl Reader {
    pub fn new(sockets: &Sockets) -> Reader {
        let socket = sockets.get(0).as_raw_fd();
        Reader { socket, waiting: VecDeque::new(), sending: false }
    }

    /// The first `bytes` of the piece are to be sent.
    pub fn push(&mut self, piece: Piece, bytes: usize) {
        self.waiting.push_back((piece, bytes));
    }

    /// What is to be sent now, unless a send is under way.
    pub fn next(&mut self) -> Option<(RawFd, Piece, usize)> {
        if self.sending {
            return None;
        }
        let (piece, bytes) = self.waiting.pop_front()?;
        self.sending = true;
        Some((self.socket, piece, bytes))
    }

    /// A send has ended.
    pub fn sent(&mut self) {
        self.sending = false;
    }
}
