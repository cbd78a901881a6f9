//! Two threads on two cores, watched by a third that does nothing else: the server, whose CPU time
//! is measured by itself, and the client.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::meter::{Look, Window};

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

    /// Frames and bytes that were done.
    pub fn counts(&self) -> (u64, u64) {
        (self.frames.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
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
    pub watched: Option<Arc<File>>,
}

/// Runs both until the measured time is over, or the client is.
///
/// # Errors
/// The server's error, else the client's; that they do not end; that SIGINT or SIGTERM came, after
/// which they have ended as they do otherwise.
pub fn play<S: Send + 'static, C: Send + 'static>(
    layout: &Layout,
    server: impl FnOnce(&Stage) -> io::Result<S> + Send + 'static,
    client: impl FnOnce(&Stage) -> io::Result<C> + Send + 'static,
) -> io::Result<(S, C, Window)> {
    let stage = Arc::new(Stage {
        phase: AtomicU8::new(if layout.warmup.is_zero() { MEASURED } else { WARMING }),
        frames: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        began: Instant::now(),
    });
    let watched = layout.watched.as_deref();
    // Without a warm-up the whole life of both is measured.
    let mut before = Look::of_nothing(watched);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (ended, end) = mpsc::channel();
    let server = Actor::start(End::Server, layout.server_cpu, &stage, &ended, server)?;
    let client = Actor::start(End::Client, layout.client_cpu, &stage, &ended, client)
        .inspect_err(|_| stage.phase.store(OVER, Ordering::Relaxed))?;
    let (listening, ended) = (signals.handle(), AtEnd(ended, End::Signal));
    let listener = thread::spawn(move || {
        // Ends with the first signal, or when nobody listens any more.
        let signal = signals.forever().next();
        drop(ended);
        signal
    });
    let look = || Look::now(stage.counts(), server.id, client.id, watched);
    let mut started = stage.began;
    if layout.warmup.is_zero() || !passed(&end, layout.warmup) {
        if !layout.warmup.is_zero() {
            stage.phase.store(MEASURED, Ordering::Relaxed);
            (before, started) = (look(), Instant::now());
        }
        passed(&end, layout.duration);
    }
    let (after, seconds) = (look(), started.elapsed().as_secs_f64());
    stage.phase.store(OVER, Ordering::Relaxed);
    listening.close();
    let deadline = Instant::now() + PATIENCE;
    // Until all have gone.
    while let Err(RecvTimeoutError::Timeout) | Ok(_) = end.recv_timeout(left(deadline)) {
        if left(deadline).is_zero() {
            let what = format!("what is in flight has not ended after {PATIENCE:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
    }
    let (server, client) = (server.join(), client.join());
    if let Ok(Some(signal)) = listener.join() {
        let what = format!("ended by signal {signal}");
        return Err(io::Error::new(io::ErrorKind::Interrupted, what));
    }
    Ok((server?, client?, after?.since(&before?, seconds)))
}

/// Whether the run has ended before the time was over: the client is done, one of them failed, or a
/// signal came.
fn passed(end: &Receiver<End>, time: Duration) -> bool {
    let deadline = Instant::now().checked_add(time);
    loop {
        match end.recv_timeout(deadline.map_or(Duration::MAX, left)) {
            Ok(End::Server) => {}
            Ok(End::Client | End::Failed | End::Signal) | Err(RecvTimeoutError::Disconnected) => {
                return true;
            }
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
    Signal,
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
}

struct AtEnd(Sender<End>, End);

impl Drop for AtEnd {
    fn drop(&mut self) {
        // Nobody listens any more when the run was given up.
        let _ = self.0.send(self.1);
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
