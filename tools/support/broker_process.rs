//! The broker under test as a child process: started, waited for, killed or stopped by its own id.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A start that takes longer is a failure.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// An orderly stop that takes longer is one too.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running broker. Killed when it goes out of scope.
pub struct BrokerProcess {
    child: Child,
    lines: mpsc::Receiver<String>,
    started: Instant,
}

impl BrokerProcess {
    /// Starts `command` and returns at once; what it says of itself is added to the file `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<BrokerProcess, String> {
        let stderr: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| format!("opening the broker's log: {error}"))?;
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("starting {command:?}: {error}"))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = mpsc::channel();
        // Reads on after the line that says it is ready, so that the broker never writes into a
        // full pipe; ends with the broker.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(BrokerProcess { child, lines, started })
    }

    /// Waits for the line that says that it is ready; the line, and how long the start took.
    pub fn wait_until_ready(&mut self, patience: Duration) -> Result<(String, Duration), String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok((line, self.started.elapsed())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(format!("the start took longer than {patience:?}"))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => match self.child.wait() {
                Ok(status) => Err(format!("the start failed with {status}")),
                Err(error) => Err(format!("the start failed: {error}")),
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

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
