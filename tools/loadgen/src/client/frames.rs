//! Cuts a stream of bytes into frames, in one buffer that is used again and again: its memory
//! stays in the cache, and nothing is allocated once the largest frame has been seen.

use std::fmt;
use std::io;
use std::ops::Range;

use bytes::{Buf, BytesMut};

use super::stream::Stream;

/// Most that one receive takes. Larger pieces fall out of the cache before they are read, smaller
/// ones cost system calls (measured: 256 KiB is best, 64 KiB costs 13 to 30 %).
const RECEIVE_BYTES_MAX: usize = 256 * 1024;
const BUFFER_BYTES_MIN: usize = 64 * 1024;
/// A broker that announces more is not believed.
const FRAME_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum Broken {
    /// The broker closed it.
    Closed,
    /// The operating system says so.
    Io(io::Error),
    /// The broker sent what is not Kafka's protocol, or an answer to nothing that was asked.
    Nonsense(&'static str),
    /// One side does not accept the other: TLS, authentication.
    Refused(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Closed => f.write_str("closed by the broker"),
            Broken::Io(error) => write!(f, "{}", error.kind()),
            Broken::Nonsense(what) => f.write_str(what),
            Broken::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Broken {}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        // What the kernel says has a kind and nothing inside; TLS brings its own words.
        if error.get_ref().is_some() {
            Broken::Refused(error.to_string())
        } else {
            Broken::Io(error)
        }
    }
}

/// The receiving half of a connection.
pub struct FrameReader {
    stream: Stream,
    buf: BytesMut,
    received: u64,
}

impl FrameReader {
    /// Reads from `stream`.
    #[must_use]
    pub fn new(stream: impl Into<Stream>) -> FrameReader {
        let buf = BytesMut::with_capacity(BUFFER_BYTES_MIN);
        FrameReader { stream: stream.into(), buf, received: 0 }
    }

    /// Receives that were made so far: tells whether two frames came in one.
    #[must_use]
    pub fn receives(&self) -> u64 {
        self.received
    }

    /// Waits for one whole frame; returns its place in [`FrameReader::bytes`], without the length
    /// prefix. [`FrameReader::consume`] it before the next call.
    ///
    /// # Errors
    /// When the connection is of no more use. If the future is dropped, so is the connection.
    pub async fn frame(&mut self) -> Result<Range<usize>, Broken> {
        loop {
            let wanted = match self.buf.first_chunk::<4>() {
                None => BUFFER_BYTES_MIN,
                Some(prefix) => {
                    let len = usize::try_from(i32::from_be_bytes(*prefix))
                        .ok()
                        .filter(|&len| (4..=FRAME_BYTES_MAX).contains(&len))
                        .ok_or(Broken::Nonsense("a frame of impossible length"))?;
                    if self.buf.len() >= 4 + len {
                        return Ok(4..4 + len);
                    }
                    4 + len
                }
            };
            self.receive(wanted).await?;
        }
    }

    /// Whether a whole frame is at hand, so that [`FrameReader::frame`] would not wait.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.buf.first_chunk::<4>().is_some_and(|prefix| {
            usize::try_from(i32::from_be_bytes(*prefix)).is_ok_and(|len| self.buf.len() - 4 >= len)
        })
    }

    /// The bytes at hand.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Lets go of a frame.
    pub fn consume(&mut self, frame: &Range<usize>) {
        if self.buf.len() == frame.end {
            self.buf.clear(); // the next one starts at the same, warm place
        } else {
            self.buf.advance(frame.end);
        }
    }

    async fn receive(&mut self, wanted: usize) -> Result<(), Broken> {
        let missing = wanted.saturating_sub(self.buf.len()).max(1);
        // Moves what is there to the buffer's start before it allocates.
        self.buf.reserve(missing);
        let buf = std::mem::take(&mut self.buf);
        let (result, buf) = self.stream.recv(buf, RECEIVE_BYTES_MAX).await;
        self.buf = buf;
        self.received += 1;
        if result? == 0 { Err(Broken::Closed) } else { Ok(()) }
    }
}
