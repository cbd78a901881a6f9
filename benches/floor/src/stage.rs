//! Two threads on two cores, watched by a third that does nothing else: the server, whose CPU time
//! is measured by itself, and the client.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::disk::DeviceCounts;

/// After the end has been announced, what is in flight has so long to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What both threads see.
#[derive(Debug)]
pub struct Stage {
    phase: AtomicU8,
    frames: AtomicU64,
    bytes: AtomicU64,
    began: Instant,
}

const WARMING: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

impl Stage {
    /// Whether what is seen now counts.
    pub fn is_measured(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == MEASURED
    }

    /// Whether nothing new is to be begun.
    pub fn is_over(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == OVER
    }

    /// Tells what was done since the beginning.
    pub fn done(&self, frames: u64, bytes: u64) {
        self.frames.store(frames, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the beginning, of a clock that only goes forward.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How a run is laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    pub server_cpu: usize,
    pub client_cpu: usize,
    pub warmup: Duration,
    pub duration: Duration,
    /// A file on the device that is watched.
    pub watched: Option<Arc<fs::File>>,
}

/// What the measured time was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub seconds: f64,
    pub frames: u64,
    pub bytes: u64,
    /// CPU seconds of the server's thread and of the kernel's workers for it.
    pub server_cpu: f64,
    pub client_cpu: f64,
    /// CPU seconds of everybody else on this machine.
    pub foreign_cpu: f64,
    pub device: Option<DeviceCounts>,
}

/// Runs both until the measured time is over, or the client is.
///
/// # Errors
/// The server's error, else the client's; or that they do not end.
pub fn play<S: Send + 'static, C: Send + 'static>(
    layout: &Layout,
    server: impl FnOnce(&Stage) -> io::Result<S> + Send + 'static,
    client: impl FnOnce(&Stage) -> io::Result<C> + Send + 'static,
) -> io::Result<(S, C, Window)> {
    let stage = Arc::new(Stage {
        phase: AtomicU8::new(WARMING),
        frames: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        began: Instant::now(),
    });
    let (ended, end) = mpsc::channel();
    let server = Actor::start(End::Server, layout.server_cpu, &stage, &ended, server)?;
    let client = Actor::start(End::Client, layout.client_cpu, &stage, &ended, client)?;
    drop(ended);
    let look = || Look::at(&stage, layout, &server, &client);
    let early = passed(&end, layout.warmup);
    stage.phase.store(MEASURED, Ordering::Relaxed);
    let (before, started) =
        if early { (Look::of_nothing(), stage.began) } else { (look(), Instant::now()) };
    if !early {
        passed(&end, layout.duration);
    }
    let (after, seconds) = (look(), started.elapsed().as_secs_f64());
    stage.phase.store(OVER, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    // Until both have gone.
    while let Err(RecvTimeoutError::Timeout) | Ok(_) = end.recv_timeout(left(deadline)) {
        if left(deadline).is_zero() {
            let what = format!("what is in flight has not ended after {PATIENCE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
    }
    let (server, client) = (server.join(), client.join());
    Ok((server?, client?, after?.since(&before?, seconds)))
}

/// Whether the run has ended before the time was over: the client is done, or one of them failed.
fn passed(end: &Receiver<End>, time: Duration) -> bool {
    let deadline = Instant::now().checked_add(time);
    loop {
        match end.recv_timeout(deadline.map_or(Duration::MAX, left)) {
            Ok(End::Server) => {}
            Ok(End::Client | End::Failed) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Who has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Server,
    Client,
    Failed,
}

struct Actor<T> {
    thread: JoinHandle<io::Result<T>>,
    id: i32,
}

impl<T: Send + 'static> Actor<T> {
    fn start(
        who: End,
        cpu: usize,
        stage: &Arc<Stage>,
        ended: &Sender<End>,
        role: impl FnOnce(&Stage) -> io::Result<T> + Send + 'static,
    ) -> io::Result<Actor<T>> {
        let (stage, ended, (tell, told)) = (stage.clone(), ended.clone(), mpsc::channel());
        let thread = thread::Builder::new().name(format!("{who:?}")).spawn(move || {
            // Also when it panics, for which `join` has the words.
            let mut ended = AtEnd(ended, End::Failed);
            let pinned = core_affinity::set_for_current(CoreId { id: cpu });
            let id = rustix::thread::gettid().as_raw_nonzero().get();
            if !pinned || tell.send(id).is_err() {
                let what = format!("this process may not use CPU {cpu}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
            let result = role(&stage);
            if result.is_ok() {
                ended.1 = who;
            }
            drop(ended);
            // Its CPU time can be asked for as long as it is there.
            while result.is_ok() && !stage.is_over() {
                thread::sleep(Duration::from_millis(1));
            }
            result
        })?;
        match told.recv() {
            Ok(id) => Ok(Actor { thread, id }),
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                _ => io::Error::other("a thread died before it began"),
            }),
        }
    }

    fn join(self) -> io::Result<T> {
        self.thread.join().map_err(|_| io::Error::other("a thread panicked; see above"))?
    }

    /// CPU seconds of the thread, if it is still there, and of the kernel's workers for it.
    fn cpu(&self) -> io::Result<f64> {
        let workers = format!("iou-wrk-{}", self.id);
        let mut sum = 0.0;
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?.path();
            // Threads come and go meanwhile.
            let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
            let own = task.ends_with(self.id.to_string());
            if own || read("comm").trim_end() == workers {
                let nanos = read("schedstat").split(' ').next().and_then(|word| word.parse().ok());
                sum += nanos.unwrap_or(0.0) / 1e9;
            }
        }
        Ok(sum)
    }
}

struct AtEnd(Sender<End>, End);

impl Drop for AtEnd {
    fn drop(&mut self) {
        // Nobody listens any more when the run was given up.
        let _ = self.0.send(self.1);
    }
}

/// The counters at one moment.
#[derive(Default)]
struct Look {
    frames: u64,
    bytes: u64,
    server_cpu: f64,
    client_cpu: f64,
    machine_cpu: f64,
    device: Option<DeviceCounts>,
}

/// CPU seconds that this machine was busy since it started.
fn machine_cpu() -> io::Result<f64> {
    // The kernel's unit for this file is a hundredth of a second, everywhere.
    const TICKS_PER_S: f64 = 100.0;
    let stat = fs::read_to_string("/proc/stat")?;
    let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, [idle, iowait], irq, softirq.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    Ok(busy / TICKS_PER_S)
}

impl Look {
    fn at<S: Send + 'static, C: Send + 'static>(
        stage: &Stage,
        layout: &Layout,
        server: &Actor<S>,
        client: &Actor<C>,
    ) -> io::Result<Look> {
        let device = match &layout.watched {
            Some(file) => DeviceCounts::behind(file)?,
            None => None,
        };
        Ok(Look {
            frames: stage.frames.load(Ordering::Relaxed),
            bytes: stage.bytes.load(Ordering::Relaxed),
            server_cpu: server.cpu()?,
            client_cpu: client.cpu()?,
            machine_cpu: machine_cpu()?,
            device,
        })
    }

    /// The beginning of a run that was over at once.
    fn of_nothing() -> io::Result<Look> {
        Ok(Look { machine_cpu: machine_cpu()?, ..Look::default() })
    }

    fn since(&self, before: &Look, seconds: f64) -> Window {
        let of_the_device = |now: DeviceCounts| now.since(before.device.unwrap_or(now));
        let server_cpu = (self.server_cpu - before.server_cpu).max(0.0);
        let client_cpu = (self.client_cpu - before.client_cpu).max(0.0);
        let machine_cpu = self.machine_cpu - before.machine_cpu;
        Window {
            seconds,
            frames: self.frames - before.frames,
            bytes: self.bytes - before.bytes,
            server_cpu,
            client_cpu,
            foreign_cpu: (machine_cpu - server_cpu - client_cpu).max(0.0),
            device: self.device.map(of_the_device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(duration: Duration) -> Layout {
        Layout { server_cpu: 0, client_cpu: 0, warmup: Duration::ZERO, duration, watched: None }
    }

    #[test]
    fn the_servers_error_is_the_one_that_is_told() {
        let played: io::Result<((), (), Window)> = play(
            &layout(Duration::from_secs(60)),
            |_| Err(io::Error::other("the server's")),
            |_| Err(io::Error::other("the client's")),
        );
        assert_eq!(played.expect_err("both failed").to_string(), "the server's");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let mut layout = layout(Duration::ZERO);
        layout.client_cpu = 1000;
        let played = play(&layout, |_| Ok(()), |_| Ok(()));
        let text = played.expect_err("no such CPU").to_string();
        assert_eq!(text, "this process may not use CPU 1000");
    }

    #[test]
    fn cpu_time_counts_for_the_thread_that_spent_it() {
        let busy = |stage: &Stage| {
            while !stage.is_over() {
                std::hint::spin_loop();
            }
            Ok(())
        };
        let idle = |stage: &Stage| {
            while !stage.is_over() {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        let played = play(&layout(Duration::from_millis(200)), busy, idle);
        let ((), (), window) = played.expect("a run");
        assert!(window.server_cpu > window.client_cpu, "{window:?}");
    }
}
