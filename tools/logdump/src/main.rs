//! Prints and verifies a data directory offline. Reads only, takes no lock, needs no broker.
//!
//! Exit codes: 0 nothing is damaged, 1 something could not be read, 2 wrong flags, 3 damage found
//! (with `--strict` also torn ends and stale files).

mod args;
mod batch;
mod commands;
mod print;
mod values;

use std::io::BufWriter;
use std::process::ExitCode;

use clap::Parser;
use thalweg::cluster::inspect::READER_THREAD;
use thalweg::storage::dump::Verdict;

use args::Args;
use commands::Problem;
use print::Printer;

const UNREADABLE: u8 = 1;
const USAGE: u8 = 2;
const DAMAGED: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    hide_panics_of_the_metadata_reader();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut printer = Printer::new(&mut out, args.json, &args.dir);
    let result = commands::run(&args, &mut printer);
    if let Err(problem) = result {
        let (text, code) = match problem {
            Problem::Unreadable(text) => (text, UNREADABLE),
            Problem::Usage(text) => (text, USAGE),
        };
        let worst = printer.worst();
        drop(out);
        eprintln!("thalweg-logdump: {text}");
        return ExitCode::from(if worst == Verdict::Damaged { DAMAGED } else { code });
    }
    match printer.end() {
        Ok(worst) => exit_of(worst, args.strict),
        Err(error) => {
            eprintln!("thalweg-logdump: the output cannot be written: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn exit_of(worst: Verdict, strict: bool) -> ExitCode {
    ExitCode::from(match worst {
        Verdict::Damaged => DAMAGED,
        Verdict::Unreadable => UNREADABLE,
        Verdict::Torn | Verdict::Stale if strict => DAMAGED,
        Verdict::Torn | Verdict::Stale | Verdict::Sound => 0,
    })
}

/// What redb asserts of a damaged file ends its thread and becomes a verdict: no trace of it.
fn hide_panics_of_the_metadata_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some(READER_THREAD) {
            usual(info);
        }
    }));
}
