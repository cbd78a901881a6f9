//! Flags in, exit code out: 0 the run took place, 1 it could not, 2 wrong flags, 3 it took place
//! and requests failed.

use std::process::ExitCode;

use clap::Parser;
use thalweg_bench::args::{Cli, Command};
use thalweg_bench::{first_light, null_broker, run};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::command(&args),
        Command::FirstLight(args) => first_light::command(&args),
        Command::NullBroker(args) => null_broker::command(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("thalweg-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
