//! What the device benches share: executors, CPU time, a raw ring.
#![allow(dead_code, unsafe_code)]

use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use glommio::{LocalExecutorBuilder, Placement};
use thalweg::io::reactor::{IdlePolicy, Reactor, ReactorConfig, interrupt_long_sleeps};

/// What a run of some operations cost.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub wall: Duration,
    /// Of all threads of the process, the kernel's workers for our rings included.
    pub cpu: Duration,
}

pub struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    pub fn start() -> Meter {
        Meter { start: Instant::now(), cpu: process_cpu() }
    }

    /// CPU time of the calling thread alone.
    pub fn thread_cpu() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: plain system call with room for its result.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    pub fn stop(self) -> Cost {
        Cost { wall: self.start.elapsed(), cpu: process_cpu().saturating_sub(self.cpu) }
    }
}

/// CPU time of the whole process. Microseconds would be too coarse for short runs only.
pub fn process_cpu() -> Duration {
    // SAFETY: rusage is plain data for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: plain system call with room for its result.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let of = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    of(usage.ru_utime) + of(usage.ru_stime)
}

/// Runs `body` on a pinned executor as the broker makes them, without a reactor.
pub fn on_executor<F, T>(core: usize, body: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let run = move || {
        interrupt_long_sleeps().expect("a timer");
        let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
            .preempt_timer(Duration::from_micros(500))
            .io_memory(32 << 20)
            .make()
            .expect("an executor");
        executor.run(async move { body().await })
    };
    std::thread::spawn(run).join().expect("the body ends")
}

/// The same with a driven reactor.
pub fn on_ring<F, T>(core: usize, idle: IdlePolicy, body: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    on_executor(core, move || async move {
        let reactor: Rc<Reactor> =
            Reactor::install(ReactorConfig { ring_entries: 256 }).expect("a ring");
        let driver = glommio::spawn_local(reactor.clone().drive(idle, || false));
        let result = body().await;
        reactor.stop();
        driver.await;
        result
    })
}

pub fn pin(core: usize) {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    assert!(pinned, "core {core} is there");
}

pub const SLEEPING: IdlePolicy = IdlePolicy { spin: Duration::ZERO, nap: Duration::ZERO };
pub const NAPPING: IdlePolicy =
    IdlePolicy { spin: Duration::ZERO, nap: Duration::from_micros(200) };
pub const SPINNING: IdlePolicy =
    IdlePolicy { spin: Duration::from_micros(100), nap: Duration::from_micros(200) };

/// A raw ring with the flags of the broker's.
pub fn raw_ring() -> io_uring::IoUring {
    io_uring::IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(256)
        .expect("a ring")
}

/// A bench's main: its table, unless it is only tested or listed, then criterion's view.
pub fn table_then_criterion(table: impl FnOnce(), view: impl FnOnce(&mut Criterion)) {
    if !std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        table();
    }
    let mut criterion = Criterion::default().configure_from_args();
    view(&mut criterion);
    criterion.final_summary();
}

/// Rounds of a table; `IO_BENCH_ROUNDS` overrides.
pub fn rounds() -> usize {
    std::env::var("IO_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// Whether a table's part is wanted: `IO_BENCH_ONLY` holds a piece of its name.
pub fn wanted(name: &str) -> bool {
    std::env::var("IO_BENCH_ONLY").map_or(true, |only| name.contains(&only))
}

/// A row of a table: medians over rounds, after the first.
pub fn print_row(name: &str, ops: u64, op_bytes: u64, mut costs: Vec<Cost>) {
    costs.sort_by_key(|cost| cost.wall);
    let wall = costs[costs.len() / 2].wall;
    costs.sort_by_key(|cost| cost.cpu);
    let cpu = costs[costs.len() / 2].cpu;
    let per_op = |time: Duration| time.as_secs_f64() * 1e6 / ops as f64;
    println!(
        "{name:<44} {:>9.1} us/op {:>9.2} us cpu/op {:>9.0} op/s {:>8.1} MB/s",
        per_op(wall),
        per_op(cpu),
        ops as f64 / wall.as_secs_f64(),
        (ops * op_bytes) as f64 / wall.as_secs_f64() / 1e6,
    );
}
