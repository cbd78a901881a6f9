//! The read cache: the very buffers that were written, kept for readers that follow closely.

use std::collections::VecDeque;
use std::rc::Rc;

use super::journal::Group;

/// Groups all of whose batches are in segments, in the order in which they got there, under a
/// budget. What is not in segments is in memory anyway and counts elsewhere.
pub(super) struct ReadCache {
    groups: VecDeque<Rc<Group>>,
    bytes: usize,
    bytes_max: usize,
}

impl ReadCache {
    pub(super) fn new(bytes_max: usize) -> ReadCache {
        ReadCache { groups: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Takes a group and gives back the slots of logs that lost batches to make room for it.
    pub(super) fn push(&mut self, group: Rc<Group>) -> Vec<u32> {
        self.bytes += group.charged_bytes();
        self.groups.push_back(group);
        let mut touched = Vec::new();
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.groups.pop_front() else { break };
            self.bytes -= oldest.charged_bytes();
            oldest.evict();
            touched.extend(oldest.take_slots());
        }
        touched
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
