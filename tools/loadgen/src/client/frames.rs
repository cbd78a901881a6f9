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
            let wanted = match frame_len(&self.buf)? {
                None => BUFFER_BYTES_MIN,
                Some(len) if self.buf.len() >= 4 + len => return Ok(4..4 + len),
                Some(len) => 4 + len,
            };
            self.receive(wanted).await?;
        }
    }

    /// Whether a whole frame is at hand, so that [`FrameReader::frame`] would not wait.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        matches!(frame_len(&self.buf), Ok(Some(len)) if self.buf.len() >= 4 + len)
    }

    /// Waits for the first bytes of a frame, without its length prefix: all of it up to `head_max`
    /// bytes. Returns their place and the frame's whole length; [`FrameReader::frame`] still gives
    /// the frame.
    ///
    /// # Errors
    /// As of [`FrameReader::frame`].
    pub async fn head(&mut self, head_max: usize) -> Result<(Range<usize>, usize), Broken> {
        loop {
            let wanted = match frame_len(&self.buf)? {
                None => BUFFER_BYTES_MIN,
                Some(len) if self.buf.len() >= 4 + len.min(head_max) => {
                    return Ok((4..self.buf.len().min(4 + len), len));
                }
                Some(len) => 4 + len.min(head_max),
            };
            self.receive(wanted).await?;
        }
    }

    /// Receives the frame that begins here to its end and lets go of it, in the room that there is.
    ///
    /// # Errors
    /// As of [`FrameReader::frame`].
    pub async fn discard(&mut self, len: usize) -> Result<(), Broken> {
        let mut left = (4 + len).saturating_sub(self.buf.len());
        self.consume(&(4..(4 + len).min(self.buf.len())));
        while left > 0 {
            self.buf.clear();
            self.receive_up_to(RECEIVE_BYTES_MAX, left).await?;
            left -= self.buf.len();
            self.buf.clear();
        }
        Ok(())
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

    /// Receives what there is, with room for `wanted` bytes in all.
    async fn receive(&mut self, wanted: usize) -> Result<(), Broken> {
        let missing = wanted.saturating_sub(self.buf.len()).max(1);
        self.receive_up_to(missing, RECEIVE_BYTES_MAX).await
    }

    async fn receive_up_to(&mut self, room: usize, bytes_max: usize) -> Result<(), Broken> {
        // Moves what is there to the buffer's start before it allocates.
        self.buf.reserve(room);
        let buf = std::mem::take(&mut self.buf);
        let (result, buf) = self.stream.recv(buf, bytes_max.min(RECEIVE_BYTES_MAX)).await;
        self.buf = buf;
        self.received += 1;
        if result? == 0 { Err(Broken::Closed) } else { Ok(()) }
    }
}

/// The length of the frame at the start of `buf`, without its prefix; none if the prefix is not all
/// there.
fn frame_len(buf: &[u8]) -> Result<Option<usize>, Broken> {
    let Some(prefix) = buf.first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(i32::from_be_bytes(*prefix)).ok();
    let len = len.filter(|len| (4..=FRAME_BYTES_MAX).contains(len));
    len.map(Some).ok_or(Broken::Nonsense("a frame of impossible length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, Bytes};
    use futures_lite::future::block_on;
    use thalweg::io::tcp::TcpStream;

    fn frame(len: usize, fill: u8) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(len).expect("short"));
        frame.put_bytes(fill, len);
        frame.freeze()
    }

    #[test]
    fn a_frame_that_is_discarded_leaves_the_next_one_whole() {
        for big in [4, 5_000, 300_000, 1_100_000] {
            let (near, far) = TcpStream::pair(8 << 20);
            let mut reader = FrameReader::new(near);
            block_on(async {
                let sent = vec![frame(big, 1), frame(9, 2), frame(big, 3), frame(7, 4)];
                far.send_slices(sent).await.expect("room");
                for (fill, small) in [(1, 9), (3, 7)] {
                    let (head, len) = reader.head(2_000).await.expect("a head");
                    assert_eq!(len, big);
                    assert!(head.len() >= big.min(2_000) && head.len() <= big);
                    assert!(reader.bytes()[head].iter().all(|&byte| byte == fill));
                    reader.discard(len).await.expect("the rest");
                    let place = reader.frame().await.expect("the next");
                    assert_eq!(reader.bytes()[place.clone()], vec![fill + 1; small][..]);
                    reader.consume(&place);
                }
            });
        }
    }
}
