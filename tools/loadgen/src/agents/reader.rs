//! One thread for each agent of a run: hears its seconds, and the first that is lost ends all.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::wire::{FromAgent, ToAgent, receive, send, unpack};
use crate::load::core::CoreEnd;
use crate::load::recorder::Interval;
use crate::measure::ledger::Ledger;

/// The agent that was lost first.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Which, from 0.
    pub index: usize,
    /// What became of it.
    pub why: String,
}

/// What came of all agents.
pub enum Heard {
    /// They all ended well.
    All(CoreEnd),
    /// One did not.
    Lost(Lost),
}

/// The threads at work.
pub struct Readers {
    threads: Vec<JoinHandle<Option<CoreEnd>>>,
    shared: Arc<Shared>,
}

struct Shared {
    /// One for each agent; closing them ends all readers.
    streams: Vec<TcpStream>,
    core_count: usize,
    producing: AtomicUsize,
    lost: Mutex<Option<Lost>>,
}

/// Hears the agents behind `streams`; their seconds go to `out`. One that is silent for longer than
/// `silence_max` is lost.
///
/// # Errors
/// When threads or sockets cannot be had.
pub fn listen(
    streams: Vec<TcpStream>,
    core_count: usize,
    silence_max: Duration,
    out: mpsc::Sender<Interval>,
) -> io::Result<Readers> {
    let shared = Arc::new(Shared {
        core_count,
        producing: AtomicUsize::new(streams.len()),
        lost: Mutex::new(None),
        streams,
    });
    let mut threads = Vec::new();
    for (index, stream) in shared.streams.iter().enumerate() {
        let mut stream = stream.try_clone()?;
        stream.set_read_timeout(Some(silence_max))?;
        let (shared, out) = (shared.clone(), out.clone());
        let name = format!("agent-{}", index + 1);
        threads.push(thread::Builder::new().name(name).spawn(move || {
            let result = hear(&shared, &mut stream, &out);
            if let Err(error) = &result {
                shared.lose(index, error);
            }
            result.ok()
        })?);
    }
    Ok(Readers { threads, shared })
}

impl Readers {
    /// Waits for the end of all.
    #[must_use]
    pub fn end(self) -> Heard {
        let mut all = CoreEnd { finished_ns: 0, ledger: Ledger::default() };
        for (index, thread) in self.threads.into_iter().enumerate() {
            match thread.join() {
                Ok(Some(end)) => {
                    all.finished_ns = all.finished_ns.max(end.finished_ns);
                    all.ledger.merge(&end.ledger);
                }
                Ok(None) => {}
                Err(_) => self.shared.lose(index, &io::Error::other("its reader died")),
            }
        }
        let mut lost = self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.take().map_or(Heard::All(all), Heard::Lost)
    }
}

impl Shared {
    /// The first that is lost is the one to name: the others end because of it.
    fn lose(&self, index: usize, error: &io::Error) {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "it died or hung up in the middle of the run".to_owned()
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                "it has been silent for too long".to_owned()
            }
            _ => error.to_string(),
        };
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert(Lost { index, why });
        // Only reading ends: the agents are still to be told why.
        self.streams.iter().for_each(|stream| _ = stream.shutdown(Shutdown::Read));
    }

    /// An agent's producers are through; the last one's word goes to all.
    fn produced(&self) {
        if self.producing.fetch_sub(1, Ordering::AcqRel) == 1 {
            for mut stream in &self.streams {
                // Whoever is gone is found by its reader.
                let _ = send(&mut stream, &ToAgent::AllProduced, &[]);
            }
        }
    }
}

fn hear(
    shared: &Shared,
    stream: &mut TcpStream,
    out: &mpsc::Sender<Interval>,
) -> io::Result<CoreEnd> {
    let mut produced = false;
    loop {
        let (message, blobs) = receive(stream)?;
        match message {
            FromAgent::Interval { core, second, warmup, measured } if core < shared.core_count => {
                let (warmup, measured) = unpack(&warmup, &measured, &blobs)?;
                let interval = Interval { core, second, warmup, measured };
                if out.send(interval).is_err() {
                    return Err(io::Error::other("the run has ended without it"));
                }
            }
            FromAgent::Produced if !produced => {
                produced = true;
                shared.produced();
            }
            FromAgent::End { finished_ns, ledger } => return Ok(CoreEnd { finished_ns, ledger }),
            FromAgent::Failed { why } => return Err(io::Error::other(why)),
            _ => return Err(io::Error::other("it said what has no place in a run")),
        }
    }
}
