//! The load cores of one process: what each of them does, their start and their end.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::plan::{self, Common};
use super::setup::Ready;
use super::{Prepared, RunError, RunSpec};
use crate::args::Workload;
use crate::client::call::CLIENT_ID;
use crate::clock::RunClock;
use crate::load::core::{CoreEnd, CorePlan, start};
use crate::load::frame_pool::FrameSet;
use crate::load::progress::Progress;
use crate::load::recorder::{Interval, Window};
use crate::load::txn::TxnPlan;
use crate::measure::ledger::Ledger;
use crate::report::parts;
use crate::wire::pool::BatchPool;
use crate::wire::produce::FrameTemplate;

/// Time for the load cores to come up and connect, and for each connection more.
const COME_UP: Duration = Duration::from_millis(300);
const COME_UP_EACH: Duration = Duration::from_millis(1);
/// The same where each connection begins with signatures and hashes.
const COME_UP_EACH_SECURED: Duration = Duration::from_millis(8);
/// Time for each MiB of frames that a load core copies: memory that is touched first is slow.
const COME_UP_EACH_MIB: Duration = Duration::from_millis(4);
/// How long a broker may take for one Produce request.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
/// How long answers may come after the last intended send.
const GRACE: Duration = Duration::from_secs(10);

/// Which of a run's load cores are this process's.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The run's clock.
    pub clock: RunClock,
    /// First send.
    pub start_ns: u64,
    /// Index of this process's first load core.
    pub first_core: usize,
    /// Load cores of all processes.
    pub core_count: usize,
    /// Whether other processes produce, too: [`Running::progress`] counts them as one lane until
    /// somebody knows that they do not any more.
    pub others_produce: bool,
}

/// Load cores at work.
pub struct Running {
    /// The run's parts.
    pub window: Window,
    /// What they see, second by second.
    pub intervals: mpsc::Receiver<Interval>,
    /// How they go on; consumers wait for the lanes that have not ended.
    pub progress: Arc<Progress>,
    cores: Vec<JoinHandle<io::Result<CoreEnd>>>,
}

impl Running {
    /// Waits for the end of all.
    ///
    /// # Errors
    /// When one of them died.
    pub fn join(self) -> Result<CoreEnd, RunError> {
        let mut all = CoreEnd { finished_ns: 0, ledger: Ledger::default() };
        for core in self.cores {
            let end = core
                .join()
                .map_err(|_| io::Error::other("its thread died"))
                .and_then(|result| result)
                .map_err(|error| RunError::Io("a load core", error))?;
            all.finished_ns = all.finished_ns.max(end.finished_ns);
            all.ledger.merge(&end.ledger);
        }
        Ok(all)
    }
}

/// Starts this process's load cores.
///
/// # Errors
/// When they cannot be started.
pub fn begin(spec: &RunSpec, prepared: &Prepared, part: &Part) -> Result<Running, RunError> {
    let window = window(spec, part.start_ns);
    let (plans, progress) = core_plans(spec, prepared, part, window);
    let (out, intervals) = mpsc::channel();
    let mut cores = Vec::new();
    for plan in plans {
        let core = start(plan, out.clone())
            .map_err(|error| RunError::Io("starting a load core", error))?;
        cores.push(core);
    }
    Ok(Running { window, intervals, progress, cores })
}

/// When a run can begin that is started now.
#[must_use]
pub fn start_ns(spec: &RunSpec, prepared: &Prepared, clock: RunClock) -> u64 {
    clock.now_ns() + nanos(come_up(spec, &prepared.frames))
}

/// How long the load cores have until the first send: they come up, copy frames and connect.
fn come_up(spec: &RunSpec, frames: &FrameSet) -> Duration {
    let workload = &spec.workload;
    // A transactional lane wraps the frames again, and copies them.
    let copies = if workload.transactional { 1 + 2 * u64::from(workload.producers) } else { 1 };
    let copied_mib = u32::try_from((frames.bytes() >> 20) * copies).unwrap_or(u32::MAX);
    COME_UP + connecting(spec) + COME_UP_EACH_MIB.saturating_mul(copied_mib)
}

/// How long the load cores connect.
fn connecting(spec: &RunSpec) -> Duration {
    let connections = spec.workload.producers + spec.workload.consumers * spec.workload.fan_out;
    let secured = spec.security.tls || spec.security.sasl_mechanism.is_some();
    connections * if secured { COME_UP_EACH_SECURED } else { COME_UP_EACH }
}

/// How long connections have to last, at least; before the batches are wrapped.
pub(super) fn lasts(spec: &RunSpec) -> Duration {
    COME_UP + connecting(spec) + spec.workload.warmup + spec.workload.duration
}

/// The parts of a run that begins at `start_ns`.
#[must_use]
pub fn window(spec: &RunSpec, start_ns: u64) -> Window {
    let measure_ns = start_ns + nanos(spec.workload.warmup);
    let end_ns = measure_ns + nanos(spec.workload.duration);
    Window { start_ns, measure_ns, end_ns, deadline_ns: end_ns + nanos(GRACE) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// What is sent, addressed to the first topic.
pub(super) fn frames_of(workload: &Workload, ready: &Ready, pool: &BatchPool) -> Arc<FrameSet> {
    let transactions = ready.versions.transactions.filter(|_| workload.transactional);
    let first = FrameTemplate::new(
        &ready.topics[0],
        CLIENT_ID,
        workload.acks.wire(),
        PRODUCE_TIMEOUT_MS,
        transactions.map_or(ready.versions.produce, |it| it.produce),
        &pool.batches()[0],
    );
    Arc::new(FrameSet::new(pool, &first))
}

/// The plans of this process's load cores: the whole run is planned for the cores of all processes,
/// and each takes its own.
fn core_plans(
    spec: &RunSpec,
    prepared: &Prepared,
    part: &Part,
    window: Window,
) -> (Vec<CorePlan>, Arc<Progress>) {
    let workload = &spec.workload;
    let Prepared { pool, frames, ready, .. } = prepared;
    let idempotent_version = ready.versions.init_producer_id.filter(|_| workload.idempotent);
    // Stamps of runs that share a topic differ; a collision costs nothing but a strange sample.
    let run = (part.clock.wall_ms(0) & 0xff) as u8;
    let verify = workload.verify.then(|| verify_run(part));
    let common = Common { workload, ready, pool, window, run, verify };
    let mut lanes = plan::lanes(&common, idempotent_version);
    let transactions = ready.versions.transactions.filter(|_| workload.transactional);
    for (index, lane) in lanes.iter_mut().enumerate() {
        lane.txn = transactions.map(|versions| TxnPlan {
            id: format!("thalweg-bench-{:x}-{index}", verify_run(part)),
            topic: ready.topics[0].clone(),
            versions,
            ends_after: workload.txn_ends_after(),
            abort_every: Some(workload.txn_abort_every).filter(|&every| every > 0),
        });
    }
    // Connection by connection over all cores; those of other processes are theirs.
    let own = |idx: usize| {
        let core = (idx % part.core_count).checked_sub(part.first_core);
        core.filter(|&core| core < spec.cores.len())
    };
    let offset = lanes.len();
    let lanes = lanes.into_iter().enumerate();
    let lanes: Vec<_> = lanes.filter_map(|(idx, lane)| Some((own(idx)?, lane))).collect();
    let consumers = plan::consumers(&common).into_iter().enumerate();
    let consumers: Vec<_> =
        consumers.filter_map(|(idx, it)| Some((own(offset + idx)?, it))).collect();
    let producing = lanes.len() + usize::from(part.others_produce);
    let progress = Progress::new(producing, consumers.len(), workload.backlog as u64);
    let progress = Arc::new(progress);
    let mut churn = plan::churn(&common, part.core_count).into_iter().skip(part.first_core);
    let parts = parts::later_starts(workload, window);
    let plan = |(index, &cpu): (usize, &usize)| CorePlan {
        index: part.first_core + index,
        cpu,
        idle: spec.idle,
        clock: part.clock,
        window,
        parts: parts.clone(),
        pool: pool.clone(),
        frames: frames.clone(),
        dialer: ready.dialer.clone(),
        verify_shape: pool.verify_shape(workload),
        lanes: Vec::new(),
        consumers: Vec::new(),
        churn: churn.next().flatten(),
        rebalances: plan::rebalances(&common).filter(|_| part.first_core + index == 0),
        progress: progress.clone(),
    };
    let mut plans: Vec<CorePlan> = spec.cores.iter().enumerate().map(plan).collect();
    for (core, lane) in lanes {
        plans[core].lanes.push(lane);
    }
    for (core, consumer) in consumers {
        plans[core].consumers.push(consumer);
    }
    (plans, progress)
}

/// A number that no other run on this topic has, and all processes of this one: when it began, to
/// the ns.
fn verify_run(part: &Part) -> u64 {
    part.clock.wall_ms(0).cast_unsigned() << 16 | part.start_ns & 0xffff
}
