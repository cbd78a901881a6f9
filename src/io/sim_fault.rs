//! Faults of a simulated disk, by the count of operations.

use std::io;

/// A kind of operation on a simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimOp {
    /// Every operation.
    Any,
    /// Opening or creating a file.
    Open,
    /// Reading a file.
    Read,
    /// Writing a file, durably or not.
    Write,
    /// Making a file durable.
    Sync,
    /// Reserving space or changing the length.
    Resize,
    /// Listing, making, renaming, removing or syncing names.
    Name,
}

const KINDS: usize = 7;

/// What happens to the operation that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimFault {
    /// It fails with this `errno` and does nothing. A failed sync loses what was not synced, and
    /// the next sync succeeds: as Linux does it.
    Error(i32),
    /// A write stores only its first half (in whole sectors), then fails with this `errno`; any
    /// other operation behaves as for [`SimFault::Error`].
    Partial(i32),
}

impl SimFault {
    pub(super) fn error(self) -> io::Error {
        let (SimFault::Error(errno) | SimFault::Partial(errno)) = self;
        io::Error::from_raw_os_error(errno)
    }
}

struct Planned {
    op: SimOp,
    /// Counts as of [`Faults::counts`].
    from: u64,
    lasting: bool,
    fault: SimFault,
}

/// What was counted and what is planned.
#[derive(Default)]
pub(super) struct Faults {
    counts: [u64; KINDS],
    planned: Vec<Planned>,
    met: Vec<SimOp>,
}

impl Faults {
    /// Counts one operation and says what happens to it.
    pub(super) fn strike(&mut self, op: SimOp) -> Option<SimFault> {
        let number = self.counts[op as usize];
        let overall = self.counts[SimOp::Any as usize];
        self.counts[op as usize] += 1;
        self.counts[SimOp::Any as usize] += 1;
        let hit = self.planned.iter().position(|planned| {
            let count = if planned.op == SimOp::Any { overall } else { number };
            let kind = planned.op == op || planned.op == SimOp::Any;
            kind && (count == planned.from || planned.lasting && count > planned.from)
        })?;
        let fault = self.planned[hit].fault;
        self.met.push(op);
        if !self.planned[hit].lasting {
            self.planned.remove(hit);
        }
        Some(fault)
    }

    /// The `after`-th operation of that kind from now on fails (0: the next), and with `lasting`
    /// all that follow.
    pub(super) fn plan(&mut self, op: SimOp, after: u64, lasting: bool, fault: SimFault) {
        let from = self.counts[op as usize] + after;
        self.planned.push(Planned { op, from, lasting, fault });
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn met(&self) -> &[SimOp] {
        &self.met
    }

    pub(super) fn count(&self, op: SimOp) -> u64 {
        self.counts[op as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_operation_that_was_planned_and_lasting_ones_all_after() {
        let mut faults = Faults::default();
        faults.strike(SimOp::Write);
        faults.plan(SimOp::Write, 1, false, SimFault::Error(5));
        faults.plan(SimOp::Any, 5, true, SimFault::Error(28));
        let ops = [SimOp::Read, SimOp::Write, SimOp::Write, SimOp::Write, SimOp::Read];
        let hits: Vec<bool> = ops.iter().map(|op| faults.strike(*op).is_some()).collect();
        assert_eq!(hits, [false, false, true, false, false]);
        assert_eq!(faults.strike(SimOp::Sync), Some(SimFault::Error(28)));
        assert_eq!(faults.strike(SimOp::Read), Some(SimFault::Error(28)));
        assert_eq!(faults.count(SimOp::Any), 8);
        faults.clear();
        assert_eq!(faults.strike(SimOp::Read), None);
    }
}
