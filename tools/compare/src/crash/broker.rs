//! The broker under test: started, killed by its own process id, started again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A start that takes longer is a failure.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// An orderly stop that takes longer is one too.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How to start it.
pub struct Recipe {
    pub program: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub address: String,
}

/// A running broker. Killed when it goes out of scope.
pub struct Broker {
    child: Child,
    ready: mpsc::Receiver<String>,
    started: Instant,
}

impl Recipe {
    /// Starts it on these cores and returns at once.
    pub fn spawn(&self, cores: &str) -> Result<Broker, String> {
        self.spawn_with(cores, &[])
    }

    /// The same with settings (`key=value`).
    pub fn spawn_with(&self, cores: &str, settings: &[&str]) -> Result<Broker, String> {
        let log = |error| format!("opening the log: {error}");
        let stderr: File =
            OpenOptions::new().create(true).append(true).open(&self.log).map_err(log)?;
        let started = Instant::now();
        let mut child = Command::new(&self.program)
            .args(["start", "--listen", &self.address, "--cores", cores, "--data-dir"])
            .arg(&self.data)
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("starting {}: {error}", self.program.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, ready) = mpsc::channel();
        // Reads on after the line that says it is ready, so that the broker never writes into a
        // full pipe; ends with the broker.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Broker { child, ready, started })
    }
}

impl Broker {
    /// Waits for the line that says that it is ready; how long the start took.
    pub fn wait_until_ready(&mut self) -> Result<Duration, String> {
        match self.ready.recv_timeout(START_TIMEOUT) {
            Ok(_) => Ok(self.started.elapsed()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(format!("not ready after {START_TIMEOUT:?}"))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => match self.child.wait() {
                Ok(status) => Err(format!("ended before it was ready: {status}")),
                Err(error) => Err(format!("ended before it was ready: {error}")),
            },
        }
    }

    /// Whether it still runs.
    pub fn is_up(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("ended by itself: {status}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| format!("killing: {error}"))?;
        self.child.wait().map(|_| ()).map_err(|error| format!("waiting: {error}"))
    }

    /// SIGTERM; it must end with exit code 0.
    pub fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        if !sent.is_ok_and(|status| status.success()) {
            return Err("could not send SIGTERM".to_owned());
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("SIGTERM ended with {status}")),
                Ok(None) if Instant::now() > deadline => {
                    return Err(format!("still up {STOP_TIMEOUT:?} after SIGTERM"));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
