//! One core of the broker from start to stop.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::core::Core;
use super::listener::{accept_connections, reap_connections};
use crate::base::ids::TopicPartition;
use crate::cluster::controller::ControllerHandle;
use crate::cluster::image::MetadataImage;
use crate::cluster::reconcile::reconcile;
use crate::config::Settings;
use crate::io::disk::Disk;
use crate::io::tcp::TcpListener;
use crate::shard::runtime::Shard;
use crate::shard::task;
use crate::storage::log_state::LogState;
use crate::storage::store::Store;

/// How often a core that is stopping looks whether its connections have finished.
const DRAIN_TICK: Duration = Duration::from_millis(5);

/// What the control thread tells a core. Each carries the way to say that it is done.
pub enum CoreCommand {
    /// Make the partitions match this image, then serve it.
    Apply(Arc<MetadataImage>, flume::Sender<()>),
    /// Finish what is in work and end.
    Stop,
}

/// What a core starts with.
pub struct CoreStart {
    /// The data directories.
    pub directories: Vec<PathBuf>,
    /// For each data directory, the logs of this shard as recovery left them.
    pub recovered: Vec<HashMap<TopicPartition, LogState>>,
    /// Metadata as of the start.
    pub image: Arc<MetadataImage>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The way to the controller.
    pub controller: ControllerHandle,
    /// The broker's settings.
    pub settings: Arc<Settings>,
    /// Commands of the control thread.
    pub commands: flume::Receiver<CoreCommand>,
    /// Told the address that this core listens on, or why it does not.
    pub ready: flume::Sender<io::Result<SocketAddr>>,
}

/// Opens this shard's stores and partitions, listens, serves until told to stop.
///
/// # Errors
/// If the core cannot start, or could not leave a clean checkpoint when it stopped.
pub async fn serve_core(shard: Rc<Shard>, start: CoreStart) -> io::Result<()> {
    let commands = start.commands.clone();
    let ready = start.ready.clone();
    let (core, listen) = match open_core(&shard, start).await {
        Ok(opened) => opened,
        Err(problem) => {
            let text = problem.to_string();
            let _ = ready.send(Err(problem));
            return Err(io::Error::other(text));
        }
    };
    let listener = match TcpListener::bind(listen) {
        Ok(listener) => listener,
        Err(problem) => {
            let text = format!("cannot listen on {listen}: {problem}");
            let _ = ready.send(Err(io::Error::new(problem.kind(), text.clone())));
            shard.stores().close().await.map_err(io::Error::other)?;
            return Err(io::Error::other(text));
        }
    };
    let _ = ready.send(listener.local_addr());
    let acceptor = task::spawn_joinable(accept_connections(core.clone(), listener));
    let reaper = task::spawn_joinable(reap_connections(core.clone()));
    while let Ok(command) = commands.recv_async().await {
        match command {
            CoreCommand::Apply(image, applied) => {
                reconcile(core.shard(), &image).await;
                core.set_image(image);
                let _ = applied.send(());
            }
            CoreCommand::Stop => break,
        }
    }
    core.stop();
    acceptor.join().await;
    finish_connections(&core).await;
    reaper.join().await;
    shard.stores().close().await.map_err(io::Error::other)?;
    info!(shard = %shard.id(), "stopped cleanly");
    Ok(())
}

async fn open_core(shard: &Rc<Shard>, start: CoreStart) -> io::Result<(Rc<Core>, SocketAddr)> {
    let settings = &start.settings;
    for (directory, recovered) in start.directories.into_iter().zip(start.recovered) {
        let config = settings.store_config();
        let store = Store::open(Disk::Ring, directory, shard.id(), config, recovered)
            .await
            .map_err(io::Error::other)?;
        shard.stores().start(shard, store, settings.checkpoint_interval());
    }
    reconcile(shard, &start.image).await;
    let core = Core::new(shard.clone(), start.image, start.controller, start.settings);
    Ok((core, start.listen))
}

/// Lets requests in work be answered, then closes. The control thread bounds the time.
async fn finish_connections(core: &Rc<Core>) {
    while !core.connections().is_empty() {
        for connection in core.connections().all() {
            if !connection.is_busy() {
                connection.shutdown();
            }
        }
        task::sleep(DRAIN_TICK).await;
    }
}
