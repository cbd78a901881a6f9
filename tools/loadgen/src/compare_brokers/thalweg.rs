//! Thalweg as a process of ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::process::{Keeper, Process};
use crate::first_light;
use crate::run::RunError;

const READY: &str = "thalweg ready on ";

/// A Thalweg that can be started.
#[derive(Clone, Debug)]
pub struct Thalweg {
    binary: PathBuf,
    version: String,
}

impl Thalweg {
    /// The binary `given`, or the one beside this program.
    ///
    /// # Errors
    /// When there is none, or it does not run.
    pub fn find(given: Option<&Path>) -> Result<Thalweg, RunError> {
        let binary = first_light::broker_binary(given)?;
        let failed = |error| RunError::Io("asking Thalweg for its version", error);
        let output = Command::new(&binary).arg("--version").output().map_err(failed)?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || version.is_empty() {
            let text = format!("{} --version ended with {}", binary.display(), output.status);
            return Err(failed(io::Error::other(text)));
        }
        Ok(Thalweg { binary, version })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Starts it on the data in `home`, all of it on `cpu`; its address once it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(
        &self,
        keeper: &Arc<Keeper>,
        home: &Path,
        cpu: usize,
    ) -> Result<(Process, String), RunError> {
        let failed = |error| RunError::Io("starting Thalweg", error);
        fs::create_dir_all(home).map_err(failed)?;
        let mut command = Command::new(&self.binary);
        command.arg("start").arg("--data-dir").arg(home.join("data"));
        command.args(["--listen", "127.0.0.1:0", "--cores", &cpu.to_string()]);
        // Its log, a few lines, stays in sight: it says why if it does not start.
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::spawn(keeper, "Thalweg", &mut command, Some(cpu))?;
        let line = first_light::ready_line(process.stdout()).map_err(failed)?;
        let address = line.trim().strip_prefix(READY).ok_or_else(|| {
            failed(io::Error::other(format!("it says `{}`, not that it is ready", line.trim())))
        })?;
        Ok((process, address.to_owned()))
    }
}
