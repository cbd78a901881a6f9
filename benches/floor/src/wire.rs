//! Frames and answers. Not Kafka's: what a Produce costs beyond these few bytes is the broker's own.
//!
//! A frame is the length of its payload (u32), the payload's CRC-32C (u32), a number that the client
//! chooses (u64, outside of the CRC, as a batch's base offset is), and the payload; all little
//! endian. Each frame is answered with a u32, in the order of the frames of its connection.

use std::io;

/// Bytes before the payload.
pub const HEADER: usize = 16;
/// Bytes of an answer.
pub const ANSWER: usize = 4;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Checked, and as durable as was asked for.
    Taken,
    /// The CRC does not match; nothing was kept.
    Refused,
}

impl Answer {
    pub fn encode(self) -> [u8; ANSWER] {
        u32::to_le_bytes(match self {
            Answer::Taken => 0,
            Answer::Refused => 1,
        })
    }

    pub fn decode(bytes: [u8; ANSWER]) -> io::Result<Answer> {
        match u32::from_le_bytes(bytes) {
            0 => Ok(Answer::Taken),
            1 => Ok(Answer::Refused),
            other => Err(invalid(&format!("an answer of {other}"))),
        }
    }
}

/// A frame with bytes that do not compress, built once and sent again and again.
pub fn frame(payload_bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER + payload_bytes];
    fill(&mut frame, payload_bytes);
    frame
}

/// Makes the beginning of `room` a frame with a payload of `payload_bytes`.
pub fn fill(room: &mut [u8], payload_bytes: usize) {
    let (header, rest) = room.split_at_mut(HEADER);
    let payload = &mut rest[..payload_bytes];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for chunk in payload.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    header[..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    header[8..].fill(0);
}

/// Writes a frame's number.
pub fn set_number(frame: &mut [u8], number: u64) {
    frame[8..HEADER].copy_from_slice(&number.to_le_bytes());
}

/// A frame's number, from its header.
pub fn number(header: &[u8]) -> u64 {
    header[8..HEADER].try_into().map_or(0, u64::from_le_bytes)
}

/// The length of the whole frame that begins here, if its header is there.
pub fn frame_bytes(bytes: &[u8], most: usize) -> io::Result<Option<usize>> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let [a, b, c, d, ..] = *header;
    let whole = HEADER + u32::from_le_bytes([a, b, c, d]) as usize;
    if whole > most {
        let what = format!("a frame of {whole} bytes, where {most} are the most");
        return Err(invalid(&what));
    }
    Ok(Some(whole))
}

/// Whether a whole frame's payload is what its CRC says.
pub fn is_intact(frame: &[u8]) -> bool {
    let (header, payload) = frame.split_at(HEADER);
    header[4..8] == crc32c::crc32c(payload).to_le_bytes()
}

/// Finds the whole frames in bytes that come in pieces, copying only those that are cut.
#[derive(Debug, Default)]
pub struct Frames {
    cut: Vec<u8>,
}

impl Frames {
    /// Takes the next bytes of a connection and calls `each` for every frame that became whole.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        most: usize,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !self.cut.is_empty() && !bytes.is_empty() {
            let wanted = frame_bytes(&self.cut, most)?.unwrap_or(HEADER);
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.cut.len()));
            self.cut.extend_from_slice(now);
            bytes = later;
            if frame_bytes(&self.cut, most)? == Some(self.cut.len()) {
                each(&self.cut)?;
                self.cut.clear();
            }
        }
        while let Some(whole) = frame_bytes(bytes, most)? {
            let Some((frame, later)) = bytes.split_at_checked(whole) else { break };
            each(frame)?;
            bytes = later;
        }
        self.cut.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether the connection stands between two frames.
    pub fn is_between(&self) -> bool {
        self.cut.is_empty()
    }
}

pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut stream = Vec::new();
        for number in 0..5 {
            let mut frame = frame(20 + number);
            set_number(&mut frame, number as u64);
            stream.extend(frame);
        }
        for step in 1..stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in stream.chunks(step) {
                let each = |frame: &[u8]| {
                    assert!(is_intact(frame));
                    found.push((number(frame), frame.len()));
                    Ok(())
                };
                frames.take(piece, 100, each).expect("frames");
            }
            assert!(frames.is_between());
            assert_eq!(found, [(0, 36), (1, 37), (2, 38), (3, 39), (4, 40)], "step {step}");
        }
    }

    #[test]
    fn a_flipped_bit_and_a_frame_that_is_too_long_are_found() {
        let mut frame = frame(100);
        assert!(is_intact(&frame));
        frame[HEADER + 50] ^= 4;
        assert!(!is_intact(&frame));
        let error = frame_bytes(&frame, 115).expect_err("116 bytes");
        assert_eq!(error.to_string(), "a frame of 116 bytes, where 115 are the most");
    }
}
