//! What every handler on this core shares: the shard, the metadata image, the way to the controller.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::connection::Connection;
use super::producer_ids::ProducerIds;
use super::refusals::Refusals;
use crate::base::ids::BrokerId;
use crate::base::signal::Event;
use crate::cluster::broker_config::BrokerConfigs;
use crate::cluster::controller::ControllerHandle;
use crate::cluster::directory_states::DirectoryStates;
use crate::cluster::image::MetadataImage;
use crate::cluster::topic_config::TopicDefaults;
use crate::config::settings::Settings;
use crate::shard::runtime::Shard;

/// The broker as clients are told of it.
#[derive(Clone, Debug)]
pub struct BrokerView {
    /// Its node id.
    pub id: BrokerId,
    /// The host to connect to.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// The cluster's id, in Kafka's text form.
    pub cluster_id: String,
    /// What topics fall back to.
    pub topic_defaults: TopicDefaults,
    /// Its own configuration.
    pub configs: BrokerConfigs,
    /// How its data directories are.
    pub directory_states: DirectoryStates,
}

/// One core of the broker as its connections see it. Lives on the shard's thread.
pub struct Core {
    shard: Rc<Shard>,
    image: RefCell<Arc<MetadataImage>>,
    controller: ControllerHandle,
    settings: Arc<Settings>,
    broker: Arc<BrokerView>,
    producer_ids: ProducerIds,
    refusals: Refusals,
    connections: Connections,
    /// Bytes of frames moved from one receive buffer to another.
    moved_bytes: Cell<u64>,
    stopping: Cell<bool>,
    stop_requested: Event,
}

impl Core {
    /// A core that serves `image`.
    #[must_use]
    pub fn new(
        shard: Rc<Shard>,
        image: Arc<MetadataImage>,
        controller: ControllerHandle,
        settings: Arc<Settings>,
        broker: Arc<BrokerView>,
    ) -> Rc<Core> {
        Rc::new(Core {
            refusals: Refusals::new(shard.clock().clone()),
            producer_ids: ProducerIds::new(controller.clone()),
            shard,
            image: RefCell::new(image),
            controller,
            settings,
            broker,
            connections: Connections::default(),
            moved_bytes: Cell::new(0),
            stopping: Cell::new(false),
            stop_requested: Event::new(),
        })
    }

    /// The shard below.
    #[must_use]
    pub fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    /// The metadata that this core has applied.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.borrow().clone()
    }

    /// Replaces the metadata, after the shard's partitions have been made to match it.
    pub fn set_image(&self, image: Arc<MetadataImage>) {
        *self.image.borrow_mut() = image;
    }

    /// The way to the controller on the control thread.
    #[must_use]
    pub fn controller(&self) -> &ControllerHandle {
        &self.controller
    }

    /// The broker's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This broker as clients see it.
    #[must_use]
    pub fn broker(&self) -> &BrokerView {
        &self.broker
    }

    /// Producer ids that this core may hand out.
    #[must_use]
    pub fn producer_ids(&self) -> &ProducerIds {
        &self.producer_ids
    }

    /// The log of refused input.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The open connections.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Adds to the bytes that connections moved from one receive buffer to another.
    pub fn note_moved(&self, bytes: u64) {
        self.moved_bytes.set(self.moved_bytes.get() + bytes);
    }

    /// Bytes of frames that were moved between receive buffers: a copy that the produce route does
    /// not promise away only for frames that outgrow the chunk they begin in.
    #[must_use]
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes.get()
    }

    /// Stops accepting and reaping; connections end as their requests are answered.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.stop_requested.notify();
    }

    /// Resolves when [`Core::stop`] is called; at once if it was.
    pub async fn stopped(&self) {
        while !self.stopping.get() {
            self.stop_requested.wait().await;
        }
    }

    /// Whether [`Core::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

/// The open connections of one core.
#[derive(Default)]
pub struct Connections {
    open: RefCell<rustc_hash::FxHashMap<u64, Rc<Connection>>>,
    next_id: Cell<u64>,
}

impl Connections {
    /// Adds one; the result takes it out again.
    pub fn add(&self, connection: Rc<Connection>) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.open.borrow_mut().insert(id, connection);
        id
    }

    /// Takes one out.
    pub fn remove(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// All of them, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<Connection>> {
        self.open.borrow().values().cloned().collect()
    }
}
