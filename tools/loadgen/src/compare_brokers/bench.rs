//! One run against one broker: what `thalweg-bench run` does, with a pause and a sync before it.

use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::args::{Cli, Command, Idle};
use crate::report::Report;
use crate::run::{self, RunError};

/// A broker in one of its roles.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name in the tables.
    pub name: String,
    /// HOST:PORT.
    pub address: String,
    /// Its process.
    pub pid: Option<u32>,
    /// Configuration of every topic in this role.
    pub topic_configs: Vec<(String, String)>,
}

/// Which topic a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic<'a> {
    /// One of its own, deleted afterwards.
    Fresh,
    /// One of its own that stays.
    Kept,
    /// This one.
    Existing(&'a str),
}

/// What all runs have in common.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// CPU of the load generator.
    pub load_core: usize,
    /// What it does when idle.
    pub idle: Idle,
    /// Pause before each run.
    pub settle: Duration,
}

impl Bench {
    /// Runs `flags` against `contender`.
    ///
    /// # Errors
    /// When the run cannot take place.
    pub fn run(
        &self,
        contender: &Contender,
        flags: &str,
        (warmup, duration): (Duration, Duration),
        topic: Topic<'_>,
    ) -> Result<Report, RunError> {
        // What another broker left dirty in the page cache, and the files of its deleted topics,
        // are not to keep the disk busy during this run.
        thread::sleep(self.settle);
        rustix::fs::sync();
        self.run_at_once(contender, flags, (warmup, duration), topic)
    }

    /// The same without the pause.
    ///
    /// # Errors
    /// When the run cannot take place.
    pub fn run_at_once(
        &self,
        contender: &Contender,
        flags: &str,
        (warmup, duration): (Duration, Duration),
        topic: Topic<'_>,
    ) -> Result<Report, RunError> {
        let words = self.words(contender, flags, (warmup, duration), topic);
        let cli = Cli::try_parse_from(words);
        match cli.map(|cli| cli.command) {
            Ok(Command::Run(args)) => {
                let workload = args.workload.only().map_err(RunError::Flags)?;
                run::execute(&run::spec_of(&args, workload))
            }
            Ok(_) => Err(RunError::Flags(format!("`{flags}` is no run"))),
            Err(error) => Err(RunError::Flags(error.to_string())),
        }
    }

    /// The command line of the run.
    fn words(
        &self,
        contender: &Contender,
        flags: &str,
        (warmup, duration): (Duration, Duration),
        topic: Topic<'_>,
    ) -> Vec<String> {
        let idle =
            self.idle.to_possible_value().map_or_else(String::new, |it| it.get_name().into());
        let mut words: Vec<String> =
            ["thalweg-bench", "run", "--quiet"].map(str::to_owned).to_vec();
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--bootstrap", contender.address.clone());
        add("--cores", self.load_core.to_string());
        add("--idle", idle);
        add("--label", contender.name.clone());
        add("--warmup", format!("{}us", warmup.as_micros()));
        add("--duration", format!("{}us", duration.as_micros()));
        if let Some(pid) = contender.pid {
            add("--broker-pid", pid.to_string());
        }
        match topic {
            Topic::Existing(name) => add("--topic", name.to_owned()),
            Topic::Fresh | Topic::Kept => {
                for (key, value) in &contender.topic_configs {
                    add("--topic-config", format!("{key}={value}"));
                }
            }
        }
        if topic == Topic::Kept {
            words.push("--keep-topic".to_owned());
        }
        words.extend(flags.split_whitespace().map(str::to_owned));
        words
    }
}
