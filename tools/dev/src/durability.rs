//! The campaigns about what survives: the simulated disk, and power cuts on a real file system.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::broker::{self, Profile};
use crate::house::{During, Failure, House, run, step};
use crate::setup;
use crate::tools::file_system::FileSystem;

/// Exit code of `thalweg-powercut` where the machine cannot do it.
const CANNOT: i32 = 77;

/// Cuts in `cargo dev test`, on each file system.
const CUTS_IN_TEST: u32 = 50;

#[derive(Args)]
pub struct Simulation {
    /// How many seeds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Instead, plant each of the bugs in src/base/planted.rs and see that some seed finds it.
    #[arg(long)]
    planted: bool,
}

#[derive(Args)]
pub struct PowerCuts {
    /// How many cuts, on each file system.
    #[arg(long, default_value_t = 1_000)]
    cuts: u32,
    /// Which file systems; all if none is named.
    #[arg(long, value_enum)]
    fs: Vec<FileSystem>,
    /// Repeats an earlier run's random choices.
    #[arg(long)]
    seed: Option<u64>,
    /// With a broker that acknowledges before it syncs: it must be caught.
    #[arg(long)]
    lying: bool,
}

/// Seeds of the simulation, optimised and with every assertion.
pub fn simulate(house: &House, wish: &Simulation) -> Result<(), Failure> {
    step("simulated disk");
    let mut test = house.cargo(&["test", "--quiet", "--profile", "sim", "--package", "thalweg"]);
    test.arg("--lib");
    let name = if wish.planted {
        test.args(["--features", "planted-bugs"]);
        "every_planted_bug_is_found_within_2000_seeds"
    } else {
        "no_seed_breaks_a_promise"
    };
    test.args(["--", "--nocapture", "--exact"]);
    test.arg(format!("storage::tests::campaign::{name}"));
    test.env("THALWEG_TEST_SEEDS", wish.seeds.to_string());
    test.env("THALWEG_TEST_FROM", wish.from.to_string());
    run(&mut test)
}

/// The campaign, with an optimised broker. That the machine cannot do it is a failure.
pub fn cut_power(house: &House, wish: &PowerCuts) -> Result<(), Failure> {
    let every = FileSystem::value_variants();
    for fs in if wish.fs.is_empty() { every } else { &wish.fs } {
        prepare(house, *fs)?;
        let programs = broker::build(house, Profile::Release)?;
        if let Some(reason) = missing(house, &programs, *fs)? {
            return Err(Failure(reason));
        }
        let mut command = command(house, &programs, *fs);
        command.args(["--cuts", &wish.cuts.to_string()]);
        if let Some(seed) = wish.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        if wish.lying {
            command.arg("--lying").arg("--broker").arg(lying_broker(house)?);
            command.env("THALWEG_TEST_PLANTED_BUG", "ack-before-sync");
        } else {
            command.arg("--broker").arg(programs.join("thalweg"));
        }
        step(&format!("power cuts on {fs:?}"));
        run(&mut command)?;
    }
    Ok(())
}

/// The part of `cargo dev test`: everywhere where the machine can do it, and loudly not elsewhere.
pub fn cut_power_in_test(house: &House, programs: &Path) -> Result<(), Failure> {
    for fs in FileSystem::value_variants() {
        step(&format!("power cuts on {fs:?}"));
        if is_root()? {
            prepare(house, *fs)?;
        }
        if let Some(reason) = missing(house, programs, *fs)? {
            println!(
                "\n!!! SKIPPED: {reason}\n!!! Nothing is known about power cuts from this run."
            );
            continue;
        }
        let mut command = command(house, programs, *fs);
        command.args(["--cuts", &CUTS_IN_TEST.to_string(), "--broker"]);
        run(command.arg(programs.join("thalweg")))?;
    }
    Ok(())
}

fn is_root() -> Result<bool, Failure> {
    Ok(std::fs::metadata("/proc/self").during("reading /proc/self")?.uid() == 0)
}

fn prepare(house: &House, fs: FileSystem) -> Result<(), Failure> {
    match fs {
        FileSystem::Ext4 => setup::for_ext4(house),
        FileSystem::Xfs => setup::for_xfs(house),
    }
}

fn command(house: &House, programs: &Path, fs: FileSystem) -> std::process::Command {
    let mut command = house.command(programs.join("thalweg-powercut"));
    command.args(["--fs", fs.name(), "--dir"]);
    command.arg(house.cache(&format!("power-cut-{}", fs.name())));
    command
}

/// Why power cannot be cut on this machine, if so.
fn missing(house: &House, programs: &Path, fs: FileSystem) -> Result<Option<String>, Failure> {
    let mut probe = command(house, programs, fs);
    let output = probe.args(["--probe", "--broker", "none"]).output();
    let output = output.during("asking what the machine can do")?;
    match output.status.code() {
        Some(0) => Ok(None),
        Some(CANNOT) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        _ => Err(Failure(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Builds the broker that may have a bug; a program of its own.
fn lying_broker(house: &House) -> Result<PathBuf, Failure> {
    step("building the broker that lies");
    let words = ["build", "--quiet", "--release", "--package", "thalweg"];
    let mut build = house.cargo(&words);
    run(build.args(["--features", "planted-bugs", "--bin", "thalweg-planted"]))?;
    Ok(house.target("release/thalweg-planted"))
}
