//! The stores of one life: one for each shard, and which log is whose.

use super::*;
use crate::base::ids::ShardId;

pub(super) struct Stores(Vec<Rc<Store>>);

impl Stores {
    pub(super) fn new(stores: Vec<Rc<Store>>) -> Stores {
        Stores(stores)
    }

    pub(super) fn all(&self) -> &[Rc<Store>] {
        &self.0
    }

    /// The store that owns a log.
    pub(super) fn of(&self, tp: TopicPartition) -> &Rc<Store> {
        &self.0[shard_of(tp, self.0.len())]
    }

    pub(super) fn failed(&self) -> bool {
        self.0.iter().any(|store| store.failed().is_some())
    }
}

fn shard_of(tp: TopicPartition, shards: usize) -> usize {
    tp.partition.0 as usize % shards
}

impl Home {
    /// As [`Home::recover_and_open`], with a store for each shard.
    pub(super) fn recover_and_open_shards(
        &self,
        shards: u16,
    ) -> Result<(Vec<Rc<Store>>, RecoveryReport), RecoveryError> {
        let live = |tp: &TopicPartition| self.live.borrow().get(tp).cloned();
        let now = self.clock.wall_ms();
        let recovery = recover(&self.disk, &self.dir, DIRECTORY_ID, &self.config, now, &live);
        let mut recovered = block_on(recovery)?;
        let report = recovered.report().clone();
        let open = |shard: u16| {
            let owns =
                |tp: &TopicPartition| shard_of(*tp, usize::from(shards)) == usize::from(shard);
            let shard = recovered.take_shard(ShardId(shard), owns);
            let (disk, dir) = (self.disk.clone(), self.dir.clone());
            let opened = Store::open(disk, dir, self.config.clone(), self.clock.clone(), shard);
            block_on(opened).expect("the store opens")
        };
        Ok(((0..shards).map(open).collect(), report))
    }
}
