//! Where the tasks of one load core write down what they see. Samples belong to the measured part
//! by their *intended* time, bytes by the time they were acknowledged or fetched.

use std::cell::RefCell;
use std::rc::Rc;

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

/// What one core saw since the last look.
pub struct Interval {
    /// Index of the load core.
    pub core: usize,
    /// Seconds since the first send.
    pub second: u64,
    /// Outside the measured part: shown live, not reported.
    pub warmup: Tally,
    /// The measured part.
    pub measured: Tally,
}

/// One core's record book.
pub struct Recorder {
    window: Window,
    books: RefCell<(Tally, Tally)>,
}

impl Recorder {
    /// An empty book.
    #[must_use]
    pub fn new(window: Window) -> Rc<Recorder> {
        Rc::new(Recorder { window, books: RefCell::new((Tally::new(), Tally::new())) })
    }

    /// The run's parts.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Applies `note` to the book that `at_ns` belongs to.
    #[inline]
    pub fn at(&self, at_ns: u64, note: impl FnOnce(&mut Tally)) {
        let mut books = self.books.borrow_mut();
        let (warmup, measured) = &mut *books;
        note(if self.window.measures(at_ns) { measured } else { warmup });
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
    pub fn acked(&self, sent: Sent, now_ns: u64, records: u32, value_bytes: u64, wire_bytes: u64) {
        self.at(sent.intended_ns, |tally| {
            let latencies = &mut tally.latencies;
            latencies.response.saturating_record(now_ns.saturating_sub(sent.intended_ns).max(1));
            latencies.service.saturating_record(now_ns.saturating_sub(sent.sent_ns).max(1));
        });
        self.at(now_ns, |tally| {
            let counters = &mut tally.counters;
            counters.acked_requests += 1;
            counters.acked_records += u64::from(records);
            counters.acked_value_bytes += value_bytes;
            counters.acked_wire_bytes += wire_bytes;
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

    /// Counts an error by name.
    pub fn error(&self, now_ns: u64, api: &'static str, name: impl Into<String>) {
        self.at(now_ns, |tally| tally.count_error(api, name));
    }

    /// Hands out what was written since the last call.
    pub fn take(&self, core: usize, second: u64) -> Interval {
        let fresh = (Tally::new(), Tally::new());
        let (warmup, measured) = self.books.replace(fresh);
        Interval { core, second, warmup, measured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window =
        Window { start_ns: 0, measure_ns: 1_000, end_ns: 2_000, deadline_ns: 9_000 };

    #[test]
    fn a_sample_belongs_to_the_part_in_which_it_was_meant_to_leave() {
        let book = Recorder::new(WINDOW);
        // Meant to leave in the warm-up, answered in the measured part: its latency is not
        // reported, its bytes did arrive then.
        book.acked(Sent { intended_ns: 900, sent_ns: 950 }, 1_100, 1, 10, 12);
        // The other way round at the end.
        book.acked(Sent { intended_ns: 1_900, sent_ns: 1_950 }, 2_100, 1, 10, 12);
        let interval = book.take(0, 0);
        assert_eq!(interval.measured.counters.acked_requests, 1);
        assert_eq!(interval.measured.latencies.response.len(), 1);
        assert_eq!(interval.measured.latencies.response.max(), 200);
        assert_eq!(interval.warmup.latencies.response.len(), 1);
        assert_eq!(book.take(0, 1).measured.counters.acked_requests, 0);
    }

    #[test]
    fn a_stall_shows_although_the_requests_behind_it_never_left() {
        let book = Recorder::new(WINDOW);
        book.unanswered(Sent { intended_ns: 1_100, sent_ns: 1_100 }, 8_000);
        for intended_ns in 1_200..1_300 {
            book.unsent(intended_ns, 8_000);
        }
        let tally = book.take(0, 0).measured;
        assert_eq!(tally.counters.unsent_requests, 100);
        assert_eq!(tally.latencies.response.len(), 101);
        assert!(tally.latencies.response.min() >= 6_690);
    }
}
