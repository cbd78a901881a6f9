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
    /// Count of reads when it came.
    born: u64,
}

impl Window {
    /// What was read at `pos`.
    pub(super) fn new(key: SegmentKey, pos: u64, bytes: Bytes) -> Window {
        Window { key, pos, len: bytes.len() as u64, source: Source::Read(bytes), born: 0 }
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

    /// Its bytes from `pos` on, if they were read and there are `len` of them.
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
    bytes: Cell<u64>,
    bytes_max: u64,
    reads: Cell<u64>,
}

impl ReadAhead {
    /// Zero reads nothing ahead and keeps nothing.
    pub(in crate::storage) fn new(bytes_max: usize) -> ReadAhead {
        ReadAhead {
            windows: RefCell::default(),
            expected: RefCell::default(),
            bytes: Cell::new(0),
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
        let holds = |window: &Window| window.key == key && window.pos <= pos && pos < window.end();
        let window = windows.iter().position(holds).and_then(|index| windows.remove(index))?;
        self.bytes.set(self.bytes.get() - window.len);
        Some(window)
    }

    /// Whether the byte at `pos` is in a window.
    pub(super) fn holds(&self, key: SegmentKey, pos: u64) -> bool {
        let windows = self.windows.borrow();
        windows.iter().any(|window| window.key == key && window.pos <= pos && pos < window.end())
    }

    /// Keeps what a reader leaves of a window, from the block at `pos` on.
    pub(super) fn put_back(&self, window: &Window, pos: u64) {
        let rest = window.end().saturating_sub(pos);
        if let Some(bytes) = window.bytes_at(pos, rest).filter(|bytes| !bytes.is_empty()) {
            self.keep(Window::new(window.key, pos, bytes));
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
        self.keep(Window { key, pos, len, source, born: 0 });
    }

    /// Forgets everything of the segments that `gone` names: their files are removed or made anew.
    pub(super) fn forget(&self, gone: impl Fn(&SegmentKey) -> bool) {
        self.expected.borrow_mut().retain(|(key, _)| !gone(key));
        let mut windows = self.windows.borrow_mut();
        windows.retain(|window| !gone(&window.key));
        self.bytes.set(windows.iter().map(|window| window.len).sum());
    }

    fn keep(&self, window: Window) {
        if self.make_room(window.len) {
            self.bytes.set(self.bytes.get() + window.len);
            self.windows.borrow_mut().push_back(Window { born: self.reads.get(), ..window });
        }
    }

    /// Whether `len` more bytes fit, after windows are dropped that nobody has wanted for a while.
    fn make_room(&self, len: u64) -> bool {
        let mut windows = self.windows.borrow_mut();
        while self.bytes.get() + len > self.bytes_max {
            let oldest = windows.front().map(|window| window.born);
            if oldest.is_none_or(|born| born + STALE_READS > self.reads.get()) {
                return false;
            }
            if let Some(dropped) = windows.pop_front() {
                self.bytes.set(self.bytes.get() - dropped.len);
            }
        }
        true
    }
}
