//! The partitions that this shard owns.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::ids::TopicPartition;
use crate::partition::Partition;
use crate::storage::Store;

/// A partition as its owner holds it, with the store that its log is in.
pub struct Owned {
    partition: RefCell<Partition>,
    store: Rc<Store>,
}

impl Owned {
    /// A partition that was just opened.
    #[must_use]
    pub fn new(partition: Partition, store: Rc<Store>) -> Rc<Owned> {
        Rc::new(Owned { partition: RefCell::new(partition), store })
    }

    /// The partition: borrowed for the length of one synchronous step, never across an `.await`.
    #[must_use]
    pub fn partition(&self) -> &RefCell<Partition> {
        &self.partition
    }

    /// The store of the data directory that holds the partition.
    #[must_use]
    pub fn store(&self) -> &Rc<Store> {
        &self.store
    }
}

/// Look-up of owned partitions.
#[derive(Default)]
pub struct PartitionTable {
    partitions: RefCell<FxHashMap<TopicPartition, Rc<Owned>>>,
}

impl PartitionTable {
    /// The partition, if this shard owns it now.
    #[must_use]
    pub fn get(&self, tp: &TopicPartition) -> Option<Rc<Owned>> {
        self.partitions.borrow().get(tp).cloned()
    }

    /// Adds a partition that has just been opened.
    pub fn insert(&self, tp: TopicPartition, owned: Rc<Owned>) {
        let before = self.partitions.borrow_mut().insert(tp, owned);
        assert!(before.is_none(), "partition {tp} is opened once");
    }

    /// Takes a partition out; who still waits on it is answered by [`Partition::close`].
    pub fn remove(&self, tp: &TopicPartition) -> Option<Rc<Owned>> {
        self.partitions.borrow_mut().remove(tp)
    }

    /// All partitions owned now, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<(TopicPartition, Rc<Owned>)> {
        self.partitions.borrow().iter().map(|(tp, owned)| (*tp, owned.clone())).collect()
    }
}
