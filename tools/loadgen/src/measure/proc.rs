//! The broker's process from the outside: CPU, disk bytes, memory, context switches from `/proc`.

use std::collections::BTreeMap;
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
    /// The most that was ever resident, bytes (a level).
    pub resident_bytes_max: u64,
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
            reading.resident_bytes_max = field(&text, "VmHWM:") * 1024;
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
            resident_bytes_max: self.resident_bytes_max,
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

/// Context switches of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContextSwitches {
    /// A thread had to wait for something and gave up its CPU.
    pub voluntary: u64,
    /// A thread was taken off its CPU for another.
    pub involuntary: u64,
}

/// Context switches so far, by thread: `/proc/<pid>/status` counts those of the first thread only,
/// and what a thread did is forgotten when it ends.
#[derive(Clone, Debug, Default)]
pub struct SwitchReading(BTreeMap<u32, ContextSwitches>);

impl SwitchReading {
    /// Reads all threads of `pid` now.
    #[must_use]
    pub fn take(pid: u32) -> SwitchReading {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let threads = tasks.filter_map(|task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            // A thread may end while we look.
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            Some((thread, parse_switches(&status)))
        });
        SwitchReading(threads.collect())
    }

    /// What the threads that are alive now did since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &SwitchReading) -> ContextSwitches {
        let mut all = ContextSwitches::default();
        for (thread, now) in &self.0 {
            let then = earlier.0.get(thread).copied().unwrap_or_default();
            all.voluntary += now.voluntary.saturating_sub(then.voluntary);
            all.involuntary += now.involuntary.saturating_sub(then.involuntary);
        }
        all
    }
}

fn parse_switches(status: &str) -> ContextSwitches {
    ContextSwitches {
        voluntary: field(status, "voluntary_ctxt_switches:"),
        involuntary: field(status, "nonvoluntary_ctxt_switches:"),
    }
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
    fn switches_are_summed_over_threads_also_over_those_that_are_new() {
        let status = |voluntary: u64, involuntary: u64| {
            parse_switches(&format!(
                "Name:\tshard-0\nVmRSS:\t    1 kB\nvoluntary_ctxt_switches:\t{voluntary}\n\
                 nonvoluntary_ctxt_switches:\t{involuntary}\n"
            ))
        };
        let before = SwitchReading([(1, status(10, 1)), (2, status(500, 50))].into());
        let after = SwitchReading([(1, status(15, 4)), (3, status(7, 2))].into());
        let used = after.since(&before);
        assert_eq!(used, ContextSwitches { voluntary: 5 + 7, involuntary: 3 + 2 });
    }

    #[test]
    fn our_own_sleeps_are_voluntary_switches() {
        let pid = std::process::id();
        let before = SwitchReading::take(pid);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(SwitchReading::take(pid).since(&before).voluntary >= 1);
    }
}
