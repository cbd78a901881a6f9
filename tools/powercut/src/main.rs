//! Power cuts. A broker runs on a real file system on a block device of ours, which writes down
//! every write and every flush; what was promised to clients is written down in the same order.
//! Then, for many moments of that order, the device is put back to what a power cut would have left,
//! the broker is started on it, and every promise of before is looked up.
//!
//! `cargo dev power-cut` runs it. It needs root, FUSE and loop devices; mounts are made in a mount
//! namespace of its own, so the kernel removes them with the process, however that ends.

mod block_log;
mod broker;
mod cut;
mod device;
mod fuse;
mod machine;
mod offline;
mod operator;
mod promises;
mod shell;
mod verify;
mod workload;
mod writers;

/// The client of the broker's own tests.
#[path = "../../../tests/support"]
#[allow(dead_code, reason = "each user has its own part")]
mod support {
    pub mod batch;
    pub mod client;
    pub mod wire;
}

/// What the tools share.
#[path = "../../support"]
#[allow(dead_code, reason = "each user has its own part")]
mod tools {
    pub mod broker_process;
    pub mod file_system;
    pub mod random;
}

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;

use broker::Recipe;
use cut::Cutter;
use device::Rig;
use tools::broker_process::START_TIMEOUT;
use tools::file_system::FileSystem;
use tools::random::Random;

/// Exit code where the machine cannot do it.
const CANNOT: u8 = 77;
/// Cuts of one recorded workload; more cuts need more workloads.
const CUTS_A_WORKLOAD: u32 = 250;

/// Cuts the power under a broker and looks what is left.
#[derive(Parser)]
pub struct Args {
    /// The broker's program.
    #[arg(long)]
    broker: PathBuf,
    /// A folder for the device's bytes; what an earlier run left there is removed.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, value_enum, default_value = "ext4")]
    fs: FileSystem,
    #[arg(long, default_value_t = 100)]
    cuts: u32,
    /// Repeats an earlier run's random choices; what the broker does in between is its own.
    #[arg(long)]
    seed: Option<u64>,
    /// The broker acknowledges before it syncs: not to find that is the failure.
    #[arg(long)]
    lying: bool,
    /// Only say whether this machine can do it; exit code 77 and a reason if not.
    #[arg(long)]
    probe: bool,
    /// Set by the program itself when it has its own mounts.
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(reason) = machine::can_do_it(args.fs) {
        println!("power cuts on {:?} are skipped: {reason}", args.fs);
        return ExitCode::from(CANNOT);
    }
    if args.probe {
        return ExitCode::SUCCESS;
    }
    let outcome = if args.inside { run(&args) } else { machine::go_inside() };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("power cut: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let seed = args.seed.unwrap_or_else(seed_from_the_clock);
    println!("seed {seed}, {} cuts on {:?}", args.cuts, args.fs);
    let mut left = args.cuts;
    let mut random = Random::new(seed);
    while left > 0 {
        let cuts = left.min(CUTS_A_WORKLOAD);
        let violation = record_and_cut(args, &mut random, cuts)?;
        match violation {
            Some(what) if args.lying => {
                println!("the lying broker was caught: {what}");
                return Ok(());
            }
            Some(what) => return Err(format!("{what} (seed {seed})")),
            None => {}
        }
        left -= cuts;
    }
    if args.lying {
        return Err(format!("{} cuts did not catch a broker that lies (seed {seed})", args.cuts));
    }
    Ok(())
}

fn seed_from_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 % 1_000_000_007
}

/// Records one workload and cuts it; the first broken promise, if any.
fn record_and_cut(args: &Args, random: &mut Random, cuts: u32) -> Result<Option<String>, String> {
    let start = Instant::now();
    let rig = Rig::new(&args.dir, args.fs)?;
    let (program, log) = (args.broker.clone(), args.dir.join("broker.log"));
    let recipe = Recipe { program, log, patience: START_TIMEOUT, is_busy: true };
    let from = workload::record(&rig, &recipe, random)?;
    let recipe = Recipe { is_busy: false, ..recipe };
    let (writes, flushes, marks) = rig.log().counts();
    println!(
        "recorded {writes} writes, {flushes} flushes and {marks} promises in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let mut cutter = Cutter::new(&rig, recipe, from, cuts, random)?;
    let violation = cutter.all()?;
    println!("{} in {:.1} s", cutter.summary(), start.elapsed().as_secs_f64());
    if violation.is_none() {
        // After a failure everything stays, for whoever looks into it.
        rig.remove()?;
    }
    Ok(violation)
}
