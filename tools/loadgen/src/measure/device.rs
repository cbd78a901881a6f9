//! What the machine's block devices did, from `/proc/diskstats`: an independent look at what a
//! broker's process says it wrote, and at whether acknowledgements were synced.
//!
//! Not here: what kind of devices they are (`host`). Lives on the collector.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

/// `/proc/diskstats` counts in sectors of 512 bytes, whatever the device's own are.
const SECTOR_BYTES: u64 = 512;

/// What one device did, since it came up or between two readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceUse {
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes completed, after the scheduler merged what it could.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flush requests completed; `None` before kernel 5.5.
    pub flushes: Option<u64>,
    /// Time with at least one request in flight, s.
    pub busy_s: f64,
    /// Time of all requests, in the queue and in flight, s: over `busy_s`, the mean depth.
    pub queued_s: f64,
}

impl DeviceUse {
    /// What happened since `earlier`.
    #[must_use]
    fn since(&self, earlier: &DeviceUse) -> DeviceUse {
        let flushes = self.flushes.zip(earlier.flushes);
        DeviceUse {
            reads: self.reads.saturating_sub(earlier.reads),
            read_bytes: self.read_bytes.saturating_sub(earlier.read_bytes),
            writes: self.writes.saturating_sub(earlier.writes),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            flushes: flushes.map(|(now, then)| now.saturating_sub(then)),
            busy_s: (self.busy_s - earlier.busy_s).max(0.0),
            queued_s: (self.queued_s - earlier.queued_s).max(0.0),
        }
    }

    fn is_idle(&self) -> bool {
        self.reads + self.writes + self.flushes.unwrap_or(0) == 0
    }
}

/// A reading of all whole devices, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceReading(BTreeMap<String, DeviceUse>);

impl DeviceReading {
    /// Reads them now; empty where the kernel does not tell.
    #[must_use]
    pub fn take() -> DeviceReading {
        let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
        // Partitions are not in /sys/block; what they do is counted in their disk's line, too.
        let is_whole = |name: &str| Path::new("/sys/block").join(name).exists();
        DeviceReading::parse(&text, is_whole)
    }

    fn parse(diskstats: &str, is_whole: impl Fn(&str) -> bool) -> DeviceReading {
        let mut devices = BTreeMap::new();
        for line in diskstats.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let Some(&name) = fields.get(2) else { continue };
            // Stacked devices repeat what the ones below them do.
            let repeats = ["loop", "ram", "dm-"].iter().any(|it| name.starts_with(it));
            if repeats || !is_whole(name) {
                continue;
            }
            let count = |idx: usize| fields.get(idx).and_then(|it| it.parse::<u64>().ok());
            let or_none = |idx: usize| count(idx).unwrap_or(0);
            let used = DeviceUse {
                reads: or_none(3),
                read_bytes: or_none(5) * SECTOR_BYTES,
                writes: or_none(7),
                written_bytes: or_none(9) * SECTOR_BYTES,
                busy_s: or_none(12) as f64 / 1e3,
                queued_s: or_none(13) as f64 / 1e3,
                flushes: count(18),
            };
            devices.insert(name.to_owned(), used);
        }
        DeviceReading(devices)
    }

    /// What the devices that were not idle did since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &DeviceReading) -> BTreeMap<String, DeviceUse> {
        let used = self.0.iter().filter_map(|(name, now)| {
            let used = now.since(earlier.0.get(name)?);
            (!used.is_idle()).then(|| (name.clone(), used))
        });
        used.collect()
    }

    /// Whether the kernel counts flushes.
    #[must_use]
    pub fn counts_flushes(&self) -> bool {
        self.0.values().any(|it| it.flushes.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
 254       0 vda 1000 10 80000 900 2000 20 160000 1800 0 1500 2700 5 0 50 1 300 400
 254       1 vda1 990 10 79000 890 1990 20 159000 1790 0 1490 2690 5 0 50 1 0 0
 253       0 dm-0 990 0 79000 890 1990 0 159000 1790 0 1490 2690 5 0 50 1 9 9
   7       0 loop0 5 0 40 1 0 0 0 0 0 1 1 0 0 0 0 99 0
   8       0 sda 7 0 56 1 0 0 0 0 0 1 1 0 0 0 0 0 0
";
    const AFTER: &str = "\
 254       0 vda 1010 10 80160 905 2500 25 180480 2300 0 1900 3900 5 0 50 1 700 800
 254       1 vda1 1000 10 79160 895 2490 25 179480 2290 0 1890 3890 5 0 50 1 0 0
   8       0 sda 7 0 56 1 0 0 0 0 0 1 1 0 0 0 0 0 0
 259       0 nvme9n1 5 0 40 1 0 0 0 0 0 1 1 0 0 0 0 99 0
";

    fn is_whole(name: &str) -> bool {
        name != "vda1"
    }

    #[test]
    fn a_device_is_told_by_the_difference_of_its_counters() {
        let before = DeviceReading::parse(BEFORE, is_whole);
        let used = DeviceReading::parse(AFTER, is_whole).since(&before);
        // Idle, stacked, partial and freshly plugged devices are not in it.
        assert_eq!(used.keys().collect::<Vec<_>>(), ["vda"]);
        let vda = &used["vda"];
        assert_eq!((vda.reads, vda.read_bytes), (10, 160 * 512));
        assert_eq!((vda.writes, vda.written_bytes), (500, 20_480 * 512));
        assert_eq!(vda.flushes, Some(400));
        assert!((vda.busy_s - 0.4).abs() < 1e-9 && (vda.queued_s - 1.2).abs() < 1e-9);
    }

    #[test]
    fn an_old_kernel_counts_no_flushes_and_says_so() {
        let old = DeviceReading::parse("8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n", |_| true);
        assert!(!old.counts_flushes());
        let newer = DeviceReading::parse("8 0 sda 3 2 3 4 5 6 7 8 9 10 11\n", |_| true);
        assert_eq!(newer.since(&old)["sda"].flushes, None);
        assert!(DeviceReading::parse(BEFORE, is_whole).counts_flushes());
    }
}
