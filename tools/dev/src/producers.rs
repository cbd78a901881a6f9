//! thalweg-bench beside the producers that people use: one Kafka and one null broker on CPU 0, every
//! client on CPU 1.

use std::process::{Child, Stdio};

use crate::broker::{self, Profile, free_port};
use crate::house::{During, Failure, House, run, step};
use crate::kafka::Kafka;
use crate::setup;

/// Warms Kafka up with the workload that is measured, then pins it and measures.
pub fn compare(house: &House, rounds: u32) -> Result<(), Failure> {
    let programs = broker::build(house, Profile::Release)?;
    let kafka = Kafka::start(house)?;
    let bench = programs.join("thalweg-bench");
    step("warming Kafka up");
    run(house
        .command(&bench)
        .args(["run", "--quiet", "--bootstrap", kafka.address(), "--batch-records", "15"])
        .args(["--rate", "30MB/s", "--warmup", "0s", "--duration", "90s"]))?;
    run(house.command("taskset").args(["-apc", "0", &kafka.pid().to_string()]))?;
    let null = format!("127.0.0.1:{}", free_port()?);
    let child = house
        .command(&bench)
        // Parked: it shares its core with Kafka, of which only one has work at a time.
        .args(["null-broker", "--core", "0", "--idle", "park", "--listen", &null])
        .stdout(Stdio::null())
        .spawn()
        .during("starting the null broker")?;
    let _ended_with_us = Killed(child);
    let rounds_in = house.cache("producers.json");
    let _ = std::fs::remove_file(&rounds_in);
    step("the comparison");
    run(house
        .command(programs.join("thalweg-compare"))
        .args(["producers", "--broker", kafka.address(), "--null", &null, "--bench"])
        .arg(&bench)
        .arg("--libs")
        .arg(setup::kafka_libs(house))
        .args(["--rounds", &rounds.to_string(), "--rounds-in"])
        .arg(rounds_in))
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
