//! Commands of the system: run, and their output told where they fail.

use std::ffi::OsStr;
use std::fmt::Display;
use std::process::Command;

/// Runs a command to its end; its standard output, trimmed.
pub fn run<S: AsRef<OsStr>>(program: &str, words: &[S]) -> Result<String, String> {
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{program} {}` failed: {}: {}", words.join(" "), output.status, said.trim()))
}

/// Adds what was being done to an error.
pub fn during<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}
