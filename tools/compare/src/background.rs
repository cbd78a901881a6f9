//! What work in the background costs those who produce: the same load at half of what the broker
//! takes, with and without compaction, retention and a cold reader, in turn.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::crash::broker::Recipe;
use crate::tools::broker_process::{BrokerProcess, START_TIMEOUT};

/// Settings under which nothing happens in the background.
const QUIET: [&str; 2] = ["log.cleaner.enable=false", "log.retention.check.interval.ms=86400000"];
/// Settings under which everything does that is due.
const BUSY: [&str; 2] = ["log.cleaner.backoff.ms=100", "log.retention.check.interval.ms=500"];

/// What the device may still do of its own once all is synced, it does in this time.
const SETTLED: Duration = Duration::from_secs(5);

/// How long the reader reads before it begins again.
const READ_ONCE: Duration = Duration::from_secs(3);

/// What is compared.
#[derive(Args, Debug)]
pub struct Plan {
    /// The broker's program.
    #[arg(long, value_name = "FILE")]
    broker_bin: PathBuf,
    /// The load generator.
    #[arg(long, value_name = "FILE")]
    bench: PathBuf,
    /// Where the data goes; deleted.
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Gigabytes that wait to be compacted, as many that wait to be deleted, as many to be read.
    #[arg(long, default_value_t = 2)]
    gigabytes: u64,
}

/// Latencies of one run, in microseconds, and its rate.
#[derive(Clone, Copy, Debug)]
struct Figures {
    mb_per_s: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

/// Runs the comparison and prints it.
pub fn compare(plan: &Plan) -> Result<bool, String> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut half = None;
    for round in 1..=plan.rounds {
        let _ = std::fs::remove_dir_all(&plan.data_dir);
        std::fs::create_dir_all(&plan.data_dir).map_err(|error| error.to_string())?;
        let recipe = recipe(plan);
        let broker = start(&recipe, &QUIET)?;
        let rate = match half {
            Some(rate) => rate,
            None => {
                let most = produce(plan, &recipe.address, None)?.mb_per_s;
                println!("the broker takes {most:.0} MB/s; half of it is offered");
                *half.insert(most / 2.0)
            }
        };
        let cold = fill(plan, &recipe.address)?;
        settle()?;
        without.push(produce(plan, &recipe.address, Some(rate))?);
        broker.stop()?;
        settle()?;
        let broker = start(&recipe, &BUSY)?;
        let is_over = AtomicBool::new(false);
        let measured = std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_until(plan, &recipe.address, &cold, &is_over));
            let measured = produce(plan, &recipe.address, Some(rate));
            is_over.store(true, Ordering::Relaxed);
            reader.join().map_err(|_| "the reader's thread panicked".to_owned())??;
            measured
        });
        with.push(measured?);
        broker.stop()?;
        println!(
            "round {round}: without {:?}\n         with    {:?}",
            without[round - 1],
            with[round - 1]
        );
    }
    let _ = std::fs::remove_dir_all(&plan.data_dir);
    report(&without, &with);
    Ok(true)
}

/// Lets the device be done with what went before: it is not part of the question.
fn settle() -> Result<(), String> {
    let synced = Command::new("sync").status().map_err(|error| format!("sync: {error}"))?;
    if !synced.success() {
        return Err(format!("sync ended with {synced}"));
    }
    std::thread::sleep(SETTLED);
    Ok(())
}

fn recipe(plan: &Plan) -> Recipe {
    Recipe {
        program: plan.broker_bin.clone(),
        data: plan.data_dir.join("data"),
        log: plan.data_dir.join("broker.log"),
        address: format!("127.0.0.1:{}", 15_000 + std::process::id() % 10_000),
    }
}

fn start(recipe: &Recipe, settings: &[&str]) -> Result<BrokerProcess, String> {
    let mut broker = recipe.spawn_with("0", settings)?;
    broker.wait_until_ready(START_TIMEOUT)?;
    Ok(broker)
}

/// The measured load: one partition, batches of 16 records of 1 KiB from four producers.
fn produce(plan: &Plan, address: &str, rate_mb: Option<f64>) -> Result<Figures, String> {
    let rate = rate_mb.map_or_else(|| "max".to_owned(), |rate| format!("{rate:.1}MB/s"));
    let seconds = format!("{}s", plan.seconds);
    let report = bench(
        plan,
        address,
        &[
            "--producers",
            "4",
            "--partitions",
            "4",
            "--record-bytes",
            "1024",
            "--batch-records",
            "16",
            "--warmup",
            "3s",
            "--duration",
            &seconds,
            "--rate",
            &rate,
        ],
    )?;
    let all = report["latency"]["response"]["percentiles"].as_array().cloned().unwrap_or_default();
    let us = |name: &str| {
        let found = all.iter().find(|it| it["name"] == name).and_then(|it| it["us"].as_f64());
        found.ok_or_else(|| format!("the report has no {name}"))
    };
    Ok(Figures {
        mb_per_s: report["throughput"]["produced_mb_per_s"].as_f64().unwrap_or(0.0),
        p50: us("p50")?,
        p99: us("p99")?,
        p999: us("p99.9")?,
    })
}

/// Topics with work that waits; the name of the one that is to be read.
fn fill(plan: &Plan, address: &str) -> Result<String, String> {
    // Spread over time: a filled page cache of the device is not part of the question.
    let rate = "250MB/s";
    let seconds = format!("{}s", plan.gigabytes * 4);
    let fixed = [
        "--producers",
        "2",
        "--partitions",
        "2",
        "--record-bytes",
        "1024",
        "--batch-records",
        "256",
        "--warmup",
        "0s",
        "--duration",
        &seconds,
        "--rate",
        rate,
        "--keep-topic",
    ];
    let more: [&[&str]; 3] = [
        &[
            "--keys",
            "uniform",
            "--key-count",
            "100000",
            "--topic-config",
            "cleanup.policy=compact",
            "--topic-config",
            "segment.bytes=67108864",
            "--topic-config",
            "min.cleanable.dirty.ratio=0.01",
        ],
        &[
            "--topic-config",
            "segment.bytes=67108864",
            "--topic-config",
            "retention.bytes=67108864",
            "--topic-config",
            "file.delete.delay.ms=0",
        ],
        &["--topic-config", "segment.bytes=268435456"],
    ];
    let mut topic = String::new();
    for words in more {
        let report = bench(plan, address, &[&fixed[..], words].concat())?;
        topic = report["target"]["topic"].as_str().unwrap_or_default().to_owned();
    }
    Ok(topic)
}

/// Reads a topic from its beginning, again and again, behind everybody else on the generator's core.
fn read_until(plan: &Plan, address: &str, topic: &str, is_over: &AtomicBool) -> Result<(), String> {
    while !is_over.load(Ordering::Relaxed) {
        let mut reader = read(plan, address, topic)?;
        let begun = Instant::now();
        while begun.elapsed() < READ_ONCE && !is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = reader.kill();
        let _ = reader.wait();
    }
    Ok(())
}

fn read(plan: &Plan, address: &str, topic: &str) -> Result<Child, String> {
    Command::new("nice")
        .args(["-n", "19"])
        .arg(&plan.bench)
        .args(["run", "--quiet", "--bootstrap", address, "--topic", topic, "--cores", "1"])
        .args(["--producers", "0", "--consumers", "1", "--from-beginning", "--warmup", "0s"])
        .args(["--duration", "1h"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("starting the reader: {error}"))
}

fn bench(plan: &Plan, address: &str, words: &[&str]) -> Result<Value, String> {
    let json: &Path = &plan.data_dir.join("run.json");
    let mut command = Command::new(&plan.bench);
    command.args(["run", "--quiet", "--bootstrap", address, "--cores", "1"]).args(words);
    let output = command.arg("--json").arg(json).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} ended with {}:\n{error}", output.status));
    }
    let text = std::fs::read_to_string(json).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn median(all: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut sorted: Vec<f64> = all.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(without: &[Figures], with: &[Figures]) {
    println!("medians of {} rounds in turn", with.len());
    println!("| background | MB/s | p50 ms | p99 ms | p99.9 ms |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, all) in [("nothing", without), ("compaction, retention, cold reader", with)] {
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.2} |",
            median(all, |it| it.mb_per_s),
            median(all, |it| it.p50) / 1e3,
            median(all, |it| it.p99) / 1e3,
            median(all, |it| it.p999) / 1e3,
        );
    }
    let ratio = |of: fn(&Figures) -> f64| median(with, of) / median(without, of);
    println!("p99 {:.2} times, p99.9 {:.2} times", ratio(|it| it.p99), ratio(|it| it.p999));
}
