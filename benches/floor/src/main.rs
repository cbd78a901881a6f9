//! `thalweg-floor`: what one core can do at best on the way of a produce and of a fetch.
//!
//! No broker, no executor: [`large`] and [`small`] are servers of some hundred lines over a bare
//! io_uring ([`ring`]), [`sender`] only sends; [`client`], [`paced`] and [`receiver`] are their
//! other ends, in a thread on another core, and [`stage`] measures both. docs/BENCHMARKS.md says
//! what its figures are for.

mod args;
mod client;
mod commands;
mod disk;
mod forward;
mod large;
mod meter;
mod paced;
mod receiver;
mod report;
mod ring;
mod sender;
mod small;
mod sockets;
mod stage;
mod tail;
#[cfg(test)]
mod tests;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use args::Flags;

fn main() -> ExitCode {
    let Flags { command, json } = Flags::parse();
    match commands::run(&command) {
        Ok((report, _)) if json => println!("{}", report.json()),
        Ok((report, _)) => print!("{}", report.table()),
        Err(error) => {
            eprintln!("thalweg-floor: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
