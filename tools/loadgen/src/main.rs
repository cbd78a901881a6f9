//! Flags in, exit code out: 0 the run took place, 1 it could not, 2 wrong flags, 3 it took place
//! and requests failed, 4 it took place and a condition of `--fail-if` holds.

use std::process::ExitCode;

use clap::Parser;
use thalweg_bench::args::{Cli, Command};
use thalweg_bench::run::Outcome;
use thalweg_bench::workload::explain;
use thalweg_bench::{
    agents, compare, compare_brokers, first_light, limits, null_broker, run, saturate,
};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::command(&args),
        Command::Saturate(args) => saturate::command(&args),
        Command::FirstLight(args) => first_light::command(&args),
        Command::Compare(args) => compare::command(&args),
        Command::CompareBrokers(args) => compare_brokers::command(&args),
        Command::Coordinate(args) => {
            // The run's flags go to the agents as they were typed.
            let flags = agents::args::run_flags(std::env::args().skip(2));
            agents::coordinator::command(&args, &flags)
        }
        Command::Agent(args) => agents::agent::command(&args),
        Command::NullBroker(args) => null_broker::command(&args),
        Command::Limits(args) => limits::command(&args),
        Command::Workload(args) => explain::command(&args),
    };
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(3),
        Ok(Outcome::Condition) => ExitCode::from(4),
        Err(error) => {
            eprintln!("thalweg-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
