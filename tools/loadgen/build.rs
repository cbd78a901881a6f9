//! Which commit this is, for reports: a figure without it cannot be measured again.

use std::process::Command;

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok().filter(|it| it.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    // Outside of a clone (a source archive) there is no commit to tell.
    let commit = git(&["describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]);
    println!("cargo::rustc-env=THALWEG_BENCH_COMMIT={}", commit.unwrap_or_default());
    // Every commit is a line there; whether something is changed beside it shows in the sources.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../src");
}
