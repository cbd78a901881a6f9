//! The memory that small frames share until it is written.

use std::io;

use crate::ring::{Piece, Pool, blocks};
use crate::wire::{self, Answer};

/// Tails that may wait for the reader.
pub const TAILS: usize = 32;

/// Frames, one after the other, from the beginning of a piece.
pub struct Tail {
    pool: Pool,
    piece: Piece,
    filled: usize,
}

impl Tail {
    /// Over the pieces of a new pool.
    pub fn new(mut pool: Pool) -> Tail {
        let piece = pool.take().expect("a new pool has its pieces");
        Tail { pool, piece, filled: 0 }
    }

    /// Checks a whole frame and copies it.
    ///
    /// # Errors
    /// The tail is full: the client has more in flight than was agreed.
    pub fn stage(&mut self, frame: &[u8]) -> io::Result<Answer> {
        if !wire::is_intact(frame) {
            return Ok(Answer::Refused);
        }
        let Some(room) = self.piece.get_mut(self.filled..self.filled + frame.len()) else {
            return Err(wire::invalid("the client has more in flight than was agreed"));
        };
        room.copy_from_slice(frame);
        self.filled += frame.len();
        Ok(Answer::Taken)
    }

    /// What is there, padded with zeros to whole blocks, and its length without them; what comes
    /// later goes elsewhere. `None` while all other pieces are out.
    pub fn cut(&mut self) -> Option<(Piece, usize)> {
        let next = self.pool.take()?;
        let mut piece = std::mem::replace(&mut self.piece, next);
        let filled = std::mem::take(&mut self.filled);
        piece[filled..blocks(filled)].fill(0);
        Some((piece, filled))
    }

    /// Takes a piece back.
    pub fn give(&mut self, piece: Piece) {
        self.pool.give(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::BLOCK;

    #[test]
    fn what_is_cut_is_padded_and_the_next_goes_elsewhere() {
        let mut tail = Tail::new(Pool::new(2, BLOCK).expect("memory"));
        let frame = wire::frame(1000);
        for _ in 0..2 {
            assert_eq!(tail.stage(&frame).expect("room"), Answer::Taken);
        }
        let (piece, filled) = tail.cut().expect("another piece");
        assert_eq!((&piece[..filled], filled), (&*frame.repeat(2), 2 * frame.len()));
        assert!(piece[filled..].iter().all(|byte| *byte == 0));
        assert_eq!(tail.stage(&frame).expect("room"), Answer::Taken);
        assert!(tail.cut().is_none(), "both pieces are out");
        tail.give(piece);
        assert_eq!(tail.cut().expect("it is back").1, frame.len());
    }

    #[test]
    fn a_full_tail_is_an_error_and_a_damaged_frame_is_not() {
        let mut tail = Tail::new(Pool::new(1, BLOCK).expect("memory"));
        let mut frame = wire::frame(3000);
        assert_eq!(tail.stage(&frame).expect("room"), Answer::Taken);
        assert!(tail.stage(&frame).is_err());
        frame[wire::HEADER] ^= 1;
        assert_eq!(tail.stage(&frame).expect("nothing to keep"), Answer::Refused);
    }
}
