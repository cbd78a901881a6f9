//! Cuts the byte stream of one connection into frames without moving record bytes.
//!
//! Small frames share a chunk: many are received by one call and each becomes a slice of it. A large
//! frame gets aligned memory of its own and is received straight into it, together with the four
//! bytes that announce the next frame. If these have not come yet, they are waited for alone, so that
//! a large frame which follows a large one is never moved. What is moved (the part of a frame that
//! had arrived in a chunk which it outgrew) is counted.
//!
//! Where in its memory a large frame begins is chosen so that a batch which lies in it as one did in
//! the last frame can be written from there as it is ([`FramePlace`]).

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::frame_place::FramePlace;
use crate::io::buf::IoBuf;
use crate::io::tcp::TcpStream;
use crate::protocol::frame::{self, FrameError};
use crate::shard::budget::{Budget, Permit};

/// Size of the chunks that small frames share.
const CHUNK_BYTES: usize = 64 * 1024;
/// Frames from this size on get memory of their own.
const LARGE_FRAME_BYTES: usize = 32 * 1024;
/// Small frames after which a client is no longer expected to send a large one. Until then a prefix
/// is received alone: one call more, against up to a chunk of bytes that would have to be moved.
const SMALL_RUN_FRAMES: u32 = 8;
/// Length prefix of a frame.
const PREFIX_BYTES: usize = 4;

/// Why no further frame can be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The announced length is not acceptable.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The socket failed.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// The peer closed in the middle of a frame.
    #[error("the peer closed in the middle of a frame")]
    Torn,
}

/// A frame's bytes (without the length prefix) and the budget that they occupy.
pub struct Frame {
    /// The frame, a slice of receive memory.
    pub bytes: Bytes,
    /// Given back when the request is done with.
    pub permit: Permit,
}

/// Reading side of one connection.
pub struct FrameReader {
    stream: Rc<TcpStream>,
    place: FramePlace,
    budget: Budget,
    /// Received and not yet cut; its spare capacity is where the next bytes go.
    buf: BytesMut,
    /// Room that is kept at a chunk's end so that a frame which begins near it can be finished
    /// there: the largest small frame seen.
    reserve: usize,
    /// Small frames to come before a large one is no longer expected.
    large_expected_frames: u32,
    moved_bytes: u64,
    /// Whether a frame has begun and is not complete; read by the connection's reaper.
    partial: Rc<Cell<bool>>,
}

impl FrameReader {
    /// A reader at the start of the stream.
    #[must_use]
    pub fn new(
        stream: Rc<TcpStream>,
        budget: Budget,
        partial: Rc<Cell<bool>>,
        place: FramePlace,
    ) -> FrameReader {
        FrameReader {
            stream,
            place,
            budget,
            buf: BytesMut::new(),
            reserve: 4096,
            large_expected_frames: 0,
            moved_bytes: 0,
            partial,
        }
    }

    /// Bytes of frames that were copied from one receive buffer to another since the last call.
    pub fn take_moved_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.moved_bytes)
    }

    /// The next frame, or `None` at the end of the stream. `bytes_max` bounds a frame.
    ///
    /// # Errors
    /// An unacceptable length, a socket error, or a stream that ends inside a frame.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Option<Frame>, ReadError> {
        let Some(frame_bytes) = self.read_prefix(bytes_max).await? else { return Ok(None) };
        self.partial.set(true);
        let permit = self.budget.acquire(frame_bytes).await;
        let bytes = if frame_bytes < LARGE_FRAME_BYTES {
            self.large_expected_frames = self.large_expected_frames.saturating_sub(1);
            self.read_small(frame_bytes).await?
        } else {
            self.large_expected_frames = SMALL_RUN_FRAMES;
            self.read_large(frame_bytes).await?
        };
        self.partial.set(false);
        Ok(Some(Frame { bytes, permit }))
    }

    /// Receives until the length of the next frame is known.
    async fn read_prefix(&mut self, bytes_max: usize) -> Result<Option<usize>, ReadError> {
        loop {
            if let Some(prefix) = self.buf.first_chunk::<PREFIX_BYTES>() {
                return Ok(Some(frame::frame_len(*prefix, bytes_max)?));
            }
            let spare = self.buf.capacity() - self.buf.len();
            let len_max = if self.large_expected_frames > 0 {
                let missing = PREFIX_BYTES - self.buf.len();
                if spare < missing {
                    self.move_to(PREFIX_BYTES);
                }
                missing
            } else {
                if spare <= self.reserve {
                    self.move_to(CHUNK_BYTES);
                }
                self.buf.capacity() - self.buf.len() - self.reserve
            };
            if self.receive(len_max).await? == 0 {
                return if self.buf.is_empty() { Ok(None) } else { Err(ReadError::Torn) };
            }
        }
    }

    /// The frame as a slice of the chunk that it shares with others.
    async fn read_small(&mut self, frame_bytes: usize) -> Result<Bytes, ReadError> {
        let whole = PREFIX_BYTES + frame_bytes;
        while self.buf.len() < whole {
            let missing = whole - self.buf.len();
            if self.buf.capacity() - self.buf.len() < missing {
                self.move_to(CHUNK_BYTES);
            }
            let room = self.buf.capacity() - self.buf.len();
            if self.receive(missing.max(room.saturating_sub(self.reserve))).await? == 0 {
                return Err(ReadError::Torn);
            }
        }
        self.reserve = self.reserve.max(whole);
        let _prefix = self.buf.split_to(PREFIX_BYTES);
        Ok(self.buf.split_to(frame_bytes).freeze())
    }

    /// The frame in memory of its own, received there but for what came with its prefix.
    async fn read_large(&mut self, frame_bytes: usize) -> Result<Bytes, ReadError> {
        let begin = self.place.begin();
        let whole = begin + frame_bytes;
        let mut memory = IoBuf::alloc(whole + PREFIX_BYTES);
        let _prefix = self.buf.split_to(PREFIX_BYTES);
        let came = self.buf.split_to(self.buf.len().min(frame_bytes));
        let mut end = begin + came.len();
        memory[begin..end].copy_from_slice(&came);
        self.moved_bytes += came.len() as u64;
        while end < whole {
            // With what announces the next frame; of that no more, which would then be moved.
            let (received, back) =
                self.stream.recv_aligned(memory, end, whole + PREFIX_BYTES).await;
            memory = back;
            match received? {
                0 => return Err(ReadError::Torn),
                count => end += count,
            }
        }
        if self.buf.len() < PREFIX_BYTES {
            // Not in memory that would then live until the next frame comes.
            self.move_to(PREFIX_BYTES);
            self.buf.extend_from_slice(&memory[whole..whole.max(end)]);
        }
        Ok(memory.freeze(whole).slice(begin..))
    }

    /// Continues in fresh memory of `capacity`; what has arrived of a frame moves along.
    fn move_to(&mut self, capacity: usize) {
        let mut fresh = BytesMut::with_capacity(capacity);
        fresh.extend_from_slice(&self.buf);
        self.moved_bytes += self.buf.len().saturating_sub(PREFIX_BYTES) as u64;
        self.buf = fresh;
    }

    async fn receive(&mut self, len_max: usize) -> io::Result<usize> {
        let (result, buf) = self.stream.recv(std::mem::take(&mut self.buf), len_max).await;
        self.buf = buf;
        result
    }
}
