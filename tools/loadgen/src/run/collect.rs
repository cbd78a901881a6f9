//! The collector: takes what the load cores send each second, keeps the measured total and a line
//! for each second, and reads the broker's process at both ends of the measured part.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::RunClock;
use crate::load::recorder::{Interval, Window};
use crate::measure::device::{DeviceReading, DeviceUse};
use crate::measure::percentiles::Summary;
use crate::measure::proc::{ContextSwitches, ProcessReading, SwitchReading};
use crate::measure::tally::Tally;
use crate::report::hlog::HistogramLog;
use crate::report::live::LiveLine;

/// A load core that is silent for so long after the deadline will never speak again.
const STUCK_AFTER_NS: u64 = 10_000_000_000;

/// One second of a run, over all load cores.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Seconds since the first send.
    pub second: u64,
    /// Whether it belongs to the measured part.
    pub measured: bool,
    /// Requests that left.
    pub sent_requests: u64,
    /// Records acknowledged.
    pub acked_records: u64,
    /// Bytes of record values acknowledged.
    pub acked_value_bytes: u64,
    /// Records fetched.
    pub fetched_records: u64,
    /// Bytes of batches fetched.
    pub fetched_bytes: u64,
    /// Requests that failed.
    pub failed_requests: u64,
    /// Errors of any kind.
    pub errors: u64,
    /// Response times (from the intended send), where there were any.
    pub response: Option<Summary>,
    /// End-to-end latencies, where there were any.
    pub end_to_end: Option<Summary>,
    /// Part of the busiest load core's time that was work.
    pub busiest_core: f64,
}

/// The broker's process over the measured part.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerUse {
    /// What it used.
    pub process: ProcessReading,
    /// Its context switches, over all threads that were alive at the end.
    pub switches: ContextSwitches,
    /// What the machine's block devices did meanwhile, for whomever.
    pub devices: BTreeMap<String, DeviceUse>,
    /// Flush requests that the machine's block devices completed meanwhile.
    pub device_flushes: Option<u64>,
}

/// Everything that came in.
pub struct Collected {
    /// The measured part, all cores.
    pub total: Tally,
    /// The same in its parts: steps, or before, during and after a catch-up.
    pub parts: Vec<Tally>,
    /// The measured part's counters, core by core.
    pub cores: Vec<Tally>,
    /// Errors of the warm-up and of the end: they are not figures, but they must not be hidden.
    pub outside_errors: u64,
    /// Line by line.
    pub seconds: Vec<Second>,
    /// The broker's process, if it was named and could be read.
    pub broker: Option<BrokerUse>,
}

/// A reading of the broker at one moment.
struct BrokerMark {
    process: ProcessReading,
    switches: SwitchReading,
    devices: DeviceReading,
}

/// A second that not all load cores have reported yet.
#[derive(Default)]
struct Pending {
    /// All that was seen in it.
    tally: Tally,
    /// What of that belongs to the measured time, by its intended time: more than nothing even in
    /// the first second after it.
    measured: Option<Tally>,
    reported: usize,
    busiest: f64,
}

/// The collector at work.
pub struct Collector {
    window: Window,
    clock: RunClock,
    core_count: usize,
    broker_pid: Option<u32>,
    live: LiveLine,
    hlog: Option<HistogramLog>,
    pending: BTreeMap<u64, Pending>,
    collected: Collected,
}

impl Collector {
    /// A collector for `core_count` load cores.
    #[must_use]
    pub fn new(
        window: Window,
        clock: RunClock,
        core_count: usize,
        broker_pid: Option<u32>,
        live: LiveLine,
        hlog: Option<HistogramLog>,
    ) -> Collector {
        let collected = Collected {
            total: Tally::new(),
            parts: Vec::new(),
            cores: (0..core_count).map(|_| Tally::new()).collect(),
            outside_errors: 0,
            seconds: Vec::new(),
            broker: None,
        };
        Collector {
            window,
            clock,
            core_count,
            broker_pid,
            live,
            hlog,
            pending: BTreeMap::new(),
            collected,
        }
    }

    /// Collects until every load core has hung up; `None` if some never does.
    pub fn collect(mut self, intervals: &Receiver<Interval>) -> Option<Collected> {
        let mut marks: Vec<BrokerMark> = Vec::new();
        loop {
            let next_mark_ns = match (self.broker_pid, marks.len()) {
                (Some(_), 0) => self.window.measure_ns,
                (Some(_), 1) => self.window.end_ns,
                _ => u64::MAX,
            };
            let wait_ns = next_mark_ns.saturating_sub(self.clock.now_ns());
            let wait = Duration::from_nanos(wait_ns.min(1_000_000_000));
            match intervals.recv_timeout(wait) {
                Ok(interval) => self.take(interval),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.clock.now_ns() > self.window.deadline_ns + STUCK_AFTER_NS {
                return None;
            }
            if self.clock.now_ns() >= next_mark_ns {
                self.mark(&mut marks);
            }
        }
        if marks.len() == 1 {
            self.mark(&mut marks); // it ended early: everything was read
        }
        if let [before, after] = &marks[..] {
            let devices = after.devices.since(&before.devices);
            let flushes = || devices.values().filter_map(|device| device.flushes).sum();
            self.collected.broker = Some(BrokerUse {
                process: after.process.since(&before.process),
                switches: after.switches.since(&before.switches),
                device_flushes: after.devices.counts_flushes().then(flushes),
                devices,
            });
        }
        while let Some((second, pending)) = self.pending.pop_first() {
            self.finish_second(second, &pending);
        }
        self.live.end();
        if let Some(Err(error)) = self.hlog.take().map(HistogramLog::finish) {
            eprintln!("thalweg-bench: the histogram log is incomplete: {error}");
        }
        Some(self.collected)
    }

    fn mark(&mut self, marks: &mut Vec<BrokerMark>) {
        let Some(pid) = self.broker_pid else { return };
        match ProcessReading::take(pid) {
            Ok(process) => marks.push(BrokerMark {
                process,
                switches: SwitchReading::take(pid),
                devices: DeviceReading::take(),
            }),
            Err(_) => self.broker_pid = None, // it is gone; the report will say so
        }
    }

    fn take(&mut self, interval: Interval) {
        let Interval { core, second, mut warmup, measured } = interval;
        self.collected.outside_errors += warmup.errors.values().sum::<u64>();
        for (part, measured) in measured {
            self.collected.total.merge(&measured);
            if let Some(tally) = self.collected.cores.get_mut(core) {
                tally.counters.merge(&measured.counters);
            }
            let pending = self.pending.entry(second).or_default();
            pending.measured.get_or_insert_with(Tally::new).merge(&measured);
            warmup.merge(&measured);
            let parts = &mut self.collected.parts;
            parts.resize_with(parts.len().max(part + 1), Tally::new);
            parts[part].merge(&measured);
        }
        let busy = warmup.counters.busy_ns as f64;
        let share = busy / (busy + warmup.counters.idle_ns as f64).max(1.0);
        let pending = self.pending.entry(second).or_default();
        pending.tally.merge(&warmup);
        pending.reported += 1;
        pending.busiest = pending.busiest.max(share);
        // A core that ends early stops reporting; the others' later seconds then wait for the end.
        if pending.reported >= self.core_count
            && let Some(pending) = self.pending.remove(&second)
        {
            self.finish_second(second, &pending);
        }
    }

    fn finish_second(&mut self, second: u64, pending: &Pending) {
        let (tally, busiest_core) = (&pending.tally, pending.busiest);
        let counters = &tally.counters;
        let start_ns = self.window.start_ns + second * 1_000_000_000;
        let line = Second {
            second,
            measured: self.window.measures(start_ns),
            sent_requests: counters.sent_requests,
            acked_records: counters.acked_records,
            acked_value_bytes: counters.acked_value_bytes,
            fetched_records: counters.fetched_records,
            fetched_bytes: counters.fetched_bytes,
            failed_requests: counters.failed_requests,
            errors: tally.errors.values().sum(),
            response: Summary::of(&tally.latencies.response),
            end_to_end: Summary::of(&tally.latencies.end_to_end),
            busiest_core,
        };
        self.live.show(&line);
        if let Some(measured) = &pending.measured
            && let Some(hlog) = &mut self.hlog
            && let Err(error) = hlog.second(Duration::from_secs(second), &measured.latencies)
        {
            eprintln!("thalweg-bench: the histogram log ends at second {second}: {error}");
            self.hlog = None;
        }
        self.collected.seconds.push(line);
    }
}
