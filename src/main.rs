//! The `thalweg` program: command line, settings, logging; the broker itself is in the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use thalweg::config::cli::{Cli, Command, ConfigCommand, StartFlags};
use thalweg::config::exit::Exit;
use thalweg::config::settings::Settings;
use thalweg::config::settings::{LogFormat, LogSettings};
use thalweg::config::source::process_environment;
use thalweg::server::broker;
use tracing_subscriber::EnvFilter;

/// Runs the command that was given.
pub fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Start(flags) => start(&flags),
        Command::Config(ConfigCommand::Explain(flags)) => explain(&flags),
    };
    exit.into()
}

fn load(flags: &StartFlags) -> Result<Settings, Exit> {
    Settings::load(flags, process_environment()).map_err(|problem| {
        eprintln!("thalweg: {problem}");
        Exit::Usage
    })
}

fn explain(flags: &StartFlags) -> Exit {
    match load(flags) {
        Ok(settings) => {
            print!("{}", settings.explain());
            Exit::Done
        }
        Err(exit) => exit,
    }
}

fn start(flags: &StartFlags) -> Exit {
    let settings = match load(flags) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    if let Err(problem) = start_logging(&settings.logging) {
        eprintln!("thalweg: log.level: {problem}");
        return Exit::Usage;
    }
    let announce = |address| {
        // Whoever reads the line may have gone; the broker serves all the same.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "thalweg ready on {address}").and_then(|()| out.flush());
    };
    match broker::run(settings, announce) {
        Ok(()) => Exit::Done,
        Err(problem) => {
            eprintln!("thalweg: {problem}");
            problem.exit()
        }
    }
}

fn start_logging(settings: &LogSettings) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
