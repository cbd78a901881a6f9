//! Three producers on the same rate-limited workload against one broker, in turn: thalweg-bench,
//! Kafka's kafka-producer-perf-test and librdkafka. Does the load generator see what the clients
//! that people use see? And against a null broker, whose part is next to nothing: what each client
//! adds by itself.
//!
//! Rounds are added to a file, so that a comparison can be made in pieces.

mod judge;
mod librdkafka;
mod programs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Record values and records of a batch; 15 x 1 KiB fill a batch of 16 KiB, Kafka's default.
const RECORD_BYTES: usize = 1024;
const BATCH_RECORDS: usize = 15;
/// Longer than a batch takes to fill at any sensible rate: batches are full.
const LINGER_MS: &str = "20";

/// What `producers` is told.
#[derive(clap::Args)]
pub struct Plan {
    /// The broker (HOST:PORT).
    #[arg(long)]
    broker: String,
    /// A null broker (`thalweg-bench null-broker`) for the clients' own part.
    #[arg(long)]
    null: String,
    /// The load generator's program.
    #[arg(long, value_name = "FILE")]
    bench: PathBuf,
    /// The folder of Apache Kafka's jars.
    #[arg(long, value_name = "FOLDER")]
    libs: PathBuf,
    /// CPU that every client is pinned to.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// Record values offered, MB/s.
    #[arg(long, default_value_t = 15.0)]
    rate: f64,
    /// Measured seconds of a run; as much again, or two, are its warm-up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Where the rounds are kept; those that are there already count.
    #[arg(long, value_name = "FILE")]
    rounds_in: PathBuf,
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Client {
    #[serde(rename = "thalweg-bench")]
    Bench,
    #[serde(rename = "kafka-producer-perf-test")]
    PerfTest,
    #[serde(rename = "librdkafka")]
    Librdkafka,
}

const CLIENTS: [Client; 3] = [Client::Bench, Client::PerfTest, Client::Librdkafka];

impl Client {
    fn name(self) -> &'static str {
        match self {
            Client::Bench => "thalweg-bench",
            Client::PerfTest => "kafka-producer-perf-test",
            Client::Librdkafka => "librdkafka",
        }
    }

    /// To what it cuts its times.
    fn resolution_us(self) -> f64 {
        match self {
            Client::Bench | Client::Librdkafka => 1.0,
            Client::PerfTest => 1_000.0,
        }
    }
}

/// What one run of a client showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    client: Client,
    /// Against the null broker.
    null: bool,
    /// Record values acknowledged, MB/s (10^6).
    mb_per_s: f64,
    /// What the client calls its latency, µs. Of a request, except kafka-producer-perf-test's: of a
    /// record, from `send` to the callback, in whole ms.
    p50_us: f64,
    p99_us: f64,
    /// The mean time of a request, where the client tells.
    mean_us: Option<f64>,
}

/// Runs the rounds and prints the comparison; `true` if the load generator agrees with both.
pub fn compare(plan: &Plan) -> Result<bool, String> {
    let mut runs = earlier(&plan.rounds_in)?;
    let name = format!("producers-{}", std::process::id());
    for broker in [&plan.broker, &plan.null] {
        crate::librdkafka::create_with_configs(broker, &name, 1, &[])?;
    }
    for round in 0..plan.rounds {
        for (null, broker) in [(false, &plan.broker), (true, &plan.null)] {
            for turn in 0..CLIENTS.len() {
                let client = CLIENTS[(turn + round as usize) % CLIENTS.len()];
                let measured = match client {
                    Client::Bench => programs::bench(plan, broker, &name),
                    Client::PerfTest => programs::perf_test(plan, broker, &name),
                    Client::Librdkafka => librdkafka::run(plan, broker, &name),
                };
                let run = measured.map_err(|error| format!("{}: {error}", client.name()))?;
                runs.push(Run { client, null, ..run });
                let text =
                    serde_json::to_string_pretty(&runs).map_err(|error| error.to_string())?;
                std::fs::write(&plan.rounds_in, text).map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(judge::print(&by_client(&runs)))
}

fn earlier(path: &Path) -> Result<Vec<Run>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| format!("{} holds no rounds: {error}", path.display())),
        Err(_) => Ok(Vec::new()),
    }
}

/// The runs of each client, against the broker and against the null broker.
type ByClient<'a> = HashMap<(Client, bool), Vec<&'a Run>>;

fn by_client(runs: &[Run]) -> ByClient<'_> {
    let mut sorted: ByClient<'_> = HashMap::new();
    for run in runs {
        sorted.entry((run.client, run.null)).or_default().push(run);
    }
    sorted
}
