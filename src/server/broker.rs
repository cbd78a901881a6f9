//! The whole broker: from checked settings to running cores, and down again. Runs on the control
//! thread, which then serves metadata and waits for signals.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::core::BrokerView;
use super::serve::{CoreCommand, CoreStart, serve_core};
use crate::base::clock::Clock;
use crate::base::ids::{ShardId, TopicPartition};
use crate::cluster::broker_config::BrokerConfigs;
use crate::cluster::controller::{
    Controller, ControllerHandle, ControllerOptions, OpenError, StartFacts, controller_channel,
};
use crate::cluster::directory::{DataDirectories, DirectoryError};
use crate::cluster::directory_states::DirectoryStates;
use crate::cluster::identity::system_random;
use crate::cluster::image::MetadataImage;
use crate::cluster::partition_config::partition_config;
use crate::cluster::preflight::{self, PreflightError, PreflightPlan};
use crate::cluster::reconcile::Reconciler;
use crate::cluster::store::{RedbStore, StoreError};
use crate::cluster::topic_config::TopicDefaults;
use crate::config::exit::Exit;
use crate::config::settings::RecordValidation;
use crate::config::settings::Settings;
use crate::io::disk::Disk;
use crate::shard::compaction::CompactionPace;
use crate::shard::mesh::MeshPlan;
use crate::shard::runtime::{GLOMMIO_IO_MEMORY_BYTES, ShardConfig, spawn_shard};
use crate::shard::scrub::{ScrubPace, share_of};
use crate::shard::stores::Upkeep;
use crate::storage::{RecoveryError, Reserve, ShardRecovered, StoreConfig, recover};

/// Why the broker did not start, or did not stop well.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// This machine lacks something.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// A data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The metadata cannot be used.
    #[error("metadata: {0}")]
    Metadata(#[from] StoreError),
    /// The metadata does not fit what is here.
    #[error("metadata: {0}")]
    Controller(#[from] OpenError),
    /// What the last run left behind cannot be recovered. Nothing was deleted.
    #[error("recovery: {0}")]
    Recovery(#[from] RecoveryError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// A core did not start.
    #[error("shard {shard} did not start: {source}")]
    Core {
        /// Which shard.
        shard: u16,
        /// What it says.
        source: io::Error,
    },
    /// A core ended although nobody asked it to, or ended badly.
    #[error("shard {0} ended with an error; its log says why")]
    CoreEnded(u16),
    /// The cores did not finish in time.
    #[error("the stop took longer than shutdown.timeout.ms; the next start will recover")]
    StopTimeout,
    /// Something else of the system's.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BrokerError {
    /// What the process says to its caller.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            BrokerError::Preflight(problem) => problem.exit(),
            BrokerError::Directory(problem) => problem.exit(),
            BrokerError::Metadata(_) | BrokerError::Controller(_) | BrokerError::Recovery(_) => {
                Exit::Directory
            }
            BrokerError::Bind { .. } => Exit::Bind,
            BrokerError::CoreEnded(_) => Exit::Storage,
            BrokerError::StopTimeout => Exit::StopTimeout,
            BrokerError::Core { .. } | BrokerError::Io(_) => Exit::Other,
        }
    }
}

/// Starts, serves until SIGTERM or SIGINT, stops. `on_ready` is called once, with the address that
/// clients can use.
///
/// # Errors
/// [`BrokerError`], which knows its exit code.
pub fn run(settings: Settings, on_ready: impl FnOnce(SocketAddr)) -> Result<(), BrokerError> {
    let mut random = system_random();
    let directories =
        DataDirectories::open(&settings.storage.data_dirs, settings.node_id, &mut random)?;
    let preflight = preflight::check(&PreflightPlan {
        cores: settings.runtime.cores.clone(),
        data_dirs: settings.storage.data_dirs.clone(),
        io_memory_bytes: GLOMMIO_IO_MEMORY_BYTES as u64,
    })?;
    for warning in preflight.warnings() {
        warn!("{warning}");
    }
    let cores = preflight.cpus().to_vec();
    let listen = claim_address(settings.listen.address)?;
    let topic_defaults =
        TopicDefaults::new(settings.node_id, |name| settings.explicit(name).map(str::to_owned));
    let mut controller = Controller::open(
        Box::new(RedbStore::open(directories.metadata_path())?),
        ControllerOptions {
            broker: settings.node_id,
            default_partition_count: settings.topics.partition_count,
            allows_topic_deletion: settings.topics.allows_deletion,
            topic_defaults: topic_defaults.clone(),
            directory_states: DirectoryStates::default(),
        },
        random,
        StartFacts {
            shard_count: u16::try_from(cores.len()).unwrap_or(u16::MAX),
            directories: directories.ids(),
        },
    )?;
    let places = (cores.len(), directories.directories().len());
    let store_config = store_config(&settings, preflight.descriptor_limit(), places);
    let image = controller.image();
    let (recovered, directory_states) =
        recover_all(&directories, &image, &store_config, &topic_defaults, cores.len())?;
    controller.watch_directories(directory_states.clone());
    if let Some(dir) = directories.metadata_path().parent() {
        controller.keep_room(dir.to_owned(), METADATA_ROOM_BYTES);
    }
    let broker = Arc::new(BrokerView {
        id: settings.node_id,
        host: settings.listen.advertised_host.clone(),
        port: settings.listen.advertised_port.unwrap_or(listen.port()),
        cluster_id: directories.cluster_id().to_string(),
        topic_defaults,
        configs: BrokerConfigs::new(&settings, listen),
        directory_states,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = Arc::new(settings);
    let plan = StartPlan { settings, directories, cores, listen, broker, store_config };
    runtime.block_on(control(plan, controller, recovered, on_ready))
}

/// Finds out whether the address is free, and which port stands for port 0. The cores bind it with
/// SO_REUSEPORT, which would let two brokers share it without noticing. A broker that was killed a
/// moment ago may still seem to listen: the kernel takes its rings, and the sockets in them, apart
/// behind the process's end. So an address that is taken is tried again for a while.
fn claim_address(address: SocketAddr) -> Result<SocketAddr, BrokerError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let start = Instant::now();
    loop {
        match TcpListener::bind(address).and_then(|listener| listener.local_addr()) {
            Ok(claimed) => return Ok(claimed),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(source) => return Err(BrokerError::Bind { address, source }),
        }
    }
}

/// For each directory, what each shard gets.
type RecoveredLogs = Vec<Vec<ShardRecovered>>;

fn recover_all(
    directories: &DataDirectories,
    image: &MetadataImage,
    config: &StoreConfig,
    topic_defaults: &TopicDefaults,
    shard_count: usize,
) -> Result<(RecoveredLogs, DirectoryStates), BrokerError> {
    let now_ms = Clock::real().wall_ms();
    let live = |tp: &TopicPartition| {
        let topic = image.topic_by_id(tp.topic_id)?;
        topic.partition(tp.partition)?;
        Some(partition_config(&topic_defaults.resolve(image, topic), false).log)
    };
    let (mut all, mut states) = (Vec::new(), Vec::new());
    for directory in directories.directories() {
        let (path, id) = (directory.path(), directory.id().bytes());
        let recovery = recover(&Disk::Blocking, path, id, config, now_ms, &live);
        let mut recovered = futures_lite::future::block_on(recovery)?;
        info!(directory = %path.display(), report = ?recovered.report(), "recovered");
        let shards = (0..shard_count).map(|idx| {
            let shard = shard_id(idx);
            let owns = |tp: &TopicPartition| {
                image.partition(*tp).is_some_and(|placed| placed.shard() == shard)
            };
            recovered.take_shard(shard, owns)
        });
        all.push(shards.collect());
        states.push((directory.id(), recovered.health()));
    }
    Ok((all, DirectoryStates::new(states)))
}

fn shard_id(idx: usize) -> ShardId {
    ShardId(u16::try_from(idx).unwrap_or(u16::MAX))
}

struct StartPlan {
    settings: Arc<Settings>,
    directories: DataDirectories,
    cores: Vec<usize>,
    listen: SocketAddr,
    broker: Arc<BrokerView>,
    store_config: StoreConfig,
}

/// A running core as the control thread knows it.
struct RunningCore {
    thread: JoinHandle<io::Result<()>>,
    commands: flume::Sender<CoreCommand>,
    /// Disconnected when the core has ended, however it ended.
    alive: flume::Receiver<()>,
}

/// The signals that ask for a stop. Caught before anything starts: whoever reads the ready line may
/// send one at once.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn catch() -> io::Result<StopSignals> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

async fn control(
    plan: StartPlan,
    controller: Controller,
    mut recovered: RecoveredLogs,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<(), BrokerError> {
    let mut signals = StopSignals::catch()?;
    let (handle, inbox) = controller_channel();
    let mesh = MeshPlan::new(plan.cores.len());
    let mut cores = Vec::new();
    let mut ready = Vec::new();
    for (idx, &cpu) in plan.cores.iter().enumerate() {
        let per_directory = recovered.iter_mut().map(|shards| shards.remove(0)).collect();
        let (core, is_ready) =
            start_core(&plan, idx, cpu, &mesh, &controller, &handle, per_directory)?;
        cores.push(core);
        ready.push(is_ready);
    }
    for (idx, is_ready) in ready.into_iter().enumerate() {
        let outcome = is_ready.recv_async().await.unwrap_or_else(|_| {
            Err(io::Error::other("it ended while it started; its log says why"))
        });
        if let Err(source) = outcome {
            let shard = u16::try_from(idx).unwrap_or(u16::MAX);
            return Err(BrokerError::Core { shard, source });
        }
    }
    let publish_to: Vec<_> = cores.iter().map(|core| core.commands.clone()).collect();
    let serving = tokio::task::LocalSet::new();
    serving
        .run_until(async move {
            tokio::task::spawn_local(async move {
                let publish = |image| publish(publish_to.clone(), image);
                if let Err(problem) = controller.serve(inbox, publish).await {
                    // Acknowledged records are safe, but nothing can be created or placed any more.
                    error!("metadata can be changed no more, the broker ends: {problem}");
                    std::process::exit(i32::from(Exit::Storage.code()));
                }
            });
            on_ready(plan.listen);
            let unasked = wait_for_end(&cores, &mut signals).await;
            stop_cores(cores, plan.settings.runtime.shutdown_timeout, unasked).await
        })
        .await
}

#[allow(clippy::too_many_arguments, reason = "one call, each argument another part of the start")]
fn start_core(
    plan: &StartPlan,
    idx: usize,
    cpu: usize,
    mesh: &Arc<MeshPlan>,
    controller: &Controller,
    handle: &ControllerHandle,
    recovered: Vec<ShardRecovered>,
) -> Result<(RunningCore, flume::Receiver<io::Result<()>>), BrokerError> {
    let (commands, command_queue) = flume::unbounded();
    let (ready, is_ready) = flume::bounded(1);
    let (alive_guard, alive) = flume::bounded::<()>(0);
    let settings = plan.settings.clone();
    let shard = shard_id(idx);
    let paths = plan.directories.directories().iter().map(|dir| dir.path().to_path_buf());
    let start = CoreStart {
        directories: paths.zip(recovered).collect(),
        store_config: plan.store_config.clone(),
        upkeep: upkeep(&settings, (plan.cores.len(), plan.directories.ids().len())),
        reconciler: Reconciler {
            directories: plan.directories.ids(),
            topic_defaults: plan.broker.topic_defaults.clone(),
            validate_records: settings.requests.record_validation == RecordValidation::Full,
        },
        image: controller.image(),
        listen: plan.listen,
        controller: handle.clone(),
        settings: settings.clone(),
        broker: plan.broker.clone(),
        commands: command_queue,
        ready,
    };
    let config = ShardConfig {
        shard,
        cpu,
        idle_spin: settings.runtime.idle_spin.unwrap_or(Duration::MAX),
        memory_bytes: settings.runtime.shard_memory_bytes,
        mesh: mesh.clone(),
    };
    let thread = spawn_shard(config, move |shard| async move {
        let _alive = alive_guard;
        serve_core(shard, start).await
    })?;
    Ok((RunningCore { thread, commands, alive }, is_ready))
}

/// Segment files that a store holds open, at least and at most.
const OPEN_SEGMENTS: (usize, usize) = (64, 8192);

/// Free bytes that a change of the metadata needs: far more than it takes.
const METADATA_ROOM_BYTES: u64 = 4 << 20;

/// What a data directory keeps free beside what its journals may come to: for checkpoints, indexes
/// and metadata.
const RESERVE_BYTES_BESIDE: u64 = 128 << 20;

/// Half of the descriptors are left to connections.
fn store_config(
    settings: &Settings,
    descriptors: u64,
    (cores, directories): (usize, usize),
) -> StoreConfig {
    let stores = cores * directories;
    let share = usize::try_from(descriptors / 2).unwrap_or(usize::MAX) / stores.max(1);
    let journal_bytes =
        settings.storage.journal_file_bytes * settings.storage.journal_file_count as u64;
    let most = cores as u64 * journal_bytes + RESERVE_BYTES_BESIDE;
    StoreConfig {
        reserve: settings.storage.reserve_bytes.map_or(Reserve::AtMost(most), Reserve::Exactly),
        open_segments_max: share.clamp(OPEN_SEGMENTS.0, OPEN_SEGMENTS.1),
        journal_file_bytes: settings.storage.journal_file_bytes,
        journal_files_max: settings.storage.journal_file_count,
        read_cache_bytes: settings.storage.read_cache_bytes,
        read_ahead_bytes: settings.storage.read_ahead_bytes,
        ..StoreConfig::default()
    }
}

/// What one store does by the clock, of one for each core and directory.
fn upkeep(settings: &Settings, (cores, directories): (usize, usize)) -> Upkeep {
    let stores = cores * directories;
    let storage = &settings.storage;
    Upkeep {
        producer_idle_max: storage.producer_id_expiration,
        retention_check: storage.retention_check_interval,
        compaction: storage.compaction.map(|all| CompactionPace {
            backoff: all.backoff,
            map_bytes: all.map_bytes / stores.max(1),
            bytes_per_second: all.bytes_per_second / stores.max(1) as f64,
        }),
        scrub: ScrubPace {
            interval: storage.scrub_interval,
            bytes_per_second: share_of(storage.scrub_bytes_per_second, cores),
        },
    }
}

/// Gives every core the image; resolves when all serve it.
async fn publish(cores: Vec<flume::Sender<CoreCommand>>, image: Arc<MetadataImage>) {
    let (applied, acks) = flume::bounded(cores.len());
    for core in &cores {
        // A core that has ended serves nobody.
        let _ = core.send(CoreCommand::Apply(image.clone(), applied.clone()));
    }
    drop(applied);
    while acks.recv_async().await.is_ok() {}
}

/// Waits for a signal; the result names a core that ended although nobody asked.
async fn wait_for_end(cores: &[RunningCore], signals: &mut StopSignals) -> Option<u16> {
    let ends = cores.iter().zip(0_u16..).map(|(core, shard)| {
        Box::pin(async move {
            let _ = core.alive.recv_async().await;
            shard
        })
    });
    let any_end = first_of(ends.collect());
    tokio::select! {
        _ = signals.terminate.recv() => info!("SIGTERM: stopping"),
        _ = signals.interrupt.recv() => info!("SIGINT: stopping"),
        shard = any_end => {
            error!(shard, "a shard has ended; stopping the others");
            return Some(shard);
        }
    }
    None
}

async fn first_of<F: Future<Output = u16> + Unpin>(mut ends: Vec<F>) -> u16 {
    std::future::poll_fn(|cx| {
        for end in &mut ends {
            if let std::task::Poll::Ready(shard) = std::pin::Pin::new(end).poll(cx) {
                return std::task::Poll::Ready(shard);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn stop_cores(
    cores: Vec<RunningCore>,
    bound: Duration,
    unasked: Option<u16>,
) -> Result<(), BrokerError> {
    let all_ended = async {
        // All drain before any closes: a request on one core may need another.
        let (drained, acks) = flume::bounded(cores.len());
        for core in &cores {
            let _ = core.commands.send(CoreCommand::Drain(drained.clone()));
        }
        drop(drained);
        while acks.recv_async().await.is_ok() {}
        for core in &cores {
            let _ = core.commands.send(CoreCommand::Close);
        }
        for core in &cores {
            let _ = core.alive.recv_async().await;
        }
    };
    timeout(bound, all_ended).await.map_err(|_| BrokerError::StopTimeout)?;
    let mut failed = unasked;
    for (core, shard) in cores.into_iter().zip(0_u16..) {
        if !matches!(core.thread.join(), Ok(Ok(()))) {
            failed = failed.or(Some(shard));
        }
    }
    failed.map_or(Ok(()), |shard| Err(BrokerError::CoreEnded(shard)))
}
