//! One core of the broker from start to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use super::core::{BrokerView, Core};
use super::listener::accept_connections;
use super::reaper::reap_connections;
use crate::base::clock::micros;
use crate::cluster::controller::ControllerHandle;
use crate::cluster::image::MetadataImage;
use crate::cluster::reconcile::Reconciler;
use crate::config::settings::Settings;
use crate::io::disk::Disk;
use crate::io::tcp::TcpListener;
use crate::shard::runtime::Shard;
use crate::shard::stores::Upkeep;
use crate::shard::task;
use crate::storage::{ShardRecovered, StorageError, Store, StoreConfig};

/// How often a core that is stopping looks whether its connections have finished.
const DRAIN_TICK: Duration = Duration::from_millis(2);

/// How long a stop waits for answers to be taken by their clients, if the stop's own bound is not
/// shorter: a client that does not read must not keep the stores from being closed cleanly.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// What the control thread tells a core. Each carries the way to say that it is done.
pub enum CoreCommand {
    /// Make the partitions match this image, then serve it.
    Apply(Arc<MetadataImage>, flume::Sender<()>),
    /// Take no more connections and requests, answer what is in work. Everything is still served
    /// to the other cores, whose requests may need this one.
    Drain(flume::Sender<()>),
    /// No core has a request in work: close the stores and end.
    Close,
}

/// What a core starts with.
pub struct CoreStart {
    /// The data directories, each with the logs of this shard as recovery left them.
    pub directories: Vec<(PathBuf, ShardRecovered)>,
    /// How the stores are set up.
    pub store_config: StoreConfig,
    /// What they do by the clock.
    pub upkeep: Upkeep,
    /// Opens and closes partitions.
    pub reconciler: Reconciler,
    /// Metadata as of the start.
    pub image: Arc<MetadataImage>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The way to the controller.
    pub controller: ControllerHandle,
    /// The broker's settings.
    pub settings: Arc<Settings>,
    /// The broker as clients see it.
    pub broker: Arc<BrokerView>,
    /// Commands of the control thread.
    pub commands: flume::Receiver<CoreCommand>,
    /// Told when this core listens, or why it does not.
    pub ready: flume::Sender<io::Result<()>>,
}

/// Opens this shard's stores and partitions, listens, serves until told to stop.
///
/// # Errors
/// If the core cannot start, or could not leave a clean checkpoint when it stopped.
pub async fn serve_core(shard: Rc<Shard>, start: CoreStart) -> io::Result<()> {
    let ready = start.ready.clone();
    match open_core(&shard, start).await {
        Ok(opened) => {
            // The control thread waits for every core; if it is gone there is nobody to tell.
            let _ = ready.send(Ok(()));
            serve(opened).await
        }
        Err(problem) => {
            let copy = io::Error::new(problem.kind(), problem.to_string());
            let _ = ready.send(Err(copy));
            shard.stores().close().await.map_err(of_storage)?;
            Err(problem)
        }
    }
}

fn of_storage(problem: StorageError) -> io::Error {
    io::Error::other(problem.to_string())
}

struct Opened {
    core: Rc<Core>,
    listener: TcpListener,
    reconciler: Reconciler,
    commands: flume::Receiver<CoreCommand>,
}

async fn open_core(shard: &Rc<Shard>, start: CoreStart) -> io::Result<Opened> {
    for (directory, recovered) in start.directories {
        let config = start.store_config.clone();
        let clock = shard.clock().clone();
        let store = Store::open(Disk::Ring, directory, config, clock, recovered)
            .await
            .map_err(of_storage)?;
        shard.stores().start(shard, store, start.upkeep);
    }
    start.reconciler.reconcile(shard, &start.image).await;
    let listener = TcpListener::bind(start.listen)?;
    let core =
        Core::new(shard.clone(), start.image, start.controller, start.settings, start.broker);
    Ok(Opened { core, listener, reconciler: start.reconciler, commands: start.commands })
}

async fn serve(opened: Opened) -> io::Result<()> {
    let Opened { core, listener, reconciler, commands } = opened;
    let acceptor = task::spawn_joinable(accept_connections(core.clone(), listener));
    let reaper = task::spawn_joinable(reap_connections(core.clone()));
    while let Ok(command) = commands.recv_async().await {
        match command {
            CoreCommand::Apply(image, applied) => {
                reconciler.reconcile(core.shard(), &image).await;
                core.set_image(image);
                let _ = applied.send(());
            }
            // In a task of its own: what is in work may wait for metadata to be applied.
            CoreCommand::Drain(drained) => task::spawn(drain(core.clone(), drained)),
            CoreCommand::Close => break,
        }
    }
    core.stop();
    acceptor.join().await;
    reaper.join().await;
    core.shard().stores().close().await.map_err(of_storage)?;
    debug!(bytes_moved = core.moved_bytes(), "frames moved between receive buffers");
    info!(shard = %core.shard().id(), "stopped cleanly");
    Ok(())
}

/// Lets requests in work be answered, then closes. Half a request is none: nobody was promised
/// anything. The control thread bounds the time.
async fn drain(core: Rc<Core>, drained: flume::Sender<()>) {
    core.stop();
    core.shard().begin_drain();
    debug!(shard = %core.shard().id(), "accepts no more");
    let grace = DRAIN_GRACE.min(core.settings().runtime.shutdown_timeout / 2);
    let grace_us = micros(grace);
    let patient_until_us = core.shard().clock().mono_us().saturating_add(grace_us);
    while !core.connections().is_empty() {
        let is_patient = core.shard().clock().mono_us() < patient_until_us;
        for connection in core.connections().all() {
            if !is_patient || !connection.has_request() {
                connection.shutdown();
            }
        }
        task::sleep(DRAIN_TICK).await;
    }
    // The control thread may have given up waiting.
    let _ = drained.send(());
}
