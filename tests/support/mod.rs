//! What tests of the whole broker share: a broker process on a directory of its own, and a
//! connection on which any bytes can be sent.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod batch;
pub mod client;
pub mod wire;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a broker to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running broker. Killed when dropped.
pub struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    /// Starts a broker on `dir` with further flags, and waits until it is ready.
    pub fn start(dir: &Path, flags: &[&str]) -> Broker {
        Broker::start_on(dir, "127.0.0.1:0", flags)
    }

    /// As [`Broker::start`], on a given address.
    pub fn start_on(dir: &Path, listen: &str, flags: &[&str]) -> Broker {
        let mut child = command(dir, listen, flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the broker's binary runs");
        let out = child.stdout.take().expect("its output is piped");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("its output can be read");
        let address = line
            .trim()
            .strip_prefix("thalweg ready on ")
            .unwrap_or_else(|| panic!("the broker did not start: {line:?}"))
            .parse()
            .expect("the ready line names an address");
        Broker { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the broker is alive");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is there");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok())
            .expect("VmRSS is a number");
        kib * 1024
    }

    /// Whether the process lives.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("its state can be asked").is_none()
    }

    /// Ends it as a power switch ends a process.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(status.success());
        wait(&mut self.child)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `thalweg start` on `dir`, not yet run; its log goes to a file beside the directory.
pub fn command(dir: &Path, listen: &str, flags: &[&str]) -> Command {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_of(dir))
        .expect("a log file can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    command.arg("start").arg("--data-dir").arg(dir).args(["--listen", listen]).args(flags);
    command.stderr(log).stdin(Stdio::null());
    command
}

/// Where the log of a broker on `dir` goes.
pub fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("stderr")
}

/// Runs a start that is expected to fail; returns its exit code and its log.
pub fn failed_start(dir: &Path, listen: &str, flags: &[&str]) -> (i32, String) {
    let mut child = command(dir, listen, flags).stdout(Stdio::null()).spawn().expect("it runs");
    let status = wait(&mut child);
    let mut log = String::new();
    std::fs::File::open(log_of(dir))
        .and_then(|mut file| file.read_to_string(&mut log))
        .expect("its log can be read");
    (status.code().unwrap_or(-1), log)
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("its state can be asked") {
            return status;
        }
        assert!(Instant::now() < deadline, "the broker does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until something holds that the broker does in the background.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
