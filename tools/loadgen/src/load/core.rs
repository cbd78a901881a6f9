//! One load core: an executor pinned to a CPU, its reactor, its lanes and consumers, and a report
//! of what they saw each second.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use rustix::time::{ClockId, clock_gettime};
use thalweg::base::signal::Event;
use thalweg::io::reactor::{IdlePolicy, Reactor, ReactorConfig};

use super::churn::{Churn, ChurnPlan};
use super::consumer::{Consumer, ConsumerPlan};
use super::frame_pool::{FramePool, FrameSet};
use super::lane::{Lane, LanePlan, Shared};
use super::pacer::Pacer;
use super::progress::Progress;
use super::rebalance::{RebalancePlan, Rebalances};
use super::recorder::{Interval, Recorder, Window};
use super::verify::{MarkChecker, MarkingSender, SharedLedger};
use crate::args::Idle;
use crate::client::call::CLIENT_ID;
use crate::client::dial::Dialer;
use crate::clock::RunClock;
use crate::measure::ledger::Ledger;
use crate::wire::batch::BatchShape;
use crate::wire::pool::BatchPool;

/// Entries of the reactor's ring: more lanes than that take several system calls a turn.
const RING_ENTRIES: u32 = 512;
/// glommio parks with runnable tasks if its preemption timer fires between arming and the first
/// look at it, as it does on a contended machine with a short timer; what then wakes it is a timer
/// that has not fired yet. So: a long one (nothing here waits for glommio's own I/O; a short one
/// hung 3 runs of 8), and two heartbeats, because one alone is lost if it fired in that same turn.
const PREEMPT_TIMER: Duration = Duration::from_millis(100);
const HEARTBEATS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(700)];

/// The work of one load core.
#[derive(Clone)]
pub struct CorePlan {
    /// Index of this load core.
    pub index: usize,
    /// CPU that it is pinned to.
    pub cpu: usize,
    /// What it does when there is nothing to do.
    pub idle: Idle,
    /// The run's clock.
    pub clock: RunClock,
    /// The run's parts.
    pub window: Window,
    /// When the measured time's parts after the first begin, ns.
    pub parts: Vec<u64>,
    /// The run's batches.
    pub pool: Arc<BatchPool>,
    /// What is sent.
    pub frames: Arc<FrameSet>,
    /// Shape of verify mode's batches.
    pub verify_shape: BatchShape,
    /// How to connect.
    pub dialer: Dialer,
    /// Producers' connections.
    pub lanes: Vec<LanePlan>,
    /// Consumers' connections.
    pub consumers: Vec<ConsumerPlan>,
    /// Connections that are opened and closed.
    pub churn: Option<ChurnPlan>,
    /// The group whose rebalances are measured.
    pub rebalances: Option<RebalancePlan>,
    /// How all load cores go on.
    pub progress: Arc<Progress>,
}

/// What a load core says in the end.
#[derive(Clone, Debug)]
pub struct CoreEnd {
    /// When its last task ended, ns of the run's clock.
    pub finished_ns: u64,
    /// The books of verify mode; empty otherwise.
    pub ledger: Ledger,
}

/// Runs `task` on an executor of its own, pinned to `cpu`, with a reactor; returns its result.
///
/// # Errors
/// When the executor or the ring cannot be set up, or the executor's thread died.
pub fn on_core<T, F>(
    name: &str,
    cpu: usize,
    task: impl FnOnce(Rc<Reactor>) -> F + std::marker::Send + 'static,
) -> io::Result<thread::JoinHandle<io::Result<T>>>
where
    F: Future<Output = T> + 'static,
    T: std::marker::Send + 'static,
{
    let handle = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .io_memory(1 << 20)
        .ring_depth(64)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            let reactor = Reactor::install(ReactorConfig { ring_entries: RING_ENTRIES })?;
            let heartbeats = HEARTBEATS.map(|period| {
                glommio::spawn_local(async move {
                    loop {
                        glommio::timer::sleep(period).await;
                    }
                })
            });
            let result = task(reactor).await;
            for heartbeat in heartbeats {
                heartbeat.cancel().await;
            }
            Ok(result)
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
    let join = move || {
        handle
            .join()
            .map_err(|error| io::Error::other(format!("a load core died: {error}")))
            .and_then(|result| result)
    };
    thread::Builder::new().name(format!("{name}-join")).spawn(join)
}

/// Runs `work` while the reactor is driven and `poll` is called in each turn.
pub async fn driven<T>(
    reactor: Rc<Reactor>,
    spin: Duration,
    poll: impl FnMut() -> bool + 'static,
    work: impl Future<Output = T>,
) -> T {
    let driver = glommio::spawn_local(
        reactor.clone().drive(IdlePolicy { spin, ..IdlePolicy::default() }, poll),
    );
    let result = work.await;
    reactor.stop();
    driver.await;
    result
}

/// Starts a load core; its intervals go to `out`.
///
/// # Errors
/// See [`on_core`].
pub fn start(
    plan: CorePlan,
    out: mpsc::Sender<Interval>,
) -> io::Result<thread::JoinHandle<io::Result<CoreEnd>>> {
    let (name, cpu) = (format!("load-{}", plan.index), plan.cpu);
    on_core(&name, cpu, move |reactor| async move {
        let pacer = Pacer::new(plan.clock, plan.idle);
        let turn = {
            let pacer = pacer.clone();
            move || pacer.turn()
        };
        driven(reactor, pacer.driver_spin(), turn, run(plan, pacer.clone(), out)).await
    })
}

async fn run(plan: CorePlan, pacer: Rc<Pacer>, out: mpsc::Sender<Interval>) -> CoreEnd {
    let recorder = Recorder::new(plan.window, &plan.parts);
    let ledger = SharedLedger::default();
    let lanes = lanes_of(&plan, &pacer, &recorder, &ledger);
    let ended = Rc::new(Ended::default());
    let mut tasks = Vec::new();
    for consumer in &plan.consumers {
        let consumer = Consumer::new(
            consumer.clone(),
            plan.dialer.clone(),
            CLIENT_ID,
            pacer.clone(),
            recorder.clone(),
            plan.progress.clone(),
            consumer.verify.map(|run| MarkChecker::new(run, ledger.clone())),
        );
        tasks.push(glommio::spawn_local(ended.clone().after(consumer.run())));
    }
    for lane in &lanes {
        let (lane, progress) = (lane.clone(), plan.progress.clone());
        let task = async move {
            lane.run().await;
            progress.lane_ended();
        };
        tasks.push(glommio::spawn_local(ended.clone().after(task)));
    }
    if let Some(churn) = &plan.churn {
        let churn = Churn::new(churn.clone(), pacer.clone(), recorder.clone());
        tasks.push(glommio::spawn_local(ended.clone().after(churn.run())));
    }
    if let Some(group) = &plan.rebalances {
        let group = Rebalances::new(group.clone(), pacer.clone(), recorder.clone());
        tasks.push(glommio::spawn_local(ended.clone().after(group.run())));
    }
    let watcher = plan.progress.has_backlog().then(|| {
        let (progress, pacer) = (plan.progress.clone(), pacer.clone());
        glommio::spawn_local(watch_backlog(progress, pacer, recorder.clone()))
    });
    let meter = Rc::new(Meter {
        idle: plan.idle,
        pacer: pacer.clone(),
        recorder: recorder.clone(),
        last_ns: Cell::default(),
        cpu_before_ns: Cell::default(),
    });
    meter.reset();
    let ticker = glommio::spawn_local(tick(plan.index, plan.window, meter.clone(), out.clone()));
    let deadline = async {
        pacer.until(plan.window.deadline_ns).await;
        // A parked core's timers may fire a little early.
        while pacer.clock().now_ns() < plan.window.deadline_ns {
            glommio::executor().yield_now().await;
        }
    };
    futures_lite::future::or(ended.all(tasks.len()), deadline).await;
    let finished_ns = pacer.clock().now_ns();
    for task in tasks {
        task.cancel().await;
    }
    for lane in &lanes {
        lane.settle();
    }
    ticker.cancel().await;
    if let Some(watcher) = watcher {
        watcher.cancel().await;
    }
    meter.note();
    // The collector may be gone only if the whole process is ending.
    let _ = out.send(recorder.take(plan.index, second_of(plan.window, finished_ns)));
    CoreEnd { finished_ns, ledger: ledger.take() }
}

/// The producers' connections. They share the core's frames, unless they are transactional: then
/// each has frames with its own transactional id.
fn lanes_of(
    plan: &CorePlan,
    pacer: &Rc<Pacer>,
    recorder: &Rc<Recorder>,
    ledger: &SharedLedger,
) -> Vec<Rc<Lane>> {
    let plain = plan.lanes.iter().filter(|lane| lane.txn.is_none());
    let targets = plain.flat_map(|lane| &lane.targets);
    let used = targets.map(|target| target.batches.clone());
    let frames = Rc::new(FramePool::new(plan.frames.clone(), used));
    let lane = |lane: &LanePlan| {
        let transactional = lane.txn.is_some();
        let marking = lane.verify.map(|run| {
            MarkingSender::new(run, lane.id, plan.verify_shape, ledger.clone(), transactional)
        });
        let frames = match &lane.txn {
            None => frames.clone(),
            Some(txn) => {
                let set = Arc::new(plan.frames.of_transactions(&plan.pool, &txn.id));
                let used = lane.targets.iter().map(|target| target.batches.clone());
                Rc::new(FramePool::new(set, used))
            }
        };
        let shared = Shared {
            dialer: plan.dialer.clone(),
            frames,
            pacer: pacer.clone(),
            recorder: recorder.clone(),
            progress: plan.progress.clone(),
        };
        Lane::new(lane.clone(), shared, marking)
    };
    plan.lanes.iter().map(lane).collect()
}

/// Keeps this core's book up with what other cores' consumers do.
async fn watch_backlog(progress: Arc<Progress>, pacer: Rc<Pacer>, recorder: Rc<Recorder>) {
    loop {
        let drain = progress.drain();
        recorder.follow(drain);
        if drain.to_ns.is_some() {
            return;
        }
        pacer.until(pacer.clock().now_ns() + 1_000_000).await;
    }
}

/// Counts tasks that have ended, so that none has to be awaited twice.
#[derive(Default)]
struct Ended {
    count: Cell<usize>,
    event: Event,
}

impl Ended {
    async fn after(self: Rc<Ended>, task: impl Future<Output = ()>) {
        task.await;
        self.count.set(self.count.get() + 1);
        self.event.notify();
    }

    async fn all(&self, count: usize) {
        while self.count.get() < count {
            self.event.wait().await;
        }
    }
}

/// Writes down how much of a core's time was work.
struct Meter {
    idle: Idle,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    last_ns: Cell<u64>,
    cpu_before_ns: Cell<u64>,
}

impl Meter {
    /// Begins to count now.
    fn reset(&self) {
        self.pacer.take_usage();
        self.last_ns.set(self.pacer.clock().now_ns());
        self.cpu_before_ns.set(thread_cpu_ns());
    }

    /// Writes down what was used since the last time, as of a moment shortly before now.
    fn note(&self) {
        let now = self.pacer.clock().now_ns();
        let from_ns = self.last_ns.replace(now);
        let cpu_ns = thread_cpu_ns();
        let used_ns = cpu_ns.saturating_sub(self.cpu_before_ns.replace(cpu_ns));
        let usage = self.pacer.take_usage();
        let (busy_ns, idle_ns, work_cpu_ns) = match self.idle {
            Idle::Spin => (usage.busy_ns, usage.idle_ns, used_ns.saturating_sub(usage.idle_ns)),
            Idle::Park => (used_ns, (now - from_ns).saturating_sub(used_ns), used_ns),
        };
        // A parked core's turns are as long as its sleep.
        let turn_ns_max = if self.idle == Idle::Spin { usage.turn_ns_max } else { 0 };
        self.recorder.at(from_ns + (now - from_ns) / 2, |tally| {
            let counters = &mut tally.counters;
            counters.busy_ns += busy_ns;
            counters.idle_ns += idle_ns;
            counters.work_cpu_ns += work_cpu_ns;
            counters.gap_ns_max = counters.gap_ns_max.max(turn_ns_max);
        });
    }
}

/// Sends what was recorded at the end of each second of the run.
async fn tick(index: usize, window: Window, meter: Rc<Meter>, out: mpsc::Sender<Interval>) {
    let mut at_ns = window.start_ns;
    meter.pacer.until(at_ns).await;
    meter.reset();
    loop {
        let from_ns = at_ns;
        at_ns += 1_000_000_000;
        meter.pacer.until(at_ns).await;
        meter.note();
        if out.send(meter.recorder.take(index, second_of(window, from_ns))).is_err() {
            return;
        }
    }
}

fn second_of(window: Window, at_ns: u64) -> u64 {
    at_ns.saturating_sub(window.start_ns) / 1_000_000_000
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
