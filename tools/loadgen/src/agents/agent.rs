//! An agent: takes its share of one run from a coordinator, loads, and sends what it saw each
//! second.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use super::args::AgentArgs;
use super::clock::{boot_id, host_name, instant_of, mono_ns};
use super::wire::{FromAgent, Hello, PROTOCOL, Share, ToAgent, pack, receive, send};
use crate::args::{Cli, Command};
use crate::clock::RunClock;
use crate::run::cores::{self, Part, Running};
use crate::run::setup::TopicChoice;
use crate::run::{self, Outcome, Prepared, RunError, RunSpec};

/// Pause between two tries to reach a coordinator that is not there yet.
const TRY_EACH: Duration = Duration::from_millis(100);
/// How often an agent looks up from its load.
const LOOK_EACH: Duration = Duration::from_millis(20);
/// Longest wait for the coordinator's last word.
const DONE_WAIT: Duration = Duration::from_secs(60);

/// `thalweg-bench agent`: one run, and out.
///
/// # Errors
/// When the run is lost; the coordinator says why, or is gone.
pub fn command(args: &AgentArgs) -> Result<Outcome, RunError> {
    let mut stream = connect(args)?;
    let shown = args.coordinator.as_str();
    eprintln!("coordinator {shown} found, waiting for its other agents");
    let result = take_part(args, &mut stream);
    if let Err(error) = &result {
        // It may be gone.
        let _ = send(&mut stream, &FromAgent::Failed { why: error.to_string() }, &[]);
    }
    result?;
    eprintln!("done: the report is at the coordinator");
    Ok(Outcome::Fine)
}

fn connect(args: &AgentArgs) -> Result<TcpStream, RunError> {
    let begin = Instant::now();
    loop {
        match TcpStream::connect(args.coordinator.as_str()) {
            Ok(stream) => {
                stream
                    .set_nodelay(true)
                    .map_err(|error| RunError::Io("the coordinator's connection", error))?;
                return Ok(stream);
            }
            Err(_) if begin.elapsed() < args.wait => thread::sleep(TRY_EACH),
            Err(error) => {
                let text = format!("{}: {error}", args.coordinator);
                return Err(RunError::Io(
                    "reaching the coordinator",
                    io::Error::new(error.kind(), text),
                ));
            }
        }
    }
}

fn lost(error: io::Error) -> RunError {
    let gone = error.kind() == io::ErrorKind::UnexpectedEof;
    let error = if gone { io::Error::other("it hung up") } else { error };
    RunError::Io("the coordinator", error)
}

fn take_part(args: &AgentArgs, stream: &mut TcpStream) -> Result<(), RunError> {
    let cores = args.cores.clone().unwrap_or_else(run::default_cores);
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host_name(),
        boot_id: boot_id(),
        cores: cores.clone(),
        idle: args.idle,
    };
    send(stream, &FromAgent::Hello(hello), &[]).map_err(lost)?;
    // From here on, words of the coordinator arrive whatever this thread does.
    let reader = stream.try_clone().map_err(lost)?;
    let words = listen(reader).map_err(lost)?;
    let share = match answer_pings(stream, &words, args.wait)? {
        ToAgent::Prepare(share) => share,
        other => return Err(unexpected(&other)),
    };
    eprintln!(
        "agent {}: cores {} to {} of {}, flags {}",
        share.number,
        share.first_core,
        share.first_core + cores.len() - 1,
        share.core_count,
        share.flags.join(" ")
    );
    let spec = spec_of(args, cores, &share)?;
    let prepared = run::prepare(&spec)?;
    send(stream, &FromAgent::Ready { leaders: fingerprint(&prepared) }, &[]).map_err(lost)?;
    let start = answer_pings(stream, &words, args.wait)?;
    let ToAgent::Start { base_mono_ns, base_wall_ms, start_ns } = start else {
        return Err(unexpected(&start));
    };
    let base = instant_of(base_mono_ns).map_err(lost)?;
    let part = Part {
        clock: RunClock::at(base, base_wall_ms),
        start_ns,
        first_core: share.first_core,
        core_count: share.core_count,
        others_produce: true,
    };
    let running = cores::begin(&spec, &prepared, &part)?;
    forward(stream, &words, running)?;
    loop {
        match words.recv_timeout(DONE_WAIT) {
            Ok(Ok(ToAgent::Done)) => return Ok(()),
            // The others' producers took longer than all that was ours.
            Ok(Ok(ToAgent::AllProduced)) => {}
            other => return Err(said(other)),
        }
    }
}

/// The run as this agent takes part in it.
fn spec_of(args: &AgentArgs, cores: Vec<usize>, share: &Share) -> Result<RunSpec, RunError> {
    let words = ["thalweg-bench", "run"].map(str::to_owned).into_iter().chain(share.flags.clone());
    let run = match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Command::Run(run)) => run,
        Ok(_) => return Err(RunError::Flags("the coordinator's flags are no run".to_owned())),
        Err(error) => return Err(RunError::Flags(format!("the coordinator's flags: {error}"))),
    };
    let workload = run.workload.only().map_err(RunError::Flags)?;
    Ok(RunSpec {
        cores,
        idle: args.idle,
        topic: TopicChoice::Existing {
            name: share.topic.clone(),
            from_beginning: share.from_beginning,
        },
        keep_topic: true,
        broker_pid: None,
        quiet: true,
        hlog: None,
        ..run::spec_of(&run, workload)
    })
}

/// Who leads what, as this host sees it: the split of the load rests on it.
fn fingerprint(prepared: &Prepared) -> String {
    let mut hasher = DefaultHasher::new();
    for leader in prepared.leaders() {
        (leader.partition, leader.addr).hash(&mut hasher);
    }
    format!("{} partitions, {:016x}", prepared.leaders().len(), hasher.finish())
}

type Words = Receiver<io::Result<ToAgent>>;

/// A thread that hears the coordinator; its last word is an error.
fn listen(mut reader: TcpStream) -> io::Result<Words> {
    let (out, words) = mpsc::channel();
    thread::Builder::new().name("coordinator".to_owned()).spawn(move || {
        loop {
            let word = receive(&mut reader).map(|(word, _)| word);
            let last = word.is_err();
            if out.send(word).is_err() || last {
                return;
            }
        }
    })?;
    Ok(words)
}

/// Tells the time as often as it is asked for; the first word that is no question.
fn answer_pings(
    stream: &mut TcpStream,
    words: &Words,
    wait: Duration,
) -> Result<ToAgent, RunError> {
    loop {
        match words.recv_timeout(wait + DONE_WAIT) {
            Ok(Ok(ToAgent::Ping)) => {
                send(stream, &FromAgent::Pong { mono_ns: mono_ns() }, &[]).map_err(lost)?;
            }
            Ok(Ok(ToAgent::Refused { why })) => return Err(refused(why)),
            Ok(Ok(word)) => return Ok(word),
            other => return Err(said(other)),
        }
    }
}

fn refused(why: String) -> RunError {
    RunError::Io("the coordinator says", io::Error::other(why))
}

fn unexpected(word: &ToAgent) -> RunError {
    lost(io::Error::new(io::ErrorKind::InvalidData, format!("unexpectedly it said {word:?}")))
}

/// What is wrong with a word.
fn said(word: Result<io::Result<ToAgent>, RecvTimeoutError>) -> RunError {
    match word {
        Ok(Ok(ToAgent::Refused { why })) => refused(why),
        Ok(Ok(word)) => unexpected(&word),
        Ok(Err(error)) => lost(error),
        Err(RecvTimeoutError::Timeout) => lost(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => lost(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Sends on what the load cores see until they have ended, and lets them end when all agents'
/// producers have.
fn forward(stream: &mut TcpStream, words: &Words, running: Running) -> Result<(), RunError> {
    let mut told = false;
    loop {
        match running.intervals.recv_timeout(LOOK_EACH) {
            Ok(interval) => {
                let (message, blobs) = pack(&interval).map_err(lost)?;
                send(stream, &message, &blobs).map_err(lost)?;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // What is left stands for the other agents.
        if !told && running.progress.lanes() == 1 {
            send(stream, &FromAgent::Produced, &[]).map_err(lost)?;
            told = true;
        }
        match words.try_recv() {
            Ok(Ok(ToAgent::AllProduced)) => {
                running.progress.lane_ended();
            }
            Err(mpsc::TryRecvError::Empty) => {}
            Ok(word) => return Err(said(Ok(word))),
            Err(mpsc::TryRecvError::Disconnected) => {
                return Err(said(Err(RecvTimeoutError::Disconnected)));
            }
        }
    }
    if !told {
        // Its load cores had ended before this thread looked up.
        send(stream, &FromAgent::Produced, &[]).map_err(lost)?;
    }
    let end = running.join()?;
    let end = FromAgent::End { finished_ns: end.finished_ns, ledger: end.ledger };
    send(stream, &end, &[]).map_err(lost)
}
