//! How the broker under test is started.

use std::path::PathBuf;
use std::process::Command;

use crate::tools::broker_process::BrokerProcess;

/// How to start it.
pub struct Recipe {
    pub program: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub address: String,
}

impl Recipe {
    /// Starts it on these cores and returns at once.
    pub fn spawn(&self, cores: &str) -> Result<BrokerProcess, String> {
        self.spawn_with(cores, &[])
    }

    /// The same with settings (`key=value`).
    pub fn spawn_with(&self, cores: &str, settings: &[&str]) -> Result<BrokerProcess, String> {
        let mut command = Command::new(&self.program);
        command
            .args(["start", "--listen", &self.address, "--cores", cores, "--data-dir"])
            .arg(&self.data)
            .args(settings.iter().flat_map(|setting| ["--set", setting]));
        BrokerProcess::spawn(&mut command, &self.log)
    }
}
