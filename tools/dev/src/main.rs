//! `cargo dev`: one place that installs what the tests need, runs them, starts the brokers they
//! need, and says what it does. Versions are pinned in `versions.rs` and in the lock files beside
//! the drivers.

mod broker;
mod check;
mod clients;
mod durability;
mod house;
mod kafka;
mod loadgen;
mod producers;
mod saturation;
mod setup;
mod suites;
mod versions;

/// What the tools share.
#[path = "../../support"]
mod tools {
    pub mod file_system;
}

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use clients::Client;
use house::{Failure, House};

#[derive(Parser)]
#[command(name = "cargo dev", about = "Installs, checks and tests Thalweg")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the checks and tests need; without root, say exactly what is missing.
    Setup,
    /// Formatting, lints, tidy, licences, unused dependencies, spelling, documentation.
    Check,
    /// Everything that must pass: unit and simulation tests, real clients, differential, the load
    /// generator, crash.
    Test {
        /// Crash cycles.
        #[arg(long, default_value_t = 100)]
        cycles: u32,
    },
    /// Real clients against a broker.
    Clients {
        /// Which; all if none is named.
        #[arg(value_enum)]
        clients: Vec<Client>,
        /// A broker that is up (HOST:PORT), or `kafka` or `thalweg` to start one.
        #[arg(long, default_value = "thalweg")]
        broker: String,
    },
    /// Compare the answers of two brokers: Thalweg and Apache Kafka, both started here.
    Differential {
        /// Compare Apache Kafka with itself: what differs then is not normalised well.
        #[arg(long)]
        itself: bool,
    },
    /// The load generator against Apache Kafka: TLS, SASL, transactions, every codec.
    Loadgen,
    /// Kill the broker under load, again and again.
    Crash {
        #[arg(long, default_value_t = 1_000)]
        cycles: u32,
        /// Repeats an earlier run's random choices.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Worlds on a simulated disk: kills, power cuts, faults, flipped bits, each from its seed.
    Sim(durability::Simulation),
    /// Cut the power under a broker on a real file system, again and again (needs root).
    PowerCut(durability::PowerCuts),
    /// A store's life with a fault at every one of its disk operations.
    Faults,
    /// Run every fuzz target.
    Fuzz {
        /// Minutes for each target.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Run the criterion benches.
    Bench {
        /// Only benches whose name contains this.
        filter: Option<String>,
    },
    /// Build Thalweg (release), run the load generator through it, show the figures.
    Demo,
    /// Search for a broker's saturation several times: do the searches agree, and with the truth?
    Saturation {
        #[arg(long, default_value_t = 5)]
        times: u32,
        /// A broker that is up (HOST:PORT); else a stand-in of known capacity, started here.
        #[arg(long)]
        broker: Option<String>,
        /// Further flags of `thalweg-bench saturate`.
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// thalweg-bench beside kafka-producer-perf-test and librdkafka, against one Kafka.
    CompareClients {
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// Latencies at half load with and without compaction, retention and a cold reader, in turn.
    Background {
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// A single Apache Kafka of the pinned version.
    Kafka {
        #[command(subcommand)]
        command: KafkaCommand,
    },
}

#[derive(Subcommand)]
enum KafkaCommand {
    /// Start one and leave it running.
    Start {
        #[arg(long, default_value_t = 19_092)]
        port: u16,
        /// Settings (`key=value`) on top of the defaults.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Stop the one that listens on the port, and delete its data.
    Stop {
        #[arg(long, default_value_t = 19_092)]
        port: u16,
    },
}

fn run(command: Command, house: &House) -> Result<(), Failure> {
    match command {
        Command::Setup => setup::everything(house),
        Command::Check => check::run(house),
        Command::Test { cycles } => suites::test(house, cycles),
        Command::Clients { clients, broker } => suites::clients(house, &clients, &broker),
        Command::Differential { itself } => suites::differential(house, itself),
        Command::Loadgen => loadgen::test(house),
        Command::Background { rounds } => suites::background(house, rounds),
        Command::Crash { cycles, seed } => suites::crash(house, cycles, seed),
        Command::Sim(wish) => durability::simulate(house, &wish),
        Command::PowerCut(wish) => durability::cut_power(house, &wish),
        Command::Faults => suites::faults(house),
        Command::Fuzz { minutes } => suites::fuzz(house, minutes),
        Command::Bench { filter } => suites::bench(house, filter.as_deref()),
        Command::Demo => suites::demo(house),
        Command::Saturation { times, broker, flags } => {
            saturation::campaign(house, times, broker.as_deref(), &flags)
        }
        Command::CompareClients { rounds } => producers::compare(house, rounds),
        Command::Kafka { command: KafkaCommand::Start { port, settings } } => {
            kafka::start_detached(house, port, &settings)
        }
        Command::Kafka { command: KafkaCommand::Stop { port } } => kafka::stop(house, port),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = House::open().and_then(|house| run(args.command, &house));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            eprintln!("cargo dev: {message}");
            ExitCode::FAILURE
        }
    }
}
