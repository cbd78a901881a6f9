//! Reads of segments that leave the device to the journal: a durable write waits behind every read that the
//! device already has, and some schedulers even prefer reads.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::base::clock::Clock;
use crate::base::limits::BLOCK_ALIGN;
use crate::io::buf::IoBuf;
use crate::io::disk::Disk;
use crate::io::file::File;

use super::super::gate::Gate;

/// Read at once while the journal is being written: a quarter of a millisecond of a fast device.
const PIECE_BYTES: usize = 256 << 10;

/// The journal is being written if its last commit is not longer ago.
const BUSY_MS: i64 = 100;

/// How long the device is left alone behind a piece, in parts of what the piece took: one that is busy
/// is left alone for longer.
const REST: u64 = 3;

/// The longest that it is left alone: a device that stalled once is no reason to keep readers waiting.
const REST_US_MAX: u64 = 20_000;

/// How a store's segments are read. Single-threaded.
pub(in crate::storage) struct ReadPace {
    /// `None` where nobody else uses the device.
    clock: Option<Clock>,
    last_commit_ms: Cell<i64>,
    turn: Gate,
    /// When the next piece may be read.
    next_us: Cell<u64>,
}

impl ReadPace {
    pub(in crate::storage) fn new(clock: Option<Clock>) -> ReadPace {
        let (last_commit_ms, next_us) = (Cell::new(i64::MIN), Cell::new(0));
        ReadPace { clock, last_commit_ms, turn: Gate::default(), next_us }
    }

    /// For segments whose journal is written by the same store. A simulated disk serves all at once,
    /// and what waits there for its turn may be polled by nobody.
    pub(in crate::storage) fn beside_journal(disk: &Disk, clock: &Clock) -> ReadPace {
        ReadPace::new(matches!(disk, Disk::Ring).then(|| clock.clone()))
    }

    /// A group of the journal was written.
    pub(in crate::storage) fn note_commit(&self) {
        if let Some(clock) = &self.clock {
            self.last_commit_ms.set(clock.now().steady_ms);
        }
    }

    /// Whether the journal is being written: reads go in pieces, one at a time, and nothing is read
    /// before it is asked for.
    pub(super) fn is_busy(&self) -> bool {
        let Some(clock) = &self.clock else { return false };
        clock.now().steady_ms.saturating_sub(self.last_commit_ms.get()) <= BUSY_MS
    }

    /// Up to `len` bytes at `pos`; fewer at the end of the file.
    pub(super) async fn read(
        &self,
        disk: &Disk,
        file: &File,
        pos: u64,
        len: usize,
    ) -> io::Result<Bytes> {
        let Some(clock) = self.clock.as_ref().filter(|_| self.is_busy()) else {
            return file.read_at(pos, len).await;
        };
        let (mut buf, mut filled) = (IoBuf::alloc(len), 0);
        while filled < len {
            let _turn = self.turn.enter().await;
            let wait_us = self.next_us.get().saturating_sub(clock.mono_us());
            if wait_us > 0 {
                disk.rest(Duration::from_micros(wait_us)).await;
            }
            let begun_us = clock.mono_us();
            let end = len.min(filled + PIECE_BYTES);
            let (back, count) = file.read_part(buf, filled..end, pos).await?;
            let done_us = clock.mono_us();
            self.next_us.set(done_us + ((done_us - begun_us) * REST).min(REST_US_MAX));
            buf = back;
            filled += count;
            if count == 0 || !filled.is_multiple_of(BLOCK_ALIGN) {
                break; // the end of the file
            }
        }
        Ok(buf.freeze(filled))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::io::SimOp;
    use crate::io::disk::OpenOptions;
    use crate::io::sim_disk::SimDisk;

    #[test]
    fn while_the_journal_is_written_reads_go_in_pieces_and_one_at_a_time() {
        let disk = SimDisk::new();
        let options = OpenOptions { write: true, create: true, direct: false };
        let home = Disk::Sim(disk.clone());
        let file = block_on(home.open(Path::new("/segment"), options)).expect("made");
        let content: Vec<u8> = (0..3 * PIECE_BYTES as u32 + 100).map(|at| at as u8).collect();
        block_on(file.write_at(Bytes::from(content.clone()), 0, false)).expect("written");
        let (clock, time) = Clock::simulated(0);
        let pace = ReadPace::new(Some(clock));
        let read = |pos, len| block_on(pace.read(&home, &file, pos, len)).expect("read");
        let reads = || disk.op_count(SimOp::Read);
        let before = reads();
        assert_eq!(read(0, content.len())[..], content[..]);
        assert_eq!(reads(), before + 1, "nobody writes");
        pace.note_commit();
        assert_eq!(read(0, content.len() + 5000)[..], content[..]);
        assert_eq!(reads(), before + 5);
        assert_eq!(read(4096, 5000)[..], content[4096..9096]);
        let turn = block_on(pace.turn.enter());
        assert!(
            block_on(poll_once(pace.read(&home, &file, 0, 4096))).is_none(),
            "another one is on"
        );
        drop(turn);
        time.advance_ms(BUSY_MS as u32 + 1);
        let before = reads();
        assert_eq!(read(0, content.len())[..], content[..]);
        assert_eq!(reads(), before + 1);
    }
}
