//! Where things are, and how commands are run: printed first, in the checkout's root.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why `cargo dev` ends with an error.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure(message.into())
    }
}

/// Adds what was being done to an error.
pub trait During<T> {
    fn during(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

/// The checkout and the folder for what is downloaded or built beside it.
pub struct House {
    root: PathBuf,
    cache: PathBuf,
}

impl House {
    pub fn open() -> Result<House, Failure> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.ancestors().nth(2).ok_or_else(|| Failure::new("no checkout"))?;
        let cache = match std::env::var_os("THALWEG_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => root.join(".cache"),
        };
        std::fs::create_dir_all(&cache).during("creating the cache folder")?;
        Ok(House { root: root.to_owned(), cache })
    }

    /// A path in the checkout.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path in the cache.
    pub fn cache(&self, path: &str) -> PathBuf {
        self.cache.join(path)
    }

    /// Where cargo puts what it builds.
    pub fn target(&self, path: &str) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => self.root.join(target).join(path),
            None => self.root.join("target").join(path),
        }
    }

    /// A command that runs in the checkout and finds the cache's own tools first.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let mut paths = vec![self.cache("tools/bin"), self.cache("python/bin")];
        if let Some(path) = std::env::var_os("PATH") {
            paths.extend(std::env::split_paths(&path));
        }
        if let Ok(path) = std::env::join_paths(paths) {
            command.env("PATH", path);
        }
        // The broker takes every THALWEG_ variable for a setting.
        command.env_remove("THALWEG_CACHE").current_dir(&self.root);
        command
    }

    /// `cargo` with these words.
    pub fn cargo(&self, words: &[&str]) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(words);
        command
    }

    /// Whether the command can be run and ends well; nothing is printed.
    pub fn probe(&self, words: &[&str]) -> bool {
        let mut command = self.command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

/// Prints a heading.
pub fn step(what: &str) {
    println!("\n== {what}");
}

/// Prints the command, runs it, and fails if it does.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    let line = words.join(" ");
    println!("$ {line}");
    let start = Instant::now();
    let status = command.status().during(&line)?;
    println!("  ({:.1} s)", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(Failure(format!("`{line}` failed: {status}"))) }
}

fn quoted(word: &std::ffi::OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if word.chars().all(plain) && !word.is_empty() {
        word.into_owned()
    } else {
        format!("'{word}'")
    }
}
