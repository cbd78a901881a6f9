//! Thalweg as a child process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::house::{During, Failure, House, run, step};

/// How it is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

/// Builds the workspace's programs and returns the folder they are in.
pub fn build(house: &House, profile: Profile) -> Result<PathBuf, Failure> {
    step("building the broker and the tools");
    let mut build = house.cargo(&["build", "--quiet", "--workspace", "--bins"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    run(&mut build)?;
    Ok(house.target(if profile == Profile::Release { "release" } else { "debug" }))
}

/// A running broker; killed, and its data deleted, when it goes out of scope.
pub struct Thalweg {
    child: Child,
    data: PathBuf,
    address: String,
}

impl Thalweg {
    /// Starts one on a free port with an empty data directory.
    pub fn start(house: &House, programs: &Path) -> Result<Thalweg, Failure> {
        Thalweg::start_with(house, programs, &[])
    }

    /// The same with settings (`key=value`).
    pub fn start_with(
        house: &House,
        programs: &Path,
        settings: &[&str],
    ) -> Result<Thalweg, Failure> {
        let port = free_port()?;
        step(&format!("Thalweg on port {port}"));
        let data = house.cache(&format!("thalweg-run/{port}"));
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data).during("creating the data directory")?;
        let address = format!("127.0.0.1:{port}");
        let mut child = house
            .command(programs.join("thalweg"))
            .args(["start", "--listen", &address, "--data-dir"])
            .arg(&data)
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .during("starting Thalweg")?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("no standard output"))?;
        let broker = Thalweg { child, data, address };
        // One line says that it is ready.
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).during("waiting for Thalweg")?;
        if line.is_empty() {
            return Err(Failure::new("Thalweg ended before it was ready"));
        }
        print!("{line}");
        Ok(broker)
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Thalweg {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// A port that was free a moment ago. Not an ephemeral one: a client that looks there for a broker
/// which is not up yet may get it as its own port, and then talks to itself.
pub fn free_port() -> Result<u16, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).during("reading the clock")?;
    let start = now.subsec_nanos() % 20_000;
    (0..20_000)
        .map(|step| 10_000 + ((start + step) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| Failure::new("no free port in 10000-30000"))
}
