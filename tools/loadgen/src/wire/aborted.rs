//! Which batches of a fetched partition belong to aborted transactions: a broker sends them, and
//! names them, and a consumer of committed records leaves them out.

use std::collections::BTreeSet;

use super::cursor::{Cursor, Malformed};

/// What a batch is to transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Outside of any.
    Plain,
    /// Records of one.
    Transactional,
    /// The mark of an end, commit or abort.
    Control,
}

impl BatchKind {
    /// From a batch's attributes.
    #[must_use]
    pub fn of(control: bool, transactional: bool) -> BatchKind {
        match (control, transactional) {
            (true, _) => BatchKind::Control,
            (false, true) => BatchKind::Transactional,
            (false, false) => BatchKind::Plain,
        }
    }
}

/// The aborted transactions of one partition's answer, as they stand in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AbortedList<'a>(&'a [u8]);

/// Bytes of an entry without tags: producer id, first offset, no tags.
const ENTRY_BYTES: usize = 17;

impl<'a> AbortedList<'a> {
    /// Takes the list that `cursor` stands before.
    pub(super) fn take(cursor: &mut Cursor<'a>) -> Result<AbortedList<'a>, Malformed> {
        let count = cursor.compact_count()?;
        let bytes = cursor.take(count.checked_mul(ENTRY_BYTES).ok_or(Malformed)?)?;
        // No version up to 18 has tags here.
        let tagged = bytes.chunks_exact(ENTRY_BYTES).any(|entry| entry[ENTRY_BYTES - 1] != 0);
        if tagged { Err(Malformed) } else { Ok(AbortedList(bytes)) }
    }

    /// Producer id and first offset of each.
    fn iter(self) -> impl Iterator<Item = (i64, i64)> + 'a {
        self.0.chunks_exact(ENTRY_BYTES).filter_map(|entry| {
            let mut cursor = Cursor::new(entry);
            Some((cursor.i64().ok()?, cursor.i64().ok()?))
        })
    }
}

/// Walks a partition's batches along its list of aborted transactions.
pub struct AbortedFilter<'a> {
    list: AbortedList<'a>,
    /// Taken from the list, by first offset; what is still ahead.
    ahead: Option<Vec<(i64, i64)>>,
    open: BTreeSet<i64>,
}

impl<'a> AbortedFilter<'a> {
    /// A filter for the batches of one answer, in order.
    #[must_use]
    pub fn new(list: AbortedList<'a>) -> AbortedFilter<'a> {
        AbortedFilter { list, ahead: None, open: BTreeSet::new() }
    }

    /// Whether the next batch, of `producer_id`, which ends before `next_offset`, was aborted.
    pub fn skips(&mut self, next_offset: i64, producer_id: i64, kind: BatchKind) -> bool {
        if self.list.0.is_empty() || kind == BatchKind::Plain {
            return false;
        }
        let list = self.list;
        let ahead = self.ahead.get_or_insert_with(|| {
            let mut ahead: Vec<(i64, i64)> = list.iter().map(|(id, from)| (from, id)).collect();
            ahead.sort_unstable_by(|a, b| b.cmp(a));
            ahead
        });
        while let Some((_, id)) = ahead.pop_if(|(from, _)| *from < next_offset) {
            self.open.insert(id);
        }
        match kind {
            // A producer's transactions follow each other: its next mark ends the aborted one.
            BatchKind::Control => {
                self.open.remove(&producer_id);
                false
            }
            _ => self.open.contains(&producer_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn answer(list: &[(i64, i64)]) -> Vec<u8> {
        let mut bytes = vec![list.len() as u8 + 1];
        for (id, from) in list {
            bytes.put_i64(*id);
            bytes.put_i64(*from);
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn batches_of_aborted_transactions_are_skipped_up_to_their_mark() {
        use BatchKind::{Control, Plain, Transactional};
        let bytes = answer(&[(7, 30), (5, 10)]);
        let list = AbortedList::take(&mut Cursor::new(&bytes)).expect("a list");
        let mut filter = AbortedFilter::new(list);
        let batches = [
            (10, 7, Transactional, false), // committed: before 7's aborted one
            (20, 5, Transactional, true),
            (21, 7, Control, false),
            (30, 6, Transactional, false),
            (31, 5, Control, false),
            (40, 5, Transactional, false), // 5's next one
            (50, 7, Transactional, true),
            (60, 7, Plain, false),
            (61, 7, Control, false),
            (70, 7, Transactional, false),
        ];
        for (next_offset, id, kind, skipped) in batches {
            assert_eq!(filter.skips(next_offset, id, kind), skipped, "{next_offset}");
        }
        let mut none = AbortedFilter::new(AbortedList::default());
        assert!(!none.skips(20, 5, Transactional));
    }

    #[test]
    fn a_list_beyond_its_frame_is_refused() {
        let mut bytes = answer(&[(7, 30)]);
        bytes.pop();
        assert!(AbortedList::take(&mut Cursor::new(&bytes)).is_err());
    }
}
