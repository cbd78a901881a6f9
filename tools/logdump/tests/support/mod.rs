//! The broker's own test client, and a broker in a process of its own that can be killed: the test
//! program started again as one, since another crate's program has no name here.
#![allow(dead_code, reason = "each test uses its own part")]

#[path = "../../../../tests/support/batch.rs"]
pub mod batch;
#[path = "../../../../tests/support/client.rs"]
pub mod client;
#[path = "../../../../tests/support/wire.rs"]
pub mod wire;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use thalweg::config::cli::StartFlags;
use thalweg::config::settings::Settings;

/// Tells the test program to be a broker, on which directory.
pub const BROKER_DIR: &str = "THALWEG_TEST_BROKER_DIR";
const READY: &str = "broker ready on ";

/// Serves until it is killed.
pub fn serve(dir: &str) {
    let flags = StartFlags {
        data_dirs: vec![dir.to_owned()],
        listen: Some("127.0.0.1:0".to_owned()),
        cores: Some("0".to_owned()),
        set: vec!["journal.file.bytes=8MiB".to_owned()],
        ..StartFlags::default()
    };
    let settings = Settings::load(&flags, std::iter::empty()).expect("settings");
    let served = thalweg::server::broker::run(settings, |address| println!("\n{READY}{address}"));
    served.expect("the broker serves");
}

/// A broker that is killed when dropped.
pub struct Broker {
    child: Child,
    /// Read by nobody, but the child may still print.
    _out: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Broker {
    /// Starts this program's ignored test `name`, which calls [`serve`].
    pub fn start(dir: &Path, name: &str) -> Broker {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .args([name, "--exact", "--ignored", "--nocapture"])
            .env(BROKER_DIR, dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let address = loop {
            let mut line = String::new();
            let count = out.read_line(&mut line).expect("its output can be read");
            assert!(count > 0, "the broker did not start");
            if let Some(address) = line.trim().strip_prefix(READY) {
                break address.parse().expect("an address");
            }
        };
        Broker { child, _out: out, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power switch ends a process.
    pub fn kill(self) {}
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the tool; its exit code, standard output and standard error.
pub fn dump(dir: &Path, flags: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg-logdump"));
    let Output { status, stdout, stderr } =
        command.arg(dir).args(flags).output().expect("the tool runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}
