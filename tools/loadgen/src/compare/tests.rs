//! Comparisons of fixed reports.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::measure::encoded;
use crate::measure::tally::latency_histogram;

/// A report as `run` writes it, cut down to what is read of it.
fn report(label: &str, mb_per_s: f64, p99_us: f64) -> Value {
    let mut publish = latency_histogram();
    (1..=1_000u64).for_each(|at| publish.saturating_record(at * p99_us as u64));
    json!({
        "schema_version": 1,
        "label": label,
        "environment": { "cpu": "EPYC", "kernel": "6.18", "memory_bytes": 1, "tool_version": "0.1.0" },
        "target": {
            "bootstrap": "localhost:9092",
            "topic_configs": { "flush.messages": "1" },
            "host": { "version": "Apache Kafka 4.3.0" },
        },
        "generator": { "cores": [1] },
        "workload": { "producers": 2, "rate": "50 MB/s", "acks": "all" },
        "throughput": { "produced_mb_per_s": mb_per_s, "records_per_s": mb_per_s * 1e3,
                        "fetched_mb_per_s": 0.0, "measured_s": 10.0 },
        "latency": { "response": { "percentiles": [ { "name": "p99", "us": p99_us } ] },
                     "end_to_end": null },
        "histograms": { "publish": encoded::encode(&publish) },
        "counters": { "failed_requests": 0 },
        "broker": { "switches": { "voluntary": 5_000, "involuntary": 50 }, "core_s_per_gb": null },
        "warnings": [],
    })
}

fn save(dir: &Path, name: &str, report: &Value) -> String {
    let path = dir.join(name);
    std::fs::write(&path, report.to_string()).expect("written");
    path.display().to_string()
}

/// Five runs of each group: the second is 1.5 times as fast, and noise keeps the latencies equal.
fn two_groups(dir: &Path) -> [String; 2] {
    let files = |name: &str, factor: f64| {
        let runs = (0..5).map(|run| {
            let mb_per_s = (100.0 + f64::from(run)) * factor;
            let p99_us = 2_000.0 + f64::from((run * 7) % 5) * 100.0;
            save(dir, &format!("{name}{run}.json"), &report(name, mb_per_s, p99_us))
        });
        runs.collect::<Vec<_>>().join(",")
    };
    [files("slow", 1.0), files("fast", 1.5)]
}

fn flags(groups: &[String]) -> CompareArgs {
    use clap::Parser;
    let mut words = vec!["x".to_owned(), "compare".to_owned()];
    words.extend(groups.iter().cloned());
    let cli = crate::args::Cli::try_parse_from(words).expect("flags");
    let crate::args::Command::Compare(args) = cli.command else { panic!("not a comparison") };
    args
}

fn found(groups: &[String], change: impl FnOnce(&mut CompareArgs)) -> Result<Comparison, String> {
    let mut args = flags(groups);
    change(&mut args);
    let groups = groups.iter().map(|text| load::group(text)).collect::<Result<Vec<_>, _>>()?;
    compare(groups, &args)
}

fn ratio<'a>(found: &'a Comparison, name: &str) -> &'a Ratio {
    let row = found.rows.iter().find(|row| row.figure.name == name).expect("a row");
    row.ratios[0].as_ref().expect("a ratio")
}

#[test]
fn what_differs_is_told_from_noise_and_percentiles_come_from_merged_histograms() {
    let dir = tempfile::tempdir().expect("a directory");
    let found = found(&two_groups(dir.path()), |_| {}).expect("a comparison");
    let produced = ratio(&found, "produced");
    assert!((produced.ratio - 1.5).abs() < 0.01);
    assert_eq!(produced.verdict, Verdict::Outside);
    assert_eq!(ratio(&found, "publish p99").verdict, Verdict::Within);
    // Nobody consumed: there is no such row.
    assert!(found.rows.iter().all(|row| row.figure.name != "consumed"));
    let switches = found.rows.iter().find(|row| row.figure.name == "voluntary context switches");
    assert_eq!(switches.expect("a row").medians, [Some(500.0), Some(500.0)]);
    assert_eq!(found.groups[0].merged["publish"].samples, 5_000);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);

    let text = table::render(&found);
    for words in ["slow: 5 runs, Apache Kafka 4.3.0", "flush.messages=1", "better", "within noise"]
    {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    let page = page::render(&found).expect("drawn");
    assert_eq!(page.matches("<svg").count(), 2, "ratios and publish percentiles");
}

#[test]
fn equal_seeds_give_equal_comparisons_and_pairs_are_compared_in_their_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let groups = two_groups(dir.path());
    let text = |seed| {
        let found = found(&groups, |args| args.seed = seed).expect("a comparison");
        serde_json::to_string(&found).expect("JSON")
    };
    assert_eq!(text(1), text(1));
    let paired = found(&groups, |args| args.paired = true).expect("a comparison");
    let interval = ratio(&paired, "produced").interval.expect("five pairs");
    assert!(interval.high - interval.low < 1e-9, "each pair has the same ratio: {interval:?}");
    let uneven = [groups[0].clone(), groups[1].split(',').next().expect("a file").to_owned()];
    let error = found(&uneven, |args| args.paired = true).expect_err("one run of five");
    assert!(error.contains("equally many"), "{error}");
}

#[test]
fn different_workloads_are_refused_unless_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut other = report("b", 100.0, 2_000.0);
    other["workload"]["rate"] = json!("70 MB/s");
    other["workload"]["linger_us"] = json!(5);
    let files = [
        save(dir.path(), "a.json", &report("a", 100.0, 2_000.0)),
        save(dir.path(), "b.json", &other),
    ];
    let error = found(&files, |_| {}).expect_err("different rates");
    for words in ["rate is \"50 MB/s\" or \"70 MB/s\"", "linger_us is 5 or not there", "--force"] {
        assert!(error.contains(words), "{error}");
    }
    let found = found(&files, |args| args.force = true).expect("a comparison");
    assert!(found.warnings.iter().any(|it| it.contains("the workloads differ")));
    // One run each says nothing about noise.
    assert_eq!(ratio(&found, "produced").verdict, Verdict::Unknown);
    assert!(found.warnings.iter().any(|it| it.contains("fewer than 3 runs")));
}

#[test]
fn differing_terms_within_a_group_are_refused_and_between_groups_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let synced = save(dir.path(), "a.json", &report("a", 100.0, 2_000.0));
    let mut loose = report("b", 100.0, 2_000.0);
    loose["target"]["topic_configs"]["flush.messages"] = json!("9223372036854775807");
    let loose = save(dir.path(), "b.json", &loose);
    let error = found(&[format!("{synced},{loose}"), loose.clone()], |_| {}).expect_err("mixed");
    assert!(error.contains("flush.messages"), "{error}");
    let found = found(&[synced, loose], |_| {}).expect("a comparison");
    assert!(found.groups[1].durability.contains("flush.messages=never"));
    assert!(found.warnings.iter().any(|it| it.contains("what an acknowledgement means")));
}

#[test]
fn what_is_no_run_is_refused_by_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = save(dir.path(), "good.json", &report("a", 1.0, 1.0));
    let missing = dir.path().join("missing.json").display().to_string();
    let mut future = report("a", 1.0, 1.0);
    future["schema_version"] = json!(99);
    for (file, words) in [
        (missing, "missing.json"),
        (save(dir.path(), "list.json", &json!([])), "several reports"),
        (save(dir.path(), "search.json", &json!({ "steps": [] })), "search for saturation"),
        (save(dir.path(), "other.json", &json!({ "a": 1 })), "not a report"),
        (save(dir.path(), "future.json", &future), "schema version 99"),
    ] {
        let error = found(&[good.clone(), file], |_| {}).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
    let broken = dir.path().join("broken.json");
    std::fs::write(&broken, "{").expect("written");
    let error = found(&[good, broken.display().to_string()], |_| {}).expect_err("not JSON");
    assert!(error.contains("not JSON"), "{error}");
}

#[test]
fn a_group_takes_its_name_from_the_flag_the_label_or_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let labelled = save(dir.path(), "one.json", &report("kafka", 1.0, 1.0));
    let bare = save(dir.path(), "two.json", &report("", 1.0, 1.0));
    let name = |text: &str| load::group(text).expect("a group").name;
    assert_eq!(name(&format!("mine={labelled}")), "mine");
    assert_eq!(name(&labelled), "kafka");
    assert_eq!(name(&bare), "two");
    assert_eq!(name(&format!("{labelled},{bare}")), "one");
}
