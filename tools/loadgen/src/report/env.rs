//! Where a run took place: enough to judge a figure and to run it again.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use crate::units::parse_cpus;

/// Kernel settings that are kept, and where they are.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm.dirty_ratio", "/proc/sys/vm/dirty_ratio"),
    ("vm.dirty_background_ratio", "/proc/sys/vm/dirty_background_ratio"),
    ("vm.dirty_expire_centisecs", "/proc/sys/vm/dirty_expire_centisecs"),
    ("vm.dirty_writeback_centisecs", "/proc/sys/vm/dirty_writeback_centisecs"),
    ("vm.swappiness", "/proc/sys/vm/swappiness"),
    ("transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled"),
];

/// The machine and the command.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// This tool's version.
    pub tool_version: &'static str,
    /// The commit it was built from, `-dirty` if something was changed beside it; empty outside of
    /// a clone.
    pub tool_commit: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs of the machine that are online.
    pub cpus_online: usize,
    /// CPUs this process may use.
    pub cpus_allowed: usize,
    /// Frequency governor of CPU 0, where there is one.
    pub governor: Option<String>,
    /// Machine memory in bytes.
    pub memory_bytes: u64,
    /// Kernel settings that decide when dirty pages are written, and how memory is mapped.
    pub kernel_settings: BTreeMap<&'static str, String>,
    /// Unix time when the report was made, s.
    pub reported_at_s: u64,
    /// The command line.
    pub command: Vec<String>,
}

impl Environment {
    /// Looks around.
    #[must_use]
    pub fn capture() -> Environment {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let value_of = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
                .unwrap_or_default()
        };
        let memory = value_of(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 =
            memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Environment {
            tool_version: env!("CARGO_PKG_VERSION"),
            tool_commit: env!("THALWEG_BENCH_COMMIT"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: value_of(&cpuinfo, "model name"),
            cpus_online: parse_cpus(read("/sys/devices/system/cpu/online").trim())
                .map_or(0, |cpus| cpus.len()),
            cpus_allowed: std::thread::available_parallelism().map_or(1, usize::from),
            governor: (!governor.is_empty()).then(|| governor.trim().to_owned()),
            memory_bytes: memory_kib * 1024,
            kernel_settings: KERNEL_SETTINGS
                .iter()
                .map(|&(name, path)| (name, read(path).trim().to_owned()))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            reported_at_s: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            command: std::env::args().collect(),
        }
    }
}
