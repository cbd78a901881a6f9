//! Drives librdkafka against a broker, compares two brokers request by request, and kills a broker
//! under load to see what it loses. The referee is Apache Kafka: every script here passes against
//! it first. What is *not* here: anything of the broker's own code, so that no mistake is shared.

mod librdkafka;
mod report;
mod sample;

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
}

fn main() -> ExitCode {
    let passed = match Args::parse().command {
        Command::Clients { broker, prefix } => librdkafka::run(&broker, &prefix),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
