//! The partitions that this shard owns.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::ids::TopicPartition;
use crate::partition::Partition;

/// A partition as its owner holds it. Borrowed for the length of one synchronous step, never across
/// an `.await`.
pub type PartitionRef = Rc<RefCell<Partition>>;

/// Look-up of owned partitions.
#[derive(Default)]
pub struct PartitionTable {
    partitions: RefCell<FxHashMap<TopicPartition, PartitionRef>>,
}

impl PartitionTable {
    /// The partition, if this shard owns it now.
    #[must_use]
    pub fn get(&self, tp: &TopicPartition) -> Option<PartitionRef> {
        self.partitions.borrow().get(tp).cloned()
    }

    /// Adds a partition that has just been opened.
    pub fn insert(&self, tp: TopicPartition, partition: PartitionRef) {
        let before = self.partitions.borrow_mut().insert(tp, partition);
        assert!(before.is_none(), "partition {tp} is opened once");
    }

    /// Takes a partition out; who still waits on it is answered by [`Partition::close`].
    pub fn remove(&self, tp: &TopicPartition) -> Option<PartitionRef> {
        self.partitions.borrow_mut().remove(tp)
    }

    /// All partitions owned now, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<(TopicPartition, PartitionRef)> {
        self.partitions.borrow().iter().map(|(tp, p)| (*tp, p.clone())).collect()
    }
}
