//! Producer ids of this core, handed out from blocks that the controller records.

use std::cell::Cell;

use crate::base::ids::ProducerId;
use crate::cluster::controller::{ControllerHandle, ControllerUnavailable};

/// Hands out producer ids, each once in the life of the cluster.
pub struct ProducerIds {
    controller: ControllerHandle,
    next: Cell<i64>,
    block_end: Cell<i64>,
}

impl ProducerIds {
    /// No block yet; the first request fetches one.
    #[must_use]
    pub fn new(controller: ControllerHandle) -> ProducerIds {
        ProducerIds { controller, next: Cell::new(0), block_end: Cell::new(0) }
    }

    /// The next id.
    ///
    /// # Errors
    /// If the controller cannot record a new block.
    pub async fn allocate(&self) -> Result<ProducerId, ControllerUnavailable> {
        while self.next.get() == self.block_end.get() {
            let block = self.controller.allocate_producer_ids().await?;
            // Another request may have fetched a block meanwhile; ids of the older one are lost.
            self.next.set(block.first);
            self.block_end.set(block.first + block.count);
        }
        let id = self.next.get();
        self.next.set(id + 1);
        Ok(ProducerId(id))
    }
}
