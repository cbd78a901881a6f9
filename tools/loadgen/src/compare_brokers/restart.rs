//! Restart after kill -9 under load: from the start of the new process until every partition of
//! the topic that was written to names its offsets. The same question for every broker.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::args::Part;
use super::result::{Block, Figure, Round};
use super::{Brokers, Kind, Started};
use crate::client::admin::NewTopic;
use crate::run::RunError;
use crate::run::setup::{self, TopicChoice, Wanted};

const FIGURES: [Figure; 2] = [Figure::RestartS, Figure::LogGb];
const FLAGS: &str =
    "--producers 4 --partitions 16 --record-bytes 1024 --batch-records 200 --rate max";
const PARTITIONS: i32 = 16;
const TOPIC: &str = "restart";
/// A broker that has not written its log by then is too slow to be restarted.
const FILL_TIME_MAX: Duration = Duration::from_secs(300);

/// Restarts each broker `times` times on logs of `log_bytes`, in turn.
#[must_use]
pub fn compare(brokers: &Brokers<'_>, times: u32, log_bytes: u64) -> Block {
    let kinds = [Kind::Thalweg, Kind::Kafka];
    let mut runs = [Vec::new(), Vec::new()];
    for time in 1..=times {
        for (kind, runs) in kinds.into_iter().zip(&mut runs) {
            let what = format!("{}: restart {time}", kind.name());
            let home = brokers.folder.join(format!("restart-{}-{time}", kind.name()));
            let round = match restart(brokers, kind, &home, log_bytes) {
                Ok((took, bytes)) => {
                    eprintln!("{what}: {:.2} s after {:.1} GB", took.as_secs_f64(), bytes / 1e9);
                    Round::Figures(vec![
                        (Figure::RestartS, took.as_secs_f64()),
                        (Figure::LogGb, bytes / 1e9),
                    ])
                }
                Err(error) => {
                    eprintln!("{what}: FAILED: {error}");
                    Round::Failed(error.to_string())
                }
            };
            runs.push(round);
            // Best effort: the scratch folder goes as a whole in the end.
            let _ = fs::remove_dir_all(&home);
        }
    }
    let names = kinds.map(|kind| kind.role().to_owned());
    let rows = names.into_iter().zip(runs).collect();
    Block::new((Part::Restart, "kill -9"), "16 partitions, 1 KiB", FLAGS, &FIGURES, rows)
}

/// How long the restart took, and bytes of log that it found.
fn restart(
    brokers: &Brokers<'_>,
    kind: Kind,
    home: &Path,
    log_bytes: u64,
) -> Result<(Duration, f64), RunError> {
    let started = brokers.start(kind, home, |address| brokers.takes_records(address))?;
    let bytes = fill_and_kill(brokers, started, home, log_bytes)?;
    let begin = Instant::now();
    let asked = |address: &str| answers(brokers.bench.load_core, address);
    let started = brokers.start(kind, home, asked)?;
    let took = begin.elapsed();
    drop(started);
    Ok((took, bytes))
}

/// Whether the topic's partitions all have leaders that name their offsets.
fn answers(cpu: usize, address: &str) -> bool {
    let choice = TopicChoice::Existing { name: TOPIC.to_owned(), from_beginning: false };
    let asked = address.parse().map_err(io::Error::other);
    asked.and_then(|address| setup::prepare(cpu, Wanted::plain(address, choice))).is_ok()
}

/// Produces until the log is long enough, and kills the broker while it is loaded.
fn fill_and_kill(
    brokers: &Brokers<'_>,
    mut broker: Started,
    home: &Path,
    log_bytes: u64,
) -> Result<f64, RunError> {
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        count: 1,
        partitions: PARTITIONS,
        replication: -1,
        configs: Vec::new(),
    };
    let cpu = brokers.bench.load_core;
    let failed = |error| RunError::Io("preparing a restart", error);
    let address = broker.address.parse().map_err(|error| failed(io::Error::other(error)))?;
    setup::prepare(cpu, Wanted::plain(address, TopicChoice::Fresh(topic))).map_err(failed)?;
    // A process of its own, because it has to end in the middle of its load.
    let program =
        std::env::current_exe().map_err(|error| RunError::Io("finding this program", error))?;
    let mut command = Command::new(program);
    command.args(["run", "--quiet", "--topic", TOPIC, "--bootstrap", &broker.address]);
    command.args(["--cores", &cpu.to_string(), "--warmup", "0s"]);
    command.args(["--duration", &format!("{}s", FILL_TIME_MAX.as_secs())]);
    command.args(FLAGS.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut load = super::process::Process::spawn(brokers.keeper, "the load", &mut command, None)?;
    let bytes = loop {
        let bytes = log_bytes_in(home);
        if bytes >= log_bytes {
            break bytes;
        }
        if let Some(status) = load.ended() {
            let text = format!("the load ended with {status} after {bytes} bytes of log");
            return Err(failed(io::Error::other(text)));
        }
        thread::sleep(Duration::from_millis(100));
    };
    broker.process.kill();
    load.kill();
    Ok(bytes as f64)
}

/// Bytes of the files below `folder` that hold a log: `*.log`, as both brokers call them.
fn log_bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| {
        let path = entry.path();
        match entry.metadata() {
            Ok(found) if found.is_dir() => log_bytes_in(&path),
            Ok(found) if path.extension().is_some_and(|it| it == "log") => found.len(),
            // What goes while we look counts no more.
            _ => 0,
        }
    });
    sizes.sum()
}
