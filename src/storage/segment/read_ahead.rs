//! Read-ahead: what was read of segments and not asked for yet, and reads under way behind a
//! reader that goes through a segment in order.
//!
//! Not a cache: a window goes to the first reader that takes it, which puts back what it leaves.
//! Blocks of a segment are never overwritten, so a window stays true until the file is made anew or
//! removed ([`ReadAhead::forget`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::io::file::File;

use super::SegmentKey;

/// Positions remembered at which a reader is expected to go on: readers that can be served at once.
const EXPECTED_MAX: usize = 256;

/// A window that nobody wanted for this many reads may go to make room.
const STALE_READS: u64 = 64;

type Reading = Pin<Box<dyn Future<Output = std::io::Result<Bytes>>>>;

enum Source {
    Reading(Reading),
    Read(Bytes),
}

/// Whole blocks of one segment file, read or being read.
pub(super) struct Window {
    key: SegmentKey,
    pos: u64,
    len: u64,
    source: Source,
    /// Bytes of the read that it is from: a rest of it keeps all of that memory.
    charged_bytes: u64,
    /// Count of reads when it came.
    born: u64,
}

impl Window {
    /// What was read at `pos`.
    pub(super) fn new(key: SegmentKey, pos: u64, bytes: Bytes) -> Window {
        let len = bytes.len() as u64;
        Window { key, pos, len, source: Source::Read(bytes), charged_bytes: len, born: 0 }
    }

    /// The first position behind it.
    pub(super) fn end(&self) -> u64 {
        self.pos + self.len
    }

    /// Waits for its bytes; `None` if they could not be read: who needs them reads again, and
    /// learns why.
    pub(super) async fn ready(self) -> Option<Window> {
        let bytes = match self.source {
            Source::Read(bytes) => bytes,
            Source::Reading(read) => read.await.ok()?,
        };
        (bytes.len() as u64 == self.len).then(|| Window { source: Source::Read(bytes), ..self })
    }

    fn holds(&self, key: SegmentKey, pos: u64) -> bool {
        self.key == key && self.pos <= pos && pos < self.end()
    }

    /// Its bytes from `pos` on, if they were read and there are at least `len` of them.
    pub(super) fn bytes_at(&self, pos: u64, len: u64) -> Option<Bytes> {
        let Source::Read(bytes) = &self.source else { return None };
        let begin = usize::try_from(pos.checked_sub(self.pos)?).ok()?;
        let end = usize::try_from(len).ok()?.checked_add(begin)?;
        (end <= bytes.len()).then(|| bytes.slice(begin..))
    }
}

/// The windows of one store. Single-threaded.
pub(in crate::storage) struct ReadAhead {
    windows: RefCell<VecDeque<Window>>,
    expected: RefCell<VecDeque<(SegmentKey, u64)>>,
    bytes_max: u64,
    reads: Cell<u64>,
}

impl ReadAhead {
    /// Zero reads nothing ahead and keeps nothing.
    pub(in crate::storage) fn new(bytes_max: usize) -> ReadAhead {
        ReadAhead {
            windows: RefCell::default(),
            expected: RefCell::default(),
            bytes_max: bytes_max as u64,
            reads: Cell::new(0),
        }
    }

    /// A read begins at the block at `pos`. Says whether one that ended lately said that it would
    /// ([`ReadAhead::expect`]).
    pub(super) fn begin(&self, key: SegmentKey, pos: u64) -> bool {
        self.reads.set(self.reads.get() + 1);
        let mut expected = self.expected.borrow_mut();
        let known = expected.iter().rposition(|place| *place == (key, pos));
        known.is_some_and(|index| expected.remove(index).is_some())
    }

    /// A read ended where the next one of the same reader would begin.
    pub(super) fn expect(&self, key: SegmentKey, pos: u64) {
        let mut expected = self.expected.borrow_mut();
        if expected.len() == EXPECTED_MAX {
            expected.pop_front();
        }
        expected.push_back((key, pos));
    }

    /// Takes the window that holds the byte at `pos`.
    pub(super) fn take(&self, key: SegmentKey, pos: u64) -> Option<Window> {
        let mut windows = self.windows.borrow_mut();
        let index = windows.iter().position(|window| window.holds(key, pos))?;
        windows.remove(index)
    }

    /// Whether the byte at `pos` is in a window.
    pub(super) fn holds(&self, key: SegmentKey, pos: u64) -> bool {
        self.windows.borrow().iter().any(|window| window.holds(key, pos))
    }

    /// Keeps what a reader leaves of a window, from the block at `pos` on.
    pub(super) fn put_back(&self, window: &Window, pos: u64) {
        let rest = window.end().saturating_sub(pos);
        if let Some(bytes) = window.bytes_at(pos, rest).filter(|bytes| !bytes.is_empty()) {
            let charged_bytes = window.charged_bytes;
            self.keep(Window { charged_bytes, ..Window::new(window.key, pos, bytes) });
        }
    }

    /// Begins to read `len` bytes at `pos`, if there is room.
    pub(super) fn start(&self, key: SegmentKey, file: &File, pos: u64, len: u64) {
        let Ok(read_len) = usize::try_from(len) else { return };
        if !self.make_room(len) {
            return;
        }
        let file = file.clone();
        let mut read: Reading = Box::pin(async move { file.read_at(pos, read_len).await });
        // The first poll gives the request to the device; whoever takes the window asks again.
        let source = match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(bytes)) => Source::Read(bytes),
            Poll::Ready(Err(_)) => return,
            Poll::Pending => Source::Reading(read),
        };
        self.keep(Window { key, pos, len, source, charged_bytes: len, born: 0 });
    }

    /// Forgets everything of the segments that `gone` names: their files are removed or made anew.
    pub(super) fn forget(&self, gone: impl Fn(&SegmentKey) -> bool) {
        self.expected.borrow_mut().retain(|(key, _)| !gone(key));
        self.windows.borrow_mut().retain(|window| !gone(&window.key));
    }

    fn keep(&self, window: Window) {
        if self.make_room(window.charged_bytes) {
            self.windows.borrow_mut().push_back(Window { born: self.reads.get(), ..window });
        }
    }

    /// Memory that the windows keep.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.windows.borrow().iter().map(|window| window.charged_bytes).sum()
    }

    /// Whether `bytes` more fit, after windows are dropped that nobody has wanted for a while.
    fn make_room(&self, bytes: u64) -> bool {
        while self.charged_bytes() + bytes > self.bytes_max {
            let oldest = self.windows.borrow().front().map(|window| window.born);
            if oldest.is_none_or(|born| born + STALE_READS > self.reads.get()) {
                return false;
            }
            self.windows.borrow_mut().pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

    #[test]
    fn what_is_left_of_a_read_counts_as_the_memory_of_all_of_it() {
        let topic_partition =
            TopicPartition { topic_id: TopicId([1; 16]), partition: PartitionIndex(0) };
        let key = |base| SegmentKey { topic_partition, base_offset: Offset(base), revision: 0 };
        let ahead = ReadAhead::new(250);
        for base in 0..5 {
            ahead.begin(key(base), 0);
            let window = Window::new(key(base), 0, Bytes::from(vec![0; 100]));
            ahead.put_back(&window, 90);
        }
        // Ten bytes each are wanted, a hundred each are kept: two fit.
        assert_eq!(ahead.charged_bytes(), 200);
        assert!(ahead.holds(key(1), 95) && !ahead.holds(key(2), 95));
        // Long unwanted, they make room.
        (0..STALE_READS).for_each(|_| _ = ahead.begin(key(9), 0));
        ahead.put_back(&Window::new(key(9), 0, Bytes::from(vec![0; 100])), 50);
        assert!(ahead.holds(key(9), 50) && !ahead.holds(key(0), 95));
        assert_eq!(ahead.charged_bytes(), 200);
    }
}
