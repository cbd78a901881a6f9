//! Memory in which groups are filled, one behind the other.
//!
//! A group stays in memory until all that is in it has been written behind, which for a few batches
//! of each of many logs takes a while: a buffer for each, with room for what may come, would be mostly
//! empty, and as much memory to be touched for the first time.

use crate::io::buf::IoBuf;

use super::{JournalState, OpenGroup};

/// Taken at once for groups that are smaller; half a huge page.
const ARENA_BYTES: usize = 512 << 10;

/// How many usual groups it ought to hold, so that little of it is left over at its end.
const GROUPS: usize = 8;

/// What the last group left of its memory.
#[derive(Default)]
pub(super) struct Arena {
    rest: Option<IoBuf>,
}

impl Arena {
    /// Memory for a group of `bytes`, or more.
    pub(super) fn take(&mut self, bytes: usize) -> IoBuf {
        let rest = self.rest.take().filter(|rest| rest.len() >= bytes);
        rest.unwrap_or_else(|| IoBuf::alloc(bytes.max((GROUPS * bytes).min(ARENA_BYTES))))
    }

    /// Takes back what a group does not need.
    pub(super) fn give_back(&mut self, rest: IoBuf) {
        self.rest = Some(rest);
    }
}

impl JournalState {
    /// The group that is being filled, which gets nothing more and keeps no more memory than it needs.
    pub(super) fn close_filling(&mut self) -> Option<OpenGroup> {
        let mut open = self.filling.take()?;
        let rest = open.take_rest();
        self.staged_bytes -= rest.len();
        self.arena.give_back(rest);
        Some(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_groups_lie_one_behind_the_other_and_a_large_one_has_its_own_memory() {
        let mut arena = Arena::default();
        let mut places = Vec::new();
        for _ in 0..8 {
            let mut group = arena.take(32 << 10);
            arena.give_back(group.split_off(8 << 10));
            places.push(group.as_ptr().addr());
        }
        let steps: Vec<usize> = places.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!(steps, [8 << 10; 7]);
        assert_eq!(arena.take(1 << 20).len(), 1 << 20);
    }
}
