//! Drives librdkafka against a broker, compares two brokers request by request, kills a broker
//! under load to see what it loses, measures what its work in the background costs, and sets the load
//! generator beside other producers. The referee is Apache Kafka: every script here passes against it
//! first. What is *not* here: anything of the broker's own code, so that no mistake is shared.

mod background;
mod batch;
mod crash;
mod differential;
mod librdkafka;
mod producers;
mod report;
mod sample;
mod wire;

/// What the tools share.
#[path = "../../support"]
#[allow(dead_code, reason = "each user has its own part")]
mod tools {
    pub mod broker_process;
    pub mod random;
}

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Compares Thalweg with Apache Kafka, and with what it promised")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// librdkafka: every codec with every acks value, then the administration.
    Clients {
        /// Bootstrap address.
        #[arg(long, value_name = "HOST:PORT")]
        broker: String,
        /// Prefix of the topics' names.
        #[arg(long)]
        prefix: String,
    },
    /// One script of requests against two brokers; the answers are compared.
    Differential {
        /// The referee.
        #[arg(long, value_name = "HOST:PORT")]
        a: String,
        /// The broker under test.
        #[arg(long, value_name = "HOST:PORT")]
        b: String,
        /// The differences that are accepted (TOML).
        #[arg(long, value_name = "FILE")]
        allow: Option<PathBuf>,
    },
    /// Kills a broker under load, again and again, and checks what it promised.
    Crash {
        /// The broker's program.
        #[arg(long, value_name = "FILE")]
        broker_bin: PathBuf,
        /// Where its data and its log go; kept after a failure.
        #[arg(long, value_name = "FOLDER")]
        data_dir: PathBuf,
        #[arg(long, default_value_t = 100)]
        cycles: u32,
        /// Repeats the random choices of an earlier run (not the machine's timing).
        #[arg(long)]
        seed: Option<u64>,
        /// Lists of cores to start on; one is chosen at random for each start.
        #[arg(long, default_values_t = ["0".to_owned(), "0,1".to_owned()])]
        cores: Vec<String>,
    },
    /// thalweg-bench, kafka-producer-perf-test and librdkafka on the same workload, in turn.
    Producers(producers::Plan),
    /// Latencies at half load with and without work in the background, in turn.
    Background(background::Plan),
    /// The same script against one broker; prints what it answers.
    Ask {
        #[arg(long, value_name = "HOST:PORT")]
        broker: String,
        /// Only cases whose name contains this.
        #[arg(default_value = "")]
        filter: String,
    },
}

fn main() -> ExitCode {
    let passed = match Args::parse().command {
        Command::Clients { broker, prefix } => Ok(librdkafka::run(&broker, &prefix)),
        Command::Differential { a, b, allow } => differential::compare(&a, &b, allow.as_deref()),
        Command::Crash { broker_bin, data_dir, cycles, seed, cores } => {
            let seed = seed.unwrap_or_else(|| {
                std::time::SystemTime::UNIX_EPOCH
                    .elapsed()
                    .map_or(1, |since| since.as_nanos() as u64)
            });
            let plan = crash::Plan { broker: broker_bin, data: data_dir, cycles, seed, cores };
            crash::run(&plan).map(|()| true)
        }
        Command::Producers(plan) => producers::compare(&plan),
        Command::Background(plan) => background::compare(&plan),
        Command::Ask { broker, filter } => Ok(differential::ask(&broker, &filter)),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("thalweg-compare: {error}");
            ExitCode::FAILURE
        }
    }
}
