//! The coordinator: gathers agents, measures their clocks, gives each its share and all one start,
//! and merges what they see as if it came from load cores of its own.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::AgentFigures;
use super::args::CoordinateArgs;
use super::clock::{EXCHANGES, Offset, boot_id, instant_of, mono_ns};
use super::reader::{Heard, Lost, listen};
use super::wire::{FromAgent, Hello, PROTOCOL, Share, ToAgent, receive, send};
use crate::args::Idle;
use crate::clock::RunClock;
use crate::load::core::CoreEnd;
use crate::load::recorder::Window;
use crate::report::Report;
use crate::report::hlog::HistogramLog;
use crate::report::live::LiveLine;
use crate::report::warnings::Warning;
use crate::run::collect::{Collected, Collector};
use crate::run::setup::TopicChoice;
use crate::run::{self, Outcome, Prepared, RunError, RunSpec, cores};

/// How often it is looked whether another agent has come.
const LOOK_EACH: Duration = Duration::from_millis(20);
/// Longest wait for an agent's answer to a question that costs it nothing.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for an agent to connect to the brokers: longer than its own.
const READY_WAIT: Duration = Duration::from_secs(90);
/// An agent that says nothing for so long in a run, in which each second has its word, is lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Time for the word to start to reach every agent, on top of what a run alone needs.
const START_WAIT: Duration = Duration::from_millis(500);

/// An agent that is here.
struct Agent {
    stream: TcpStream,
    from: SocketAddr,
    hello: Hello,
    offset: Offset,
}

/// `thalweg-bench coordinate`; `flags` are the run's as they were typed.
///
/// # Errors
/// When not all agents come, or one is lost: then there is no report.
pub fn command(args: &CoordinateArgs, flags: &[String]) -> Result<Outcome, RunError> {
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| RunError::Io("listening for agents", error))?;
    let report = coordinate(&listener, args, flags)?;
    run::tell(&args.run, &report)
}

/// Takes a run over agents from their arrival to the report.
///
/// # Errors
/// See [`command`].
pub fn coordinate(
    listener: &TcpListener,
    args: &CoordinateArgs,
    flags: &[String],
) -> Result<Report, RunError> {
    if args.agents == 0 {
        return Err(RunError::Flags("--agents must be 1 or more".to_owned()));
    }
    let mut spec = run::spec_of(&args.run, args.run.workload.only().map_err(RunError::Flags)?);
    run::check_outputs(&args.run)?;
    check(&spec)?;
    let mut agents = gather(listener, args)?;
    let prepared = run::prepare(&spec);
    let result = prepared.and_then(|prepared| {
        let result = merged(&spec, &prepared, &mut agents, flags);
        prepared.clean_up(&spec);
        let (collected, window, end) = result?;
        spec.cores = agents.iter().flat_map(|agent| agent.hello.cores.clone()).collect();
        if agents.iter().any(|agent| agent.hello.idle == Idle::Park) {
            spec.idle = Idle::Park;
        }
        let mut report = run::report(&spec, &prepared, window, collected, end, None);
        name_agents(&mut report, &agents);
        Ok(report)
    });
    for agent in &mut agents {
        let last = match &result {
            Ok(_) => ToAgent::Done,
            Err(error) => ToAgent::Refused { why: format!("the run is lost: {error}") },
        };
        // It may be the one that is gone.
        let _ = send(&mut agent.stream, &last, &[]);
    }
    result
}

/// Looks for flags that cannot be, or not over several processes.
fn check(spec: &RunSpec) -> Result<(), RunError> {
    run::check(spec)?;
    let flaw = if spec.workload.backlog > 0 {
        Some("--backlog is counted in one process: agents cannot build one together")
    } else if spec.workload.topics != 1 {
        Some("agents share one topic: --topics must be 1")
    } else {
        None
    };
    flaw.map_or(Ok(()), |text| Err(RunError::Flags(text.to_owned())))
}

/// Waits for all agents.
fn gather(listener: &TcpListener, args: &CoordinateArgs) -> Result<Vec<Agent>, RunError> {
    let failed = |error| RunError::Io("waiting for agents", error);
    let wanted = args.agents as usize;
    let at = listener.local_addr().map_err(failed)?;
    eprintln!("waiting for {wanted} agents at {at}");
    listener.set_nonblocking(true).map_err(failed)?;
    let begin = Instant::now();
    let mut agents: Vec<Agent> = Vec::new();
    while agents.len() < wanted {
        match listener.accept() {
            Ok((stream, from)) => match greet(stream, from) {
                Ok(agent) => {
                    let of = format!("{} of {wanted}", agents.len() + 1);
                    let (host, offset) = (&agent.hello.host, agent.offset);
                    eprintln!(
                        "agent {of}: {host} at {from}, clock {:+.1} µs, known to {:.1} µs",
                        offset.ns as f64 / 1e3,
                        offset.uncertainty_ns as f64 / 1e3
                    );
                    agents.push(agent);
                }
                // Somebody else's connection is no reason to give up.
                Err(error) => eprintln!("{from} is no agent of this run: {error}"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(LOOK_EACH),
            Err(error) => return Err(failed(error)),
        }
        if begin.elapsed() > args.agent_wait && agents.len() < wanted {
            let came = agents.len();
            let why = format!("only {came} of {wanted} agents came in {:?}", args.agent_wait);
            for agent in &mut agents {
                // It may be gone, too.
                let _ = send(&mut agent.stream, &ToAgent::Refused { why: why.clone() }, &[]);
            }
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
    }
    Ok(agents)
}

/// Hears who came, and measures its clock.
fn greet(mut stream: TcpStream, from: SocketAddr) -> io::Result<Agent> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    let FromAgent::Hello(hello) = hear(&mut stream)? else {
        return Err(io::Error::other("it does not say who it is"));
    };
    let version = env!("CARGO_PKG_VERSION");
    if hello.protocol != PROTOCOL || hello.version != version {
        let why = format!(
            "the agent is of version {} (protocol {}), the coordinator of {version} ({PROTOCOL})",
            hello.version, hello.protocol
        );
        // The error is told here, too.
        let _ = send(&mut stream, &ToAgent::Refused { why: why.clone() }, &[]);
        return Err(io::Error::other(why));
    }
    if hello.cores.is_empty() {
        return Err(io::Error::other("it has no load core"));
    }
    let mut exchanges = Vec::with_capacity(EXCHANGES);
    for _ in 0..EXCHANGES {
        let sent = mono_ns();
        send(&mut stream, &ToAgent::Ping, &[])?;
        let FromAgent::Pong { mono_ns: agent } = hear(&mut stream)? else {
            return Err(io::Error::other("it does not tell its time"));
        };
        exchanges.push((sent, agent, mono_ns()));
    }
    let ours = boot_id();
    let offset = Offset::of(&exchanges, !ours.is_empty() && hello.boot_id == ours);
    let offset = offset.ok_or_else(|| io::Error::other("it does not tell its time"))?;
    Ok(Agent { stream, from, hello, offset })
}

fn hear(stream: &mut TcpStream) -> io::Result<FromAgent> {
    receive(stream).map(|(message, _)| message).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "it says nothing")
        }
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it hung up"),
        _ => error,
    })
}

/// An error of one agent, with its name.
fn of_agent(number: usize, agent: &Agent, error: impl std::fmt::Display) -> RunError {
    let text = format!("agent {number} ({}, {}): {error}", agent.hello.host, agent.from);
    RunError::Io("the run is lost", io::Error::other(text))
}

type Merged = (Collected, Window, CoreEnd);

/// The run itself.
fn merged(
    spec: &RunSpec,
    prepared: &Prepared,
    agents: &mut [Agent],
    flags: &[String],
) -> Result<Merged, RunError> {
    let core_count = hand_out(spec, agents, flags)?;
    await_ready(agents)?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let base_wall_ms = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
    let base_mono_ns = mono_ns();
    let base = instant_of(base_mono_ns).map_err(|error| RunError::Io("the clock", error))?;
    let clock = RunClock::at(base, base_wall_ms);
    let start_ns = cores::start_ns(spec, prepared, clock) + START_WAIT.as_nanos() as u64;
    let window = cores::window(spec, start_ns);
    let hlog = spec.hlog.as_deref().map(HistogramLog::create).transpose();
    let hlog = hlog.map_err(|error| RunError::Io("the histogram log", error))?;
    for (index, agent) in agents.iter_mut().enumerate() {
        let base_mono_ns = base_mono_ns + agent.offset.ns;
        let start = ToAgent::Start { base_mono_ns, base_wall_ms, start_ns };
        send(&mut agent.stream, &start, &[]).map_err(|error| of_agent(index + 1, agent, error))?;
    }
    let live = LiveLine::new(!spec.quiet, spec.workload.warmup + spec.workload.duration);
    let collector = Collector::new(window, clock, core_count, spec.broker_pid, live, hlog);
    let (out, intervals) = mpsc::channel();
    let streams: io::Result<Vec<TcpStream>> =
        agents.iter().map(|agent| agent.stream.try_clone()).collect();
    let heard = streams.and_then(|streams| listen(streams, core_count, SILENCE_MAX, out));
    let heard = heard.map_err(|error| RunError::Io("hearing the agents", error))?;
    let collected = collector.collect(&intervals);
    if collected.is_none() {
        // The readers hear of it when their connections end.
        agents.iter().for_each(|agent| _ = agent.stream.shutdown(Shutdown::Both));
    }
    let end = match heard.end() {
        Heard::All(end) => end,
        Heard::Lost(Lost { index, why }) => return Err(of_agent(index + 1, &agents[index], why)),
    };
    let collected = collected.ok_or_else(|| {
        RunError::Io("the run is lost", io::Error::other("an agent's load core is stuck"))
    })?;
    Ok((collected, window, end))
}

/// Gives each agent its share; how many load cores there are.
fn hand_out(spec: &RunSpec, agents: &mut [Agent], flags: &[String]) -> Result<usize, RunError> {
    let core_count = agents.iter().map(|agent| agent.hello.cores.len()).sum();
    let from_beginning = match &spec.topic {
        // Nobody has written to it yet.
        TopicChoice::Fresh(_) => true,
        TopicChoice::Existing { from_beginning, .. } => *from_beginning,
    };
    let mut first_core = 0;
    for (index, agent) in agents.iter_mut().enumerate() {
        let share = ToAgent::Prepare(Share {
            number: index + 1,
            flags: flags.to_vec(),
            topic: spec.topic.name().to_owned(),
            from_beginning,
            first_core,
            core_count,
        });
        first_core += agent.hello.cores.len();
        send(&mut agent.stream, &share, &[]).map_err(|error| of_agent(index + 1, agent, error))?;
    }
    Ok(core_count)
}

/// Waits until every agent is connected to the brokers, and sees the same ones.
fn await_ready(agents: &mut [Agent]) -> Result<(), RunError> {
    let mut first: Option<String> = None;
    for (index, agent) in agents.iter_mut().enumerate() {
        let number = index + 1;
        let waits = agent.stream.set_read_timeout(Some(READY_WAIT));
        let answer = waits.and_then(|()| hear(&mut agent.stream));
        let leaders = match answer {
            Ok(FromAgent::Ready { leaders }) => leaders,
            Ok(FromAgent::Failed { why }) => return Err(of_agent(number, agent, why)),
            Ok(_) => return Err(of_agent(number, agent, "it does not say that it is ready")),
            Err(error) => return Err(of_agent(number, agent, error)),
        };
        if first.get_or_insert_with(|| leaders.clone()) != &leaders {
            let text = "it sees other leaders or other addresses of them than agent 1: the \
                        brokers' names must mean the same on all hosts";
            return Err(of_agent(number, agent, text));
        }
    }
    Ok(())
}

/// Adds to the report who took part, and what their clocks make doubtful.
fn name_agents(report: &mut Report, agents: &[Agent]) {
    report.agents = agents
        .iter()
        .map(|agent| AgentFigures {
            host: agent.hello.host.clone(),
            address: agent.from.to_string(),
            cores: agent.hello.cores.clone(),
            clock_offset_us: agent.offset.ns as f64 / 1e3,
            clock_uncertainty_us: agent.offset.uncertainty_ns as f64 / 1e3,
        })
        .collect();
    let uncertainty = agents.iter().map(|agent| agent.offset.uncertainty_ns).max().unwrap_or(0);
    if uncertainty == 0 {
        return;
    }
    // CPU ids of other hosts say nothing about the broker's.
    report.warnings.retain(|warning| warning.kind != "shared-cpu");
    report.warnings.push(Warning {
        kind: "agent-clocks",
        text: format!(
            "the agents have different clocks, known to {:.0} µs: end-to-end latency between \
             them is that much less certain (publish, service and delay are of one clock each)",
            2.0 * uncertainty as f64 / 1e3
        ),
    });
}
