//! The campaign for the search for saturation: how far do several searches lie apart, and from the
//! truth where it is known?

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::broker::{self, Profile};
use crate::house::{During, Failure, House, step};

/// Records a second that the stand-in takes.
const CAPACITY: f64 = 20_000.0;
/// How far a search may be from it.
const ERROR_MAX: f64 = 0.05;

/// The stand-in's workload: 1,000 batches a second at its capacity. The windows are wide, so that it
/// has work while it, or the generator, waits for a CPU: else the window is the limit that is found.
const WORKLOAD: &str = "--producers 4 --partitions 4 --record-bytes 100 --batch-records 20 \
    --in-flight 100 --warmup 300ms --duration 1500ms";
/// Where the searches begin: far below, far above, beside.
const BEGINNINGS: [&str; 5] = ["4k/s", "60k/s", "19k/s", "21k/s", "max"];

/// Runs `times` searches against the stand-in, or with `flags` against the broker at `address`.
pub fn campaign(
    house: &House,
    times: u32,
    address: Option<&str>,
    flags: &[String],
) -> Result<(), Failure> {
    let programs = broker::build(house, Profile::Release)?;
    let mut found = Vec::new();
    match address {
        Some(address) => {
            for _ in 0..times {
                found.push(search(house, &programs, address, flags)?);
            }
        }
        None => {
            let stand_in = StandIn::start(house, &programs)?;
            for beginning in BEGINNINGS.iter().cycle().take(times as usize) {
                let mut words: Vec<String> =
                    WORKLOAD.split_whitespace().map(str::to_owned).collect();
                words.extend(["--rate".to_owned(), (*beginning).to_owned()]);
                words.extend(flags.iter().cloned());
                found.push(search(house, &programs, &stand_in.address, &words)?);
            }
        }
    }
    step("saturation, records/s");
    println!("{}", spread(&found));
    if address.is_some() {
        return Ok(());
    }
    let off = found.iter().filter(|records| (*records / CAPACITY - 1.0).abs() > ERROR_MAX).count();
    println!("the stand-in's capacity is {CAPACITY:.0}; {off} of {times} searches were 5 % off");
    if off == 0 { Ok(()) } else { Err(Failure::new("the search did not find the capacity")) }
}

/// Records a second that one search found.
fn search(house: &House, programs: &Path, address: &str, flags: &[String]) -> Result<f64, Failure> {
    let mut command = house.command(programs.join("thalweg-bench"));
    command.args(["saturate", "--quiet", "--bootstrap", address]).args(flags);
    println!("$ {command:?}");
    let output = command.stderr(Stdio::inherit()).output().during("thalweg-bench saturate")?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    if !output.status.success() {
        return Err(Failure(format!("the search ended with {}", output.status)));
    }
    found_records(&text).ok_or_else(|| Failure::new("the search tells no rate"))
}

/// From the line `saturation 1.9 MB/s, 19800 records/s (...)`.
fn found_records(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("saturation "))?;
    line.split(" records/s").next()?.rsplit(' ').next()?.parse().ok()
}

fn spread(found: &[f64]) -> String {
    let mut sorted = found.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return String::new() };
    let median = sorted[sorted.len() / 2];
    let each: Vec<String> = found.iter().map(|records| format!("{records:.0}")).collect();
    let width = (most - least) / median * 100.0;
    format!("{}: median {median:.0} [{least:.0}..{most:.0}], {width:.1} % wide", each.join(" "))
}

/// A null broker of known capacity; killed when it goes out of scope.
struct StandIn {
    child: Child,
    address: String,
}

impl StandIn {
    fn start(house: &House, programs: &Path) -> Result<StandIn, Failure> {
        let mut child = house
            .command(programs.join("thalweg-bench"))
            .args(["null-broker", "--listen", "127.0.0.1:0", "--core", "0", "--capacity"])
            .arg(format!("{CAPACITY}/s"))
            .stdout(Stdio::piped())
            .spawn()
            .during("starting the null broker")?;
        let stdout = child.stdout.take();
        let mut stand_in = StandIn { child, address: String::new() };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).during("waiting for the null broker")?;
        }
        let address = line.split(" at ").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.ok_or_else(|| Failure::new("the null broker did not start"))?;
        address.clone_into(&mut stand_in.address);
        Ok(stand_in)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_found_rate_is_read_from_what_the_search_prints() {
        let text =
            "  1.0 MB/s offered\n\nsaturation 1.9 MB/s, 19800 records/s (p99 at most 50 ms)\n";
        assert_eq!(found_records(text), Some(19_800.0));
        assert_eq!(found_records("no rate was held"), None);
        assert!(spread(&[100.0, 98.0, 103.0]).contains("median 100 [98..103], 5.0 % wide"));
    }
}
