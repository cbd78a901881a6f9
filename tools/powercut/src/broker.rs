//! The broker under test, on a mounted file system.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::shell::{self, during};

/// How long a start may take.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// An orderly stop that takes longer is one too.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Small journal files that are used again soon.
const SETTINGS: [&str; 4] = [
    "journal.file.bytes=4MiB",
    "journal.file.count=3",
    "log.segment.delete.delay.ms=100",
    "log.level=warn",
];

/// Retention and compaction look all the time.
const BUSY: [&str; 2] = ["log.retention.check.interval.ms=50", "log.cleaner.backoff.ms=100"];

/// Neither changes anything that is just being looked at.
const QUIET: [&str; 2] = ["log.retention.check.interval.ms=600000", "log.cleaner.enable=false"];

/// How to start it.
#[derive(Clone)]
pub struct Recipe {
    pub program: PathBuf,
    pub log: PathBuf,
    /// A start that takes longer has failed.
    pub patience: Duration,
    /// Whether old records go while it runs.
    pub is_busy: bool,
}

/// A running broker. Killed when it goes out of scope, and with this program.
pub struct Broker {
    child: Child,
    address: SocketAddr,
}

/// The broker's directory in a file system that is mounted at `mount`.
pub fn data_dir(mount: &Path) -> PathBuf {
    mount.join("thalweg")
}

impl Recipe {
    /// Starts it and waits until it is ready.
    pub fn start(&self, data: &Path, cores: &str) -> Result<Broker, String> {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(during("opening the broker's log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
        command.args(["start", "--listen", "127.0.0.1:0", "--cores", cores, "--data-dir"]);
        command.arg(data_dir(data));
        let background = if self.is_busy { BUSY } else { QUIET };
        for setting in SETTINGS.into_iter().chain(background) {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("starting {}: {error}", self.program.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut broker = Broker { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let line = match lines.recv_timeout(self.patience) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(format!("the start took longer than {:?}", self.patience));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = broker.child.wait().map_err(during("waiting"))?;
                return Err(format!("the start failed with {status}: {}", last_line(&self.log)));
            }
        };
        let address = line.strip_prefix("thalweg ready on ").and_then(|text| text.parse().ok());
        broker.address = address.ok_or_else(|| format!("the broker says {line:?}"))?;
        Ok(broker)
    }
}

/// What the broker said last.
fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

impl Broker {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(during("killing"))?;
        self.child.wait().map(|_| ()).map_err(during("waiting"))
    }

    /// SIGTERM; it must end with exit code 0.
    pub fn stop(mut self) -> Result<(), String> {
        shell::run("kill", &["-TERM", &self.child.id().to_string()])?;
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
