//! The runtime of one core: a pinned glommio executor, its ring, its mesh end, its main task.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use tracing::error;

use super::budget::{AnswerBudget, Budget};
use super::mesh::{Mesh, MeshPlan};
use super::stores::Stores;
use super::table::PartitionTable;
use super::task;
use crate::base::clock::Clock;
use crate::base::ids::ShardId;
use crate::io::buf::IoBuf;
use crate::io::reactor::{IdlePolicy, Reactor, ReactorConfig, interrupt_long_sleeps};

/// glommio looks at I/O and foreign wake-ups at least this often while tasks are runnable. Its
/// default of 100 ms is a tail of 200 ms; below 250 us it was seen to park with work to do.
const PREEMPT_TIMER: Duration = Duration::from_micros(500);

/// Locked memory that glommio registers for each executor. Files and sockets go through our own
/// ring, so the smallest that it accepts is enough.
pub const GLOMMIO_IO_MEMORY_BYTES: usize = 64 << 10;

/// The part of a shard's memory that free buffers may keep: as much as waits for the disk in a bad
/// moment, or that memory goes back to the system and comes again cold, which costs more than a copy.
const POOL_PART: usize = 2;

/// The part of a shard's memory that records on their way to clients may hold.
const ANSWERS_PART: usize = 4;

/// How one shard is set up.
#[derive(Clone)]
pub struct ShardConfig {
    /// Index of the shard.
    pub shard: ShardId,
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// How long an idle shard spins before it parks; zero parks at once.
    pub idle_spin: Duration,
    /// Bytes of requests and answers that this shard may hold.
    pub memory_bytes: usize,
    /// The queues between the shards.
    pub mesh: Arc<MeshPlan>,
}

/// One core's world. Lives in an `Rc` on the shard's thread.
pub struct Shard {
    id: ShardId,
    mesh: Mesh,
    clock: Clock,
    budget: Budget,
    answers: AnswerBudget,
    table: PartitionTable,
    stores: Stores,
    draining: Cell<bool>,
}

impl Shard {
    /// This shard's index.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The way to other shards.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// This core's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Bytes that requests on this core may hold.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of records that answers may hold until clients have taken them.
    #[must_use]
    pub fn answers(&self) -> &AnswerBudget {
        &self.answers
    }

    /// The partitions that this shard owns.
    #[must_use]
    pub fn table(&self) -> &PartitionTable {
        &self.table
    }

    /// This shard's stores, one for each data directory.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// From now on no read waits for records that are not there: the broker stops.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        for (_, owned) in self.table.all() {
            owned.partition().borrow().wake_parked();
        }
    }

    /// Whether [`Shard::begin_drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// Starts a shard's thread and runs `main` on it. The thread ends when `main` returns.
///
/// # Errors
/// If the thread or its executor cannot be made.
pub fn spawn_shard<F>(
    config: ShardConfig,
    main: impl FnOnce(Rc<Shard>) -> F + Send + 'static,
) -> io::Result<thread::JoinHandle<io::Result<()>>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let name = format!("shard-{}", config.shard);
    thread::Builder::new().name(name.clone()).spawn(move || {
        interrupt_long_sleeps()?;
        let executor = LocalExecutorBuilder::new(Placement::Fixed(config.cpu))
            .name(&name)
            .io_memory(GLOMMIO_IO_MEMORY_BYTES)
            .ring_depth(64)
            .preempt_timer(PREEMPT_TIMER)
            .spin_before_park(Duration::ZERO)
            .make()
            .map_err(|e| io::Error::other(format!("no executor on CPU {}: {e}", config.cpu)))?;
        executor.run(shard_main(config, main))
    })
}

async fn shard_main<F>(config: ShardConfig, main: impl FnOnce(Rc<Shard>) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    IoBuf::set_pool_bytes_max(config.memory_bytes / POOL_PART);
    let reactor = Reactor::install(ReactorConfig { ring_entries: 1024 })?;
    let mesh = Mesh::join(config.mesh, config.shard, reactor.clone());
    let shard = Rc::new(Shard {
        id: config.shard,
        mesh,
        clock: Clock::real(),
        budget: Budget::new(config.memory_bytes),
        answers: AnswerBudget::new(config.memory_bytes / ANSWERS_PART),
        table: PartitionTable::default(),
        stores: Stores::default(),
        draining: Cell::new(false),
    });
    let idle = IdlePolicy { spin: config.idle_spin, ..IdlePolicy::default() };
    let driver = {
        let (reactor, shard) = (reactor.clone(), shard.clone());
        task::spawn_joinable(async move {
            let inbox = shard.clone();
            reactor.drive(idle, move || inbox.mesh().turn(&inbox)).await;
        })
    };
    let result = main(shard).await;
    if let Err(problem) = &result {
        error!(shard = %config.shard, "the shard ends: {problem}");
    }
    reactor.stop();
    driver.join().await;
    result
}
