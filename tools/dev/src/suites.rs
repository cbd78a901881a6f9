//! The suites: what is started for them, and what runs.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use crate::broker::{self, Profile, Thalweg};
use crate::clients::Client;
use crate::house::{During, Failure, House, run, step};
use crate::kafka::{Kafka, Wishes};
use crate::setup;

/// Everything that must pass.
pub fn test(house: &House, cycles: u32) -> Result<(), Failure> {
    crate::check::run(house)?;
    setup::for_clients(house)?;
    setup::for_pages(house)?;
    step("unit and simulation tests");
    run(&mut house.cargo(&["test", "--quiet", "--workspace"]))?;
    let programs = broker::build(house, Profile::Dev)?;
    {
        let thalweg = Thalweg::start(house, &programs)?;
        run_clients(house, &programs, &[], thalweg.address())?;
    }
    compare(house, &programs, false)?;
    in_turn(house, &programs)?;
    crate::loadgen::test(house)?;
    kill_again_and_again(house, &programs, cycles, None)?;
    crate::durability::cut_power_in_test(house, &programs)?;
    step("everything passed");
    Ok(())
}

/// Real clients against one broker.
pub fn clients(house: &House, clients: &[Client], broker: &str) -> Result<(), Failure> {
    setup::for_clients(house)?;
    let programs = broker::build(house, Profile::Dev)?;
    match broker {
        "thalweg" => {
            let thalweg = Thalweg::start(house, &programs)?;
            run_clients(house, &programs, clients, thalweg.address())
        }
        "kafka" => {
            let kafka = Kafka::start(house)?;
            run_clients(house, &programs, clients, kafka.address())
        }
        address => run_clients(house, &programs, clients, address),
    }
}

/// Runs all of them, also after one failed.
fn run_clients(
    house: &House,
    programs: &Path,
    clients: &[Client],
    address: &str,
) -> Result<(), Failure> {
    let clients = if clients.is_empty() { Client::value_variants() } else { clients };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).during("reading the clock")?;
    let prefix = format!("t{}", now.as_millis());
    let mut failed = Vec::new();
    for client in clients {
        step(&format!("{client:?} against {address}"));
        // A client that waits for a broker for ever is a failure too.
        let driver = client.command(house, programs, address, &prefix);
        let mut limited = house.command("timeout");
        limited.args(["--kill-after=5", "180"]).arg(driver.get_program()).args(driver.get_args());
        if run(&mut limited).is_err() {
            failed.push(format!("{client:?}"));
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure(format!("these clients failed: {}", failed.join(", "))))
    }
}

/// Thalweg's answers against Apache Kafka's.
pub fn differential(house: &House, itself: bool) -> Result<(), Failure> {
    setup::for_kafka(house)?;
    let programs = broker::build(house, Profile::Dev)?;
    compare(house, &programs, itself)
}

fn compare(house: &House, programs: &Path, itself: bool) -> Result<(), Failure> {
    // Both look for what may be compacted all the time.
    let often = "log.cleaner.backoff.ms=200";
    let wishes = || Wishes { settings: vec![often.to_owned()], ..Wishes::default() };
    let start_kafka = || Kafka::start_with(house, broker::free_port()?, &wishes());
    let kafka = start_kafka()?;
    let go = |other: &str| {
        step(&format!("differential: Kafka at {}, the other at {other}", kafka.address()));
        run(house
            .command(programs.join("thalweg-compare"))
            .args(["differential", "--a", kafka.address(), "--b", other, "--allow"])
            .arg(house.path("tools/compare/allowed.toml")))
    };
    if itself {
        let second = start_kafka()?;
        go(second.address())
    } else {
        let thalweg = Thalweg::start_with(house, programs, &[often])?;
        go(thalweg.address())
    }
}

/// The load generator's comparison with Apache Kafka, as short as it gets: that it runs with the real
/// ones, every part of it. Its figures mean nothing.
fn in_turn(house: &House, programs: &Path) -> Result<(), Failure> {
    step("Thalweg and Kafka in turn");
    run(house
        .command(programs.join("thalweg-bench"))
        .arg("compare-brokers")
        .arg("--kafka")
        .arg(setup::kafka_libs(house))
        .arg("--dir")
        .arg(house.cache(""))
        .args(["--workload", "1 partition, 1 KiB", "--rounds", "1", "--duration", "1s"])
        .args(["--run-warmup", "200ms", "--warmup", "2s", "--settle", "100ms", "--idle", "park"])
        .args(["--fill-bytes", "10MB", "--restarts", "1", "--restart-bytes", "10MB"]))
}

/// The campaign: many cycles, optimised broker.
pub fn crash(house: &House, cycles: u32, seed: Option<u64>) -> Result<(), Failure> {
    let programs = broker::build(house, Profile::Release)?;
    kill_again_and_again(house, &programs, cycles, seed)
}

/// What work in the background costs those who produce.
pub fn background(house: &House, rounds: u32) -> Result<(), Failure> {
    let programs = broker::build(house, Profile::Release)?;
    step("half load with and without work in the background");
    run(house
        .command(programs.join("thalweg-compare"))
        .arg("background")
        .arg("--broker-bin")
        .arg(programs.join("thalweg"))
        .arg("--bench")
        .arg(programs.join("thalweg-bench"))
        .arg("--data-dir")
        .arg(house.cache("background"))
        .args(["--rounds", &rounds.to_string()]))
}

fn kill_again_and_again(
    house: &House,
    programs: &Path,
    cycles: u32,
    seed: Option<u64>,
) -> Result<(), Failure> {
    step(&format!("crash: {cycles} cycles"));
    let data = house.cache("crash");
    let _ = std::fs::remove_dir_all(&data);
    let mut command = house.command(programs.join("thalweg-compare"));
    command.arg("crash").arg("--broker-bin").arg(programs.join("thalweg"));
    command.arg("--data-dir").arg(&data).args(["--cycles", &cycles.to_string()]);
    if let Some(seed) = seed {
        command.args(["--seed", &seed.to_string()]);
    }
    run(&mut command)?;
    // After a failure the data stays, for whoever looks into it.
    std::fs::remove_dir_all(data).during("deleting the crash test's data")
}

/// Every target of the fuzz crate, one after the other.
pub fn fuzz(house: &House, minutes: u64) -> Result<(), Failure> {
    setup::for_fuzzing(house)?;
    let folder = house.path(FUZZ);
    for target in fuzz_targets(&folder)? {
        step(&format!("fuzz {target}, {minutes} minutes"));
        run(house
            .cargo(&["fuzz", "run", "--fuzz-dir", FUZZ, "--release", &target, "--"])
            .arg(format!("-max_total_time={}", minutes * 60))
            .args(["-malloc_limit_mb=64", "-rss_limit_mb=2048", "-timeout=10"])
            // The sanitizer's flags want it; the compiler itself stays the pinned one.
            .env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}

const FUZZ: &str = "tools/fuzz";

fn fuzz_targets(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(folder.join("fuzz_targets")).during("looking for targets")? {
        let path: PathBuf = entry.during("looking for targets")?.path();
        if let (Some(stem), Some("rs")) =
            (path.file_stem(), path.extension().and_then(|extension| extension.to_str()))
        {
            targets.push(stem.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}

/// Each operation of a script of some two thousand fails once in each way.
pub fn faults(house: &House) -> Result<(), Failure> {
    step("a fault at every operation");
    let test = "storage::tests::fault_script::a_fault_at_every_operation";
    let flags = ["test", "--release", "--package", "thalweg", "--lib", test];
    run(house.cargo(&flags).args(["--", "--ignored", "--nocapture"]))
}

pub fn bench(house: &House, filter: Option<&str>) -> Result<(), Failure> {
    let mut command = house.cargo(&["bench", "--benches", "--package", "thalweg", "--"]);
    command.args(filter);
    run(&mut command)
}

/// The main job: the load generator starts a broker on an empty directory, runs data through it,
/// shows the figures and stops it.
pub fn demo(house: &House) -> Result<(), Failure> {
    let programs = broker::build(house, Profile::Release)?;
    step("first light");
    run(house.command(programs.join("thalweg-bench")).arg("first-light"))
}
