//! The search for the highest rate that is held, against a broker of known capacity.

use std::net::SocketAddr;

use clap::Parser;
use thalweg_bench::args::{Cli, Command};
use thalweg_bench::null_broker::{NullOptions, start};
use thalweg_bench::run;
use thalweg_bench::saturate::{Saturation, find};

/// Records a second that the stand-in takes.
const CAPACITY: f64 = 20_000.0;

fn search(addr: SocketAddr) -> Saturation {
    let cpu = *run::allowed_cpus().last().expect("a CPU");
    let line = format!(
        "x saturate --bootstrap {addr} --cores {cpu} --idle park --quiet --producers 4 \
         --partitions 4 --record-bytes 100 --batch-records 20 --in-flight 100 --rate 9k/s --warmup 200ms \
         --duration 1s --p99-max 1s --delay-max 1s"
    );
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("flags");
    let Command::Saturate(args) = cli.command else { panic!("not a search") };
    find(&args, |step| eprintln!("{step:?}")).expect("the search takes place")
}

/// Five of five are the campaign's, on a quiet machine (`cargo dev saturation`). Here others may have
/// the machine for longer than a step takes, and a step that was disturbed twice proves nothing.
#[test]
fn the_search_finds_the_capacity_of_a_broker_of_known_capacity() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = NullOptions { capacity: Some(CAPACITY), ..NullOptions::default() };
    let addr = start(run::allowed_cpus()[0], listen, options).expect("the null broker starts");
    let records = |found: &Saturation| found.saturation_records_per_s.unwrap_or(0.0);
    let within = |found: &Saturation| (records(found) / CAPACITY - 1.0).abs() < 0.05;
    let mut found = search(addr);
    for _ in 0..2 {
        if !within(&found) {
            found = search(addr);
        }
    }
    let records = records(&found);
    assert!(within(&found), "{records} records/s of {CAPACITY}");
    // The curve: from a tenth of it upwards, latency with each step.
    let lowest = found.steps.first().expect("steps");
    assert!(lowest.offered_mb_per_s < 0.11 * records * 100.0 / 1e6);
    let held = found.steps.iter().filter(|step| step.not_held.is_none());
    assert!(held.count() >= 6);
    assert!(found.steps.iter().all(|step| step.publish.is_some()));
}
