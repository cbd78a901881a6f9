//! The pages, opened in a headless browser: they render, and they ask for nothing from elsewhere.
//! Pictures of them are left in cargo's folder for tests (target/tmp) for whoever wants to look.

mod cdp;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cdp::{Browser, Seen};
use clap::Parser;
use serde_json::Value;
use thalweg_bench::args::{Cli, Command};
use thalweg_bench::null_broker::{NullOptions, start};
use thalweg_bench::report::{Report, html, pictures};
use thalweg_bench::saturate::{Saturation, Setting, Step};
use thalweg_bench::{compare, run};

/// What a reader sees: title, headings, and each chart's size and words.
const LOOK: &str = "({
    title: document.title,
    heading: document.querySelector('h1').innerText,
    text: document.body.innerText,
    font: document.fonts.check('600 16px Inter') && [...document.fonts].every(f => f.status === 'loaded'),
    overflows: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    charts: [...document.querySelectorAll('svg.chart')].map(svg => {
        const box = svg.getBoundingClientRect();
        const style = getComputedStyle(svg);
        const inside = [...svg.querySelectorAll('text')].every(text => {
            const words = text.getBoundingClientRect();
            return words.width === 0 || (words.left >= box.left - 1 && words.right <= box.right + 1
                && words.top >= box.top - 1 && words.bottom <= box.bottom + 1);
        });
        return {
            label: svg.getAttribute('aria-label'),
            visible: box.width > 300 && box.height > 100 && style.visibility === 'visible'
                && style.display !== 'none',
            curves: svg.querySelectorAll('polyline, line, circle').length,
            text: [...svg.querySelectorAll('text')].map(text => text.textContent.trim()),
            inside,
        };
    }),
})";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn look(browser: &mut Browser, name: &str, page: &str) -> Seen {
    let path = folder().join(name).with_extension("html");
    fs::write(&path, page).expect("written");
    browser.open(&path, LOOK, &path.with_extension("png"))
}

/// Insists on what holds for every page; returns the labels of its charts.
fn check(seen: &Seen, title: &str) -> Vec<String> {
    assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    assert!(seen.requests.is_empty(), "it asked for {:?}", seen.requests);
    let value = &seen.value;
    assert_eq!((&value["title"], &value["heading"]), (&title.into(), &title.into()));
    assert_eq!(value["font"], true, "the page's own font is in use");
    assert_eq!(value["overflows"], false, "nothing sticks out to the right");
    let charts = value["charts"].as_array().expect("charts");
    for chart in charts {
        assert_eq!(chart["visible"], true, "{chart}");
        assert_eq!(chart["inside"], true, "words are cut off: {chart}");
        assert!(chart["curves"].as_u64() > Some(5), "{chart}");
    }
    charts.iter().map(|it| it["label"].as_str().expect("a label").to_owned()).collect()
}

fn has_words(seen: &Seen, wanted: &[&str]) {
    let text = seen.value["text"].as_str().expect("text");
    for words in wanted {
        assert!(text.contains(words), "`{words}` is not on the page:\n{text}");
    }
}

/// Runs against the null broker and leaves all reports in files that begin with `name`.
fn reports(addr: SocketAddr, name: &str, flags: &str) -> PathBuf {
    let json = folder().join(name).with_extension("json");
    let page = json.with_extension("run.html");
    let line = format!(
        "x run --bootstrap {addr} --cores {} --idle park --quiet --label {name} --json {} --html {} \
         --charts {} {flags}",
        run::allowed_cpus().last().expect("a CPU"),
        json.display(),
        page.display(),
        folder().join(name).display(),
    );
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Run(args) = cli.command else { panic!("not a run") };
    run::command(&args).expect("the run takes place");
    json
}

fn broker() -> SocketAddr {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NullOptions { keep: true, ..NullOptions::default() };
    start(run::allowed_cpus()[0], listen, options).expect("the null broker starts")
}

const FLAGS: &str = "--producers 2 --consumers 1 --partitions 2 --record-bytes 100 \
                     --batch-records 5 --rate 5000records/s --warmup 1s --duration 3s";

#[test]
fn the_page_of_a_run_renders_with_all_its_charts_and_asks_for_nothing() {
    let pid = std::process::id();
    let json = reports(broker(), "report-run", &format!("{FLAGS} --broker-pid {pid}"));
    let charts = folder().join("report-run");
    for name in ["throughput", "publish-latency", "end-to-end-latency", "percentiles"] {
        let png = fs::read(charts.join(name).with_extension("png")).expect("a PNG");
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}");
        assert!(charts.join(name).with_extension("svg").is_file());
    }
    let Some(program) = cdp::find() else { return };
    let mut browser = Browser::start(&program);
    let page = fs::read_to_string(json.with_extension("run.html")).expect("written");
    let seen = look(&mut browser, "report-run", &page);
    let labels = check(&seen, "report-run");
    let begin = |idx: usize, words: &str| labels[idx].starts_with(words);
    assert_eq!(labels.len(), 4, "{labels:?}");
    assert!(begin(0, "Throughput") && begin(1, "Publish") && begin(2, "End-to-end"), "{labels:?}");
    assert!(begin(3, "Latency by percentile"), "{labels:?}");
    has_words(
        &seen,
        &["produced", "Durability: acks=all", "context switches", "kernel", "data directory"],
    );
    // Every axis says its unit, every curve has its name.
    let words = |idx: usize| seen.value["charts"][idx]["text"].to_string();
    for (idx, wanted) in [
        (0, ["throughput (MB/s)", "time since the first send (s)", "consumed (whole batches)"]),
        (1, ["latency (ms)", "p50", "p99"]),
        (3, ["percentile (%)", "99 %", "latency (ms)"]),
    ] {
        for it in wanted {
            assert!(words(idx).contains(it), "`{it}` is not in chart {idx}: {}", words(idx));
        }
    }
}

#[test]
fn the_page_of_a_search_shows_latency_over_throughput() {
    let Some(program) = cdp::find() else { return };
    let line = format!("x run --bootstrap {} --idle park --quiet {FLAGS}", broker());
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Run(args) = cli.command else { panic!("not a run") };
    let report = run::execute(&run::spec_of(&args, args.workload.only().expect("one")))
        .expect("the run takes place");
    let found = search(&report);
    let page = html::of_search(&found).expect("drawn");
    let seen = look(&mut Browser::start(&program), "report-search", &page);
    let labels = check(&seen, "a search");
    assert_eq!(labels, ["Publish latency over throughput"]);
    let words = seen.value["charts"][0]["text"].to_string();
    for it in ["saturation: 100.0 MB/s", "throughput acknowledged (MB/s)", "latency (ms)", "p99.9"]
    {
        assert!(words.contains(it), "`{it}` is not in {words}");
    }
    has_words(&seen, &["100.0 MB/s", "Environment", "no: publish p99 80.00 ms"]);
    assert!(pictures::of_search(&found)[0].png().is_ok());
}

/// A search as it ends, around the summary and the setting of a real run.
fn search(report: &Report) -> Saturation {
    let publish = |factor: f64| {
        let mut publish = report.latency.response.clone().expect("acks");
        publish
            .percentiles
            .iter_mut()
            .zip([1.0, 1.5, 3.0, 8.0, 20.0])
            .for_each(|(percentile, share)| percentile.us = 400.0 * factor * share);
        publish
    };
    let step = |mb_per_s: f64, factor: f64, not_held: Option<&str>| Step {
        offered_mb_per_s: mb_per_s,
        produced_mb_per_s: mb_per_s * if not_held.is_some() { 0.97 } else { 1.0 },
        records_per_s: mb_per_s * 1e4,
        publish: Some(publish(factor)),
        not_held: not_held.map(str::to_owned),
        core_s_per_gb: Some(1.25),
        warnings: vec!["generator-parks"],
    };
    let Report { environment, target, generator, workload, .. } = report.clone();
    Saturation {
        schema_version: 1,
        label: "a search".to_owned(),
        p99_max_ms: 50.0,
        delay_max_ms: 20.0,
        saturation_mb_per_s: Some(100.0),
        saturation_records_per_s: Some(1e6),
        setting: Some(Setting { environment, target, generator, workload }),
        steps: vec![
            step(10.0, 1.0, None),
            step(25.0, 1.1, None),
            step(50.0, 1.3, None),
            step(75.0, 1.9, None),
            step(90.0, 3.5, None),
            step(95.0, 6.0, None),
            step(100.0, 12.0, None),
            step(103.0, 66.0, Some("publish p99 80.00 ms")),
        ],
    }
}

#[test]
fn the_page_of_a_comparison_shows_ratios_and_percentiles() {
    let addr = broker();
    let run = |name: &str| reports(addr, name, FLAGS).display().to_string();
    let runs: Vec<String> = ["a1", "b1", "b2", "a2", "a3", "b3"].map(run).to_vec();
    let group = |letter: &str| {
        let is_its = |it: &&String| {
            Path::new(it).file_name().is_some_and(|it| it.to_string_lossy().starts_with(letter))
        };
        format!("{letter}={}", runs.iter().filter(is_its).cloned().collect::<Vec<_>>().join(","))
    };
    let page = folder().join("comparison.html");
    let (a, b) = (group("a"), group("b"));
    let html = page.display().to_string();
    let words = ["x", "compare", &a, &b, "--html", &html];
    let Command::Compare(args) = Cli::try_parse_from(words).expect("flags").command else {
        panic!("not a comparison")
    };
    compare::command(&args).expect("it takes place");
    let Some(program) = cdp::find() else { return };
    let page = fs::read_to_string(page).expect("written");
    let seen = look(&mut Browser::start(&program), "report-comparison", &page);
    let labels = check(&seen, "a and b");
    assert_eq!(labels.len(), 3, "{labels:?}");
    assert_eq!(labels[0], "b over a");
    has_words(&seen, &["b / a", "fewer than 5 runs", "publish p99", "Files"]);
}

#[test]
fn a_page_with_an_error_or_a_request_would_be_noticed() {
    let Some(program) = cdp::find() else { return };
    let mut browser = Browser::start(&program);
    let path = folder().join("faulty.html");
    let page = "<title>x</title><script>console.error('mine'); nothing.at.all</script>\
                <img src='http://elsewhere.invalid/x.png'>";
    fs::write(&path, page).expect("written");
    let seen = browser.open(&path, "1", &path.with_extension("png"));
    assert_eq!(seen.value, Value::from(1));
    assert!(seen.problems.iter().any(|it| it.contains("mine")), "{seen:?}");
    assert!(seen.problems.iter().any(|it| it.contains("nothing is not defined")), "{seen:?}");
    assert!(seen.requests.iter().any(|it| it.contains("elsewhere.invalid")), "{seen:?}");
    // The policy of our own pages forbids scripts and requests, and that shows, too.
    let ours = html::Page::new("x").finish().replace("</body>", &format!("{page}</body>"));
    fs::write(&path, ours).expect("written");
    let seen = browser.open(&path, "1", &path.with_extension("png"));
    assert!(seen.problems.iter().any(|it| it.contains("Content Security Policy")), "{seen:?}");
    assert!(!seen.problems.iter().any(|it| it.contains("mine")), "{seen:?}");
}
