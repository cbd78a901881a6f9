//! Verify mode on a load core: batches whose records each carry a mark, and the check of what comes
//! back. It costs a pass over every record on both sides: not for figures of throughput.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use thalweg::record::{BatchBuilder, records, stored_batches};

use super::schedule::Random;
use crate::measure::ledger::{Ledger, Stream};
use crate::wire::aborted::{AbortedFilter, BatchKind};
use crate::wire::batch::{BatchShape, BatchTemplate, fill};
use crate::wire::mark::{Found, Mark};

/// Bound of a batch's decompressed records.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// One load core's books, shared by its lanes and consumers.
pub type SharedLedger = Rc<RefCell<Ledger>>;

/// What one lane sent and waits for.
pub struct MarkingSender {
    run: u64,
    lane: u16,
    shape: BatchShape,
    ledger: SharedLedger,
    transactional: bool,
    state: RefCell<SenderState>,
}

struct SenderState {
    random: Random,
    value: Vec<u8>,
    /// The next record, by partition.
    next: HashMap<i32, u64>,
    waiting: VecDeque<(i32, Stream, Range<u64>)>,
    /// What the open transaction sent.
    held: Vec<(Stream, Range<u64>)>,
}

impl MarkingSender {
    /// A sender of batches of `shape`.
    #[must_use]
    pub fn new(
        run: u64,
        lane: u16,
        shape: BatchShape,
        ledger: SharedLedger,
        transactional: bool,
    ) -> MarkingSender {
        let state = SenderState {
            random: Random::new(u64::from(lane)),
            value: vec![b'.'; shape.record_bytes],
            next: HashMap::new(),
            waiting: VecDeque::new(),
            held: Vec::new(),
        };
        MarkingSender { run, lane, shape, ledger, transactional, state: RefCell::new(state) }
    }

    /// The next batch for `partition`, noted as sent by request `correlation_id`.
    ///
    /// # Panics
    /// If the batch cannot be built; one of its shape was built before the run.
    pub fn batch(&self, correlation_id: i32, partition: i32) -> BatchTemplate {
        let mut state = self.state.borrow_mut();
        let SenderState { random, value, next, waiting, held } = &mut *state;
        let next = next.entry(partition).or_default();
        let first = *next;
        *next += u64::from(self.shape.records);
        let mut builder = BatchBuilder::new(self.shape.compression, 0);
        builder.level(self.shape.level);
        for sequence in first..*next {
            fill(value, self.shape.entropy, random);
            Mark { run: self.run, lane: self.lane, sequence }.put(value);
            builder.append(0, None, Some(value), &[]);
        }
        let stream = (self.lane, partition);
        if self.transactional {
            held.push((stream, first..*next));
        } else {
            waiting.push_back((correlation_id, stream, first..*next));
        }
        let bytes = builder.build().expect("a batch of this shape was built before the run");
        BatchTemplate::unstamped(bytes, self.shape)
    }

    /// The request was answered; its records are acknowledged or not.
    pub fn answered(&self, correlation_id: i32, acked: bool) {
        let mut state = self.state.borrow_mut();
        while let Some((id, stream, records)) = state.waiting.pop_front() {
            if id == correlation_id {
                if acked {
                    self.ledger.borrow_mut().acked(stream, records);
                }
                return;
            }
        }
    }

    /// The open transaction is over: committed (then everything in it was acknowledged), aborted,
    /// or nobody knows. An acknowledgement inside it promised nothing yet.
    pub fn transaction_ended(&self, committed: Option<bool>) {
        let mut ledger = self.ledger.borrow_mut();
        for (stream, records) in self.state.borrow_mut().held.drain(..) {
            match committed {
                Some(true) => ledger.acked(stream, records),
                Some(false) => ledger.aborted(stream, records),
                None => {}
            }
        }
    }
}

/// Checks what a consumer fetches.
pub struct MarkChecker {
    run: u64,
    ledger: SharedLedger,
    last: RefCell<HashMap<Stream, u64>>,
}

impl MarkChecker {
    /// A checker of the run's records.
    #[must_use]
    pub fn new(run: u64, ledger: SharedLedger) -> MarkChecker {
        MarkChecker { run, ledger, last: RefCell::default() }
    }

    /// Looks at every record of the whole batches in `bytes` from offset `from` on.
    pub fn check(&self, partition: i32, from: i64, bytes: &[u8], mut aborted: AbortedFilter<'_>) {
        // A batch that is cut at the end comes again, whole.
        for batch in stored_batches(bytes).map_while(Result::ok) {
            let kind = BatchKind::of(batch.is_control(), batch.is_transactional());
            let next_offset = batch.last_offset().0.saturating_add(1);
            let producer_id = batch.producer().map_or(-1, |producer| producer.id.0);
            let skipped = aborted.skips(next_offset, producer_id, kind);
            if skipped || next_offset <= from || batch.is_control() {
                continue;
            }
            let mut ledger = self.ledger.borrow_mut();
            let opened = records(batch, BATCH_BYTES_MAX).ok().filter(|_| batch.crc_matches());
            let Some(mut opened) = opened else {
                ledger.corrupt += u64::from(batch.record_count().unsigned_abs());
                continue;
            };
            while let Some(record) = opened.next_record() {
                let Ok(record) = record else {
                    ledger.corrupt += 1;
                    break;
                };
                if record.offset().0 < from {
                    continue;
                }
                match Mark::find(record.value().unwrap_or_default()) {
                    Found::Whole(mark) if mark.run == self.run => {
                        self.seen(&mut ledger, (mark.lane, partition), mark.sequence);
                    }
                    Found::Whole(_) | Found::Foreign => ledger.foreign += 1,
                    Found::Corrupt => ledger.corrupt += 1,
                }
            }
        }
    }

    fn seen(&self, ledger: &mut Ledger, stream: Stream, sequence: u64) {
        ledger.seen(stream, sequence);
        let mut last = self.last.borrow_mut();
        let last = last.entry(stream).or_insert(sequence);
        if sequence < *last {
            ledger.reordered += 1;
        }
        *last = sequence.max(*last);
    }
}
