//! The broker's process from the outside: CPU and disk bytes from `/proc`.

use std::fs;
use std::io;

use serde::Serialize;

use crate::units::parse_cpus;

/// `/proc` counts CPU in ticks of 1/100 s on every Linux (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ProcessReading {
    /// CPU in user mode, all threads, s.
    pub user_s: f64,
    /// CPU in the kernel for this process, s.
    pub system_s: f64,
    /// Bytes it caused to be read from storage.
    pub read_bytes: u64,
    /// Bytes it caused to be sent to storage (page-cache writes count when made dirty).
    pub write_bytes: u64,
    /// Resident memory, bytes (a level, not a count).
    pub resident_bytes: u64,
    /// Threads (a level).
    pub threads: u64,
}

impl ProcessReading {
    /// Reads process `pid` now. Disk bytes are 0 where `/proc/<pid>/io` is not ours to read.
    pub fn take(pid: u32) -> io::Result<ProcessReading> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let mut reading = parse_stat(&stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable stat"))?;
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/io")) {
            reading.read_bytes = field(&text, "read_bytes:");
            reading.write_bytes = field(&text, "write_bytes:");
        }
        if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/status")) {
            reading.resident_bytes = field(&text, "VmRSS:") * 1024;
        }
        Ok(reading)
    }

    /// CPU seconds in all.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// What happened since `earlier`; levels stay as they are now.
    #[must_use]
    pub fn since(&self, earlier: &ProcessReading) -> ProcessReading {
        ProcessReading {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            write_bytes: self.write_bytes.saturating_sub(earlier.write_bytes),
            resident_bytes: self.resident_bytes,
            threads: self.threads,
        }
    }
}

/// Fields 14, 15 (CPU) and 20 (threads). The name in field 2 may hold spaces and parentheses, so
/// counting starts behind the last one.
fn parse_stat(stat: &str) -> Option<ProcessReading> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |idx: usize| fields.get(idx)?.parse::<u64>().ok();
    Some(ProcessReading {
        user_s: ticks(11)? as f64 / TICKS_PER_SECOND,
        system_s: ticks(12)? as f64 / TICKS_PER_SECOND,
        threads: ticks(17)?,
        ..ProcessReading::default()
    })
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The CPUs on which the threads that do `pid`'s work may run. Threads with less than a twentieth
/// of its CPU time (the one that waits for signals, say) do not count: they are rarely pinned.
#[must_use]
pub fn working_cpus(pid: u32) -> Option<Vec<usize>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let path = entry.path();
        // A thread may end while we look.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        threads.push((parse_stat(&stat)?.cpu_s(), parse_cpus(allowed.trim()).ok()?));
    }
    let all: f64 = threads.iter().map(|(cpu_s, _)| cpu_s).sum();
    let mut cpus: Vec<usize> =
        threads.into_iter().filter(|(cpu_s, _)| *cpu_s * 20.0 >= all).flat_map(|it| it.1).collect();
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// Completed flush requests over all block devices that are no partitions of another: an
/// independent look at whether acknowledgements were synced. `None` where the kernel does not say.
#[must_use]
pub fn device_flushes() -> Option<u64> {
    parse_flushes(&fs::read_to_string("/proc/diskstats").ok()?)
}

fn parse_flushes(diskstats: &str) -> Option<u64> {
    let mut flushes = None;
    for line in diskstats.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields.get(2)?;
        if name.starts_with("loop") || name.starts_with("ram") || name.starts_with("dm-") {
            continue;
        }
        // Field 19 (kernel 5.5 and later): flush requests completed; partitions have none.
        if let Some(count) = fields.get(18).and_then(|count| count.parse::<u64>().ok()) {
            flushes = Some(flushes.unwrap_or(0) + count);
        }
    }
    flushes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 9 0 100 0 0";
        let reading = parse_stat(stat).expect("parses");
        assert_eq!((reading.user_s, reading.system_s, reading.threads), (2.5, 0.75, 9));
    }

    #[test]
    fn our_own_process_reads_and_its_cpu_grows() {
        let pid = std::process::id();
        let before = ProcessReading::take(pid).expect("own /proc");
        let mut spin = 0u64;
        let until = std::time::Instant::now() + std::time::Duration::from_millis(60);
        while std::time::Instant::now() < until {
            spin = spin.wrapping_add(1);
        }
        assert!(spin > 0);
        let used = ProcessReading::take(pid).expect("own /proc").since(&before);
        assert!(used.cpu_s() >= 0.01 && used.resident_bytes > 0, "{used:?}");
    }

    #[test]
    fn flushes_of_whole_devices_are_summed() {
        let text = "254 0 vda 1 0 2 3 4 5 6 7 0 8 9 0 0 0 0 11 12\n\
                    7 0 loop0 1 0 2 3 4 5 6 7 0 8 9 0 0 0 0 99 12\n\
                    254 1 vda1 1 0 2 3 4 5 6 7 0 8 9 0 0 0 0 0 0\n";
        assert_eq!(parse_flushes(text), Some(11));
        assert_eq!(parse_flushes("8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n"), None);
    }
}
