//! Where the tasks of one load core write down what they see. Samples belong to the measured part
//! by their *intended* time, bytes by the time they were acknowledged or fetched. The measured time
//! may have several parts (steps; before, during and after a catch-up), each with a book of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::frame_pool::Load;
use super::progress::Drain;
use crate::measure::tally::Tally;

/// The parts of a run, ns of the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First send.
    pub start_ns: u64,
    /// End of the warm-up.
    pub measure_ns: u64,
    /// Last intended send.
    pub end_ns: u64,
    /// When what is still missing counts as missing.
    pub deadline_ns: u64,
}

impl Window {
    /// Whether `at_ns` belongs to the measured part.
    #[inline]
    #[must_use]
    pub fn measures(&self, at_ns: u64) -> bool {
        (self.measure_ns..self.end_ns).contains(&at_ns)
    }
}

/// A request that was answered, or given up.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When it was meant to leave.
    pub intended_ns: u64,
    /// When it left.
    pub sent_ns: u64,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnEnd {
    /// Committed.
    Committed,
    /// Aborted on purpose.
    Aborted,
    /// Aborted because something in it failed.
    Failed,
}

/// What one core saw since the last look.
pub struct Interval {
    /// Index of the load core.
    pub core: usize,
    /// Seconds since the first send.
    pub second: u64,
    /// Outside the measured time: shown live, not reported.
    pub warmup: Tally,
    /// The measured time's parts of which something was seen.
    pub measured: Vec<(usize, Tally)>,
}

/// One core's record book.
pub struct Recorder {
    window: Window,
    /// When each part begins, in order; the first with the measured time.
    parts: RefCell<Vec<u64>>,
    /// The part that was written to last, and when it begins and ends: mostly the next one, too.
    latest: Cell<(usize, u64, u64)>,
    warmup: RefCell<Tally>,
    measured: RefCell<Vec<Option<Tally>>>,
    /// Of a catch-up: whether its reading, and the time after it, have begun.
    drain_parts: Cell<usize>,
}

impl Recorder {
    /// An empty book. The first part begins with the measured time, the others at `later`, in order.
    #[must_use]
    pub fn new(window: Window, later: &[u64]) -> Rc<Recorder> {
        let mut starts = vec![window.measure_ns];
        starts.extend(later);
        Rc::new(Recorder {
            window,
            latest: Cell::new((0, 1, 0)),
            warmup: RefCell::new(Tally::new()),
            measured: RefCell::new(starts.iter().map(|_| None).collect()),
            parts: RefCell::new(starts),
            drain_parts: Cell::new(0),
        })
    }

    /// The run's parts.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// A new part begins at `at_ns`, or with the latest one, if that is later.
    fn begin_part(&self, at_ns: u64) {
        let mut parts = self.parts.borrow_mut();
        let latest = parts.last().copied().unwrap_or_default();
        parts.push(at_ns.max(latest));
        self.measured.borrow_mut().push(None);
        self.latest.set((0, 1, 0));
    }

    /// A catch-up goes on: its reading and the time after it are parts of their own.
    pub fn follow(&self, drain: Drain) {
        let begun = [drain.from_ns, drain.to_ns];
        while let Some(&Some(at_ns)) = begun.get(self.drain_parts.get()) {
            self.begin_part(at_ns);
            self.drain_parts.set(self.drain_parts.get() + 1);
        }
    }

    /// Applies `note` to the book that `at_ns` belongs to.
    #[inline]
    pub fn at(&self, at_ns: u64, note: impl FnOnce(&mut Tally)) {
        if !self.window.measures(at_ns) {
            note(&mut self.warmup.borrow_mut());
            return;
        }
        let (mut part, from_ns, to_ns) = self.latest.get();
        if !(from_ns..to_ns).contains(&at_ns) {
            let parts = self.parts.borrow();
            part = parts.partition_point(|&start| start <= at_ns).saturating_sub(1);
            let to_ns = parts.get(part + 1).copied().unwrap_or(u64::MAX);
            self.latest.set((part, parts[part], to_ns));
        }
        note(self.measured.borrow_mut()[part].get_or_insert_with(Tally::new));
    }

    /// Notes a send; `ready_ns` is when nothing but the generator itself stood in its way.
    pub fn sent(&self, sent: Sent, ready_ns: u64) {
        let late = sent.sent_ns.saturating_sub(ready_ns) > 1_000_000;
        self.at(sent.intended_ns, |tally| {
            tally.counters.sent_requests += 1;
            tally.counters.late_requests += u64::from(late);
            tally
                .latencies
                .delay
                .saturating_record(sent.sent_ns.saturating_sub(sent.intended_ns).max(1));
        });
    }

    /// Notes an acknowledgement that arrived at `now_ns`.
    pub fn acked(&self, sent: Sent, now_ns: u64, load: Load) {
        self.at(sent.intended_ns, |tally| {
            let latencies = &mut tally.latencies;
            latencies.response.saturating_record(now_ns.saturating_sub(sent.intended_ns).max(1));
            latencies.service.saturating_record(now_ns.saturating_sub(sent.sent_ns).max(1));
        });
        self.at(now_ns, |tally| {
            let counters = &mut tally.counters;
            counters.acked_requests += 1;
            counters.acked_records += u64::from(load.records);
            counters.acked_value_bytes += load.value_bytes;
            counters.acked_wire_bytes += load.wire_bytes;
        });
    }

    /// Notes a request that never got its answer. Its age is a lower bound of its latency, and is
    /// recorded as such: leaving it out would flatter the broker.
    pub fn unanswered(&self, sent: Sent, now_ns: u64) {
        self.at(sent.intended_ns, |tally| {
            tally.counters.unanswered_requests += 1;
            let age = now_ns.saturating_sub(sent.intended_ns).max(1);
            tally.latencies.response.saturating_record(age);
        });
    }

    /// Notes an arrival that was due at `intended_ns` and never left. Its age counts, too.
    pub fn unsent(&self, intended_ns: u64, now_ns: u64) {
        self.at(intended_ns, |tally| {
            tally.counters.unsent_requests += 1;
            let age = now_ns.saturating_sub(intended_ns).max(1);
            tally.latencies.response.saturating_record(age);
            tally.latencies.delay.saturating_record(age);
        });
    }

    /// Notes a request that was answered with an error, or lost with its connection.
    pub fn failed(&self, sent: Sent) {
        self.at(sent.intended_ns, |tally| tally.counters.failed_requests += 1);
    }

    /// Notes the end of a transaction, asked for at `asked_ns` and answered at `now_ns`.
    pub fn transaction(&self, end: TxnEnd, asked_ns: u64, now_ns: u64) {
        self.at(asked_ns, |tally| match end {
            TxnEnd::Committed => {
                tally.counters.committed_transactions += 1;
                let latency = now_ns.saturating_sub(asked_ns).max(1);
                tally.latencies.commit.saturating_record(latency);
            }
            TxnEnd::Aborted => tally.counters.aborted_transactions += 1,
            TxnEnd::Failed => tally.counters.failed_transactions += 1,
        });
    }

    /// Counts an error by name.
    pub fn error(&self, now_ns: u64, api: &'static str, name: impl Into<String>) {
        self.at(now_ns, |tally| tally.count_error(api, name));
    }

    /// Hands out what was written since the last call.
    pub fn take(&self, core: usize, second: u64) -> Interval {
        let mut measured = self.measured.borrow_mut();
        let parts = measured.iter_mut().enumerate();
        let measured = parts.filter_map(|(part, book)| Some((part, book.take()?))).collect();
        Interval { core, second, warmup: self.warmup.replace(Tally::new()), measured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window =
        Window { start_ns: 0, measure_ns: 1_000, end_ns: 2_000, deadline_ns: 9_000 };

    const LOAD: Load = Load { records: 1, value_bytes: 10, wire_bytes: 12 };

    fn only(interval: Interval) -> Tally {
        let [(0, _)] = interval.measured[..] else { panic!("not one part") };
        interval.measured.into_iter().next().expect("one").1
    }

    #[test]
    fn a_sample_belongs_to_the_part_in_which_it_was_meant_to_leave() {
        let book = Recorder::new(WINDOW, &[]);
        // Meant to leave in the warm-up, answered in the measured part: its latency is not
        // reported, its bytes did arrive then.
        book.acked(Sent { intended_ns: 900, sent_ns: 950 }, 1_100, LOAD);
        // The other way round at the end.
        book.acked(Sent { intended_ns: 1_900, sent_ns: 1_950 }, 2_100, LOAD);
        let interval = book.take(0, 0);
        assert_eq!(interval.warmup.latencies.response.len(), 1);
        let measured = only(interval);
        assert_eq!(measured.counters.acked_requests, 1);
        assert_eq!(measured.latencies.response.len(), 1);
        assert_eq!(measured.latencies.response.max(), 200);
        assert!(book.take(0, 1).measured.is_empty());
    }

    #[test]
    fn each_part_has_its_own_samples_whenever_they_are_written() {
        let book = Recorder::new(WINDOW, &[1_400]);
        let acked = |intended_ns: u64, now_ns| {
            book.acked(Sent { intended_ns, sent_ns: intended_ns }, now_ns, LOAD);
        };
        acked(1_399, 1_450); // latency of the first part, bytes of the second
        acked(1_400, 1_460);
        acked(1_100, 1_470); // late
        book.begin_part(1_700);
        acked(1_699, 1_701);
        let counts = |interval: &Interval| -> Vec<(usize, u64, u64)> {
            let parts = interval.measured.iter();
            parts
                .map(|(part, it)| (*part, it.latencies.response.len(), it.counters.acked_requests))
                .collect()
        };
        assert_eq!(counts(&book.take(0, 0)), [(0, 2, 0), (1, 2, 3), (2, 0, 1)]);
    }

    #[test]
    fn a_stall_shows_although_the_requests_behind_it_never_left() {
        let book = Recorder::new(WINDOW, &[]);
        book.unanswered(Sent { intended_ns: 1_100, sent_ns: 1_100 }, 8_000);
        for intended_ns in 1_200..1_300 {
            book.unsent(intended_ns, 8_000);
        }
        let tally = only(book.take(0, 0));
        assert_eq!(tally.counters.unsent_requests, 100);
        assert_eq!(tally.latencies.response.len(), 101);
        assert!(tally.latencies.response.min() >= 6_690);
    }
}
