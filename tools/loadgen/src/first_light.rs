//! A first look: starts a Thalweg beside this program, runs data through it, shows the figures,
//! stops it with SIGTERM and insists on a clean end.
//!
//! Not here: comparisons (`compare_brokers`). Lives on the process's first thread.
//! Callers: `main`; `compare_brokers` starts its Thalweg the same way.

use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::args::{FirstLightArgs, Idle, Workload};
use crate::client::security::SecurityArgs;
use crate::load::schedule::Arrivals;
use crate::report::{Report, table};
use crate::run::{self, Outcome, RunError, RunSpec};
use crate::units::Rate;

/// Longest wait for the broker's ready line, and for its end after SIGTERM.
const READY_WAIT: Duration = Duration::from_secs(30);
const STOP_WAIT: Duration = Duration::from_secs(60);

/// `thalweg-bench first-light`. `Ok(false)` if requests failed.
pub fn command(args: &FirstLightArgs) -> Result<Outcome, RunError> {
    let binary = broker_binary(args.thalweg.as_deref())?;
    let cpus = run::allowed_cpus();
    let broker_cpu = cpus[0];
    let load_cpus = run::default_cores();
    let idle = if cpus.len() > 1 { Idle::Spin } else { Idle::Park };
    if cpus.len() == 1 {
        eprintln!("note: one CPU only: broker and generator share it, so the figures are low");
    }
    let scratch = match &args.data_dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("thalweg-first-light-")
                .tempdir_in(".")
                .map_err(|error| RunError::Io("making a data directory here", error))?,
        ),
    };
    let data_dir = args.data_dir.clone().or_else(|| Some(scratch.as_ref()?.path().to_owned()));
    let data_dir = data_dir.unwrap_or_else(|| PathBuf::from("thalweg-data"));
    let (mut broker, addr) = Broker::start(&binary, &data_dir, broker_cpu)?;
    eprintln!("broker: {} (pid {}, cpu {broker_cpu}, {})", addr, broker.pid(), data_dir.display());
    eprintln!("load:   this process, cpu {load_cpus:?}");

    let mut reports: Vec<Report> = Vec::new();
    let mut failure = None;
    for (label, workload) in parts(args.warmup, args.duration) {
        eprintln!("\n{label}");
        let spec = RunSpec {
            bootstrap: addr.clone(),
            security: SecurityArgs::default(),
            cores: load_cpus.clone(),
            topic: run::fresh_topic(&workload, Vec::new(), -1),
            workload,
            keep_topic: false,
            broker_pid: Some(broker.pid()),
            idle,
            label: label.to_owned(),
            quiet: false,
            hlog: None,
        };
        match run::execute(&spec) {
            Ok(report) => {
                print!("{}", table::render(&report));
                reports.push(report);
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // Whatever happened, the broker is stopped; the first failure is the one to tell.
    let stopped = broker.stop();
    if let Some(error) = failure {
        if let Err(stopped) = stopped {
            eprintln!("thalweg-bench: {stopped}");
        }
        return Err(error);
    }
    let took = stopped?;
    println!("\nbroker stopped cleanly in {:.2} s (SIGTERM, exit code 0)", took.as_secs_f64());
    if let Some(path) = &args.json {
        run::write_json(path, &reports)?;
    }
    let failed = reports.iter().any(Report::failed);
    Ok(if failed { Outcome::Failed } else { Outcome::Fine })
}

/// The two parts of the look: what it can carry, and how fast it answers at a load that it holds.
fn parts(warmup: Duration, duration: Duration) -> [(&'static str, Workload); 2] {
    let base = Workload {
        producers: 4,
        consumers: 2,
        partitions: 8,
        warmup,
        duration,
        ..Workload::default()
    };
    let steady = Workload {
        rate: Rate::RecordsPerSecond(2_000.0),
        batch_records: 1,
        arrivals: Arrivals::Poisson,
        ..base.clone()
    };
    [
        ("as much as it takes: batches of 100 x 1 KiB, synced to disk before the answer", base),
        ("how fast it answers: 2,000 single records a second, synced to disk each", steady),
    ]
}

/// The broker's binary: `given`, or `thalweg` beside this program.
///
/// # Errors
/// When there is none.
pub fn broker_binary(given: Option<&Path>) -> Result<PathBuf, RunError> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .map_err(|error| RunError::Io("finding this program", error))?
            .with_file_name("thalweg"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(RunError::Flags(format!(
        "no broker at {}: build it first (`cargo build --release --workspace`) or name it with \
         --thalweg",
        path.display()
    )))
}

/// A broker of our own. Killed if this program fails before it is stopped.
struct Broker {
    child: Option<Child>,
    pid: u32,
}

impl Broker {
    /// Starts the broker and waits for its ready line; returns the address to use.
    fn start(binary: &Path, data_dir: &Path, cpu: usize) -> Result<(Broker, String), RunError> {
        let addr = free_addr().map_err(|error| RunError::Io("finding a free port", error))?;
        let started = Instant::now();
        let mut child = Command::new(binary)
            .arg("start")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", &addr, "--cores", &cpu.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| RunError::Io("starting the broker", error))?;
        let pid = child.id();
        let stdout = child.stdout.take();
        let broker = Broker { child: Some(child), pid };
        let line = ready_line(stdout).map_err(|error| RunError::Io("the broker", error))?;
        eprintln!("{} ({} ms after its start)", line.trim(), started.elapsed().as_millis());
        Ok((broker, addr))
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks the broker to end; how long that took. Anything but exit code 0 is a failure.
    fn stop(&mut self) -> Result<Duration, RunError> {
        let Some(mut child) = self.child.take() else { return Ok(Duration::ZERO) };
        let asked = Instant::now();
        let failed = |error| RunError::Io("stopping the broker", error);
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(io::Error::other("it has no process id")))?;
        kill_process(pid, Signal::TERM).map_err(|error| failed(error.into()))?;
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                let took = asked.elapsed();
                let text = format!("it ended with {status} after SIGTERM, not with exit code 0");
                return if status.success() {
                    Ok(took)
                } else {
                    Err(failed(io::Error::other(text)))
                };
            }
            if asked.elapsed() > STOP_WAIT {
                self.child = Some(child); // killed when dropped
                return Err(failed(io::Error::from(io::ErrorKind::TimedOut)));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Best effort: it may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A loopback address whose port was free a moment ago.
fn free_addr() -> io::Result<String> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string())
}

/// The first line of a broker's standard output; what follows is read and dropped, so that the
/// broker never blocks on a full pipe.
///
/// # Errors
/// When it ends before, or does not say anything in time.
pub fn ready_line(stdout: Option<ChildStdout>) -> io::Result<String> {
    let stdout = stdout.ok_or_else(|| io::Error::other("it has no standard output"))?;
    let (out, lines) = mpsc::channel();
    thread::Builder::new().name("broker-stdout".to_owned()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Only the first is waited for.
            let _ = out.send(line);
        }
    })?;
    lines.recv_timeout(READY_WAIT).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => {
            io::Error::new(io::ErrorKind::TimedOut, "it did not say that it is ready")
        }
        mpsc::RecvTimeoutError::Disconnected => {
            io::Error::other("it ended before it was ready; its log is above")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, body: &str) -> PathBuf {
        let path = dir.join("fake-broker");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn a_broker_that_ends_cleanly_on_sigterm_is_told_from_one_that_does_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (code, clean) in [(0, true), (3, false)] {
            let body = format!("trap 'exit {code}' TERM; echo ready; while :; do sleep 0.05; done");
            let binary = script(dir.path(), &body);
            let (mut broker, _) = Broker::start(&binary, dir.path(), 0).expect("starts");
            assert_eq!(broker.stop().is_ok(), clean);
        }
    }

    #[test]
    fn a_broker_that_never_becomes_ready_is_an_error_not_a_hang() {
        let dir = tempfile::tempdir().expect("tempdir");
        let binary = script(dir.path(), "exit 1");
        assert!(Broker::start(&binary, dir.path(), 0).is_err());
    }
}
