//! The broker under test, on a mounted file system.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tools::broker_process::BrokerProcess;

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
    process: BrokerProcess,
    address: SocketAddr,
}

/// The broker's directory in a file system that is mounted at `mount`.
pub fn data_dir(mount: &Path) -> PathBuf {
    mount.join("thalweg")
}

impl Recipe {
    /// Starts it and waits until it is ready.
    pub fn start(&self, data: &Path, cores: &str) -> Result<Broker, String> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
        command.args(["start", "--listen", "127.0.0.1:0", "--cores", cores, "--data-dir"]);
        command.arg(data_dir(data));
        let background = if self.is_busy { BUSY } else { QUIET };
        for setting in SETTINGS.into_iter().chain(background) {
            command.args(["--set", setting]);
        }
        let mut process = BrokerProcess::spawn(&mut command, &self.log)?;
        let ready = process.wait_until_ready(self.patience);
        let (line, _) = ready.map_err(|error| format!("{error}: {}", last_line(&self.log)))?;
        let address = line.strip_prefix("thalweg ready on ").and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| format!("the broker says {line:?}"))?;
        Ok(Broker { process, address })
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
    pub fn kill(self) -> Result<(), String> {
        self.process.kill()
    }

    /// SIGTERM; it must end with exit code 0.
    pub fn stop(self) -> Result<(), String> {
        self.process.stop()
    }
}
