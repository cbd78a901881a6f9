//! The two clients that are programs of their own: thalweg-bench and kafka-producer-perf-test.

use std::process::Command;

use serde_json::Value;

use super::{BATCH_RECORDS, Client, LINGER_MS, Plan, RECORD_BYTES, Run};

/// Seconds of warm-up; the JVM's takes longest.
const WARMUP_S: u64 = 4;

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?} ended with {}:\n{text}{error}", output.status))
    }
}

pub(super) fn bench(plan: &Plan, broker: &str, topic: &str) -> Result<Run, String> {
    let json = std::env::temp_dir().join(format!("{topic}.json"));
    output(
        Command::new(&plan.bench)
            .args(["run", "--quiet", "--bootstrap", broker, "--topic", topic])
            .args(["--cores", &plan.cpu.to_string(), "--producers", "1", "--acks", "all"])
            .args(["--record-bytes", &RECORD_BYTES.to_string()])
            .args(["--batch-records", &BATCH_RECORDS.to_string()])
            .args(["--rate", &format!("{}MB/s", plan.rate), "--in-flight", "5"])
            .args(["--warmup", "2s", "--duration", &format!("{}s", plan.seconds), "--json"])
            .arg(&json),
    )?;
    let text = std::fs::read_to_string(&json).map_err(|error| error.to_string())?;
    // It is in the temporary folder: should it stay, nobody is hurt.
    let _ = std::fs::remove_file(&json);
    let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    bench_run(&report).ok_or_else(|| "the report lacks figures".to_owned())
}

fn bench_run(report: &Value) -> Option<Run> {
    let service = &report["latency"]["service"];
    let us = |name: &str| {
        let all = service["percentiles"].as_array()?;
        all.iter().find(|it| it["name"] == name)?["us"].as_f64()
    };
    Some(Run {
        client: Client::Bench,
        null: false,
        mb_per_s: report["throughput"]["produced_mb_per_s"].as_f64()?,
        p50_us: us("p50")?,
        p99_us: us("p99")?,
        mean_us: service["mean_us"].as_f64(),
    })
}

pub(super) fn perf_test(plan: &Plan, broker: &str, topic: &str) -> Result<Run, String> {
    let per_s = (plan.rate * 1e6 / RECORD_BYTES as f64).round() as u64;
    let text = output(
        Command::new("taskset")
            .args(["-c", &plan.cpu.to_string(), "java", "-Xmx256m", "-XX:+UseSerialGC", "-cp"])
            .arg(format!("{}/*", plan.libs.display()))
            .args(["org.apache.kafka.tools.ProducerPerformance", "--topic", topic])
            .args(["--num-records", &(per_s * (WARMUP_S + plan.seconds)).to_string()])
            .args(["--warmup-records", &(per_s * WARMUP_S).to_string()])
            .args(["--record-size", &RECORD_BYTES.to_string()])
            .args(["--throughput", &per_s.to_string(), "--print-metrics"])
            .args(["--bootstrap-server", broker, "--command-property", "acks=all"])
            .args(["batch.size=16384", &format!("linger.ms={LINGER_MS}")])
            .args(["enable.idempotence=false", "max.in.flight.requests.per.connection=5"]),
    )?;
    perf_test_run(&text).ok_or_else(|| format!("no figures in:\n{text}"))
}

/// The last summary is that of the time after the warm-up.
fn perf_test_run(text: &str) -> Option<Run> {
    let line = text.lines().rfind(|line| line.contains("ms 99.9th"))?;
    let before = |unit: &str| -> Option<f64> {
        line.split(unit).next()?.rsplit([' ', '(']).find(|word| !word.is_empty())?.parse().ok()
    };
    let mean = text.lines().find(|line| line.contains("producer-metrics:request-latency-avg"));
    let mean_ms = mean.and_then(|line| line.rsplit(':').next()?.trim().parse::<f64>().ok());
    Some(Run {
        client: Client::PerfTest,
        null: false,
        mb_per_s: before("records/sec")? * RECORD_BYTES as f64 / 1e6,
        p50_us: before("ms 50th")? * 1e3,
        p99_us: before("ms 99th")? * 1e3,
        mean_us: mean_ms.map(|ms| ms * 1e3),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_after_the_warm_up_is_read() {
        let text = "\
            14648 records sent, 14648.0 records/sec (14.30 MB/sec), 9.1 ms avg latency, 40.0 ms max latency.\n\
            90000 records sent, 14600.1 records/sec (14.26 MB/sec), 3.00 ms avg latency, 90.00 ms max latency, 2 ms 50th, 5 ms 95th, 9 ms 99th, 30 ms 99.9th.\n\
            60000 records sent, 14648.5 records/sec (14.31 MB/sec), 1.20 ms avg latency, 11.00 ms max latency, 1 ms 50th, 2 ms 95th, 4 ms 99th, 10 ms 99.9th.\n\
            producer-metrics:request-latency-avg:{client-id=perf-producer-client}           : 0.413\n";
        let run = perf_test_run(text).expect("figures");
        assert!((run.mb_per_s - 15.0).abs() < 0.01);
        assert_eq!((run.p50_us, run.p99_us, run.mean_us), (1e3, 4e3, Some(413.0)));
        assert!(perf_test_run("an error").is_none());
    }

    #[test]
    fn the_service_time_of_a_report_is_read() {
        let report = serde_json::json!({
            "throughput": { "produced_mb_per_s": 15.0 },
            "latency": { "service": { "mean_us": 300.0, "percentiles": [
                { "name": "p50", "us": 250.0 }, { "name": "p99", "us": 900.0 }] } }
        });
        let run = bench_run(&report).expect("figures");
        assert_eq!((run.p50_us, run.p99_us), (250.0, 900.0));
        assert!(bench_run(&serde_json::json!({})).is_none());
    }
}
