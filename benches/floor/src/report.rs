//! What a run says at its end: a small table, or JSON.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::meter::Window;

/// Nanoseconds up to a minute, to three digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("bounds that a histogram takes")
}

/// What others may take of a machine that is called quiet.
const QUIET_CORES: f64 = 0.15;

/// Figures in the order in which they are shown.
#[derive(Debug)]
pub struct Report {
    what: &'static str,
    flags: Value,
    figures: Vec<(String, f64)>,
    notes: Vec<String>,
}

impl Report {
    pub fn new(what: &'static str, flags: &impl Serialize) -> Report {
        let flags = serde_json::to_value(flags).unwrap_or_default();
        Report { what, flags, figures: Vec::new(), notes: Vec::new() }
    }

    /// A figure; its name ends with its unit.
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.push((name.to_owned(), value));
    }

    /// Something that the reader of the figures must know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The value of a figure.
    #[cfg(test)]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    /// Rates and costs of the measured time.
    pub fn window(&mut self, window: &Window) {
        let Window { seconds, frames, bytes, server_cpu, client_cpu, foreign_cpu, device } =
            *window;
        let per = |value: f64, of: f64| if of > 0.0 { value / of } else { 0.0 };
        self.figure("seconds", seconds);
        self.figure("frames", frames as f64);
        self.figure("frames_per_s", per(frames as f64, seconds));
        self.figure("mb_per_s", per(bytes as f64 / 1e6, seconds));
        self.figure("server_core_s_per_gb", per(server_cpu, bytes as f64 / 1e9));
        self.figure("server_cpu_us_per_frame", per(server_cpu * 1e6, frames as f64));
        self.figure("server_cores", per(server_cpu, seconds));
        self.figure("client_cores", per(client_cpu, seconds));
        self.figure("foreign_cores", per(foreign_cpu, seconds));
        if per(foreign_cpu, seconds) > QUIET_CORES {
            self.note("this machine was not quiet: others took part of its cores");
        }
        let Some(device) = device else {
            self.note("the file is on no block device: what was written is not known");
            return;
        };
        self.figure("device_written_per_byte", per(device.written_bytes as f64, bytes as f64));
        self.figure("device_read_per_byte", per(device.read_bytes as f64, bytes as f64));
        self.figure("device_flushes", device.flushes as f64);
    }

    /// Percentiles in microseconds; those that rest on less than 20 samples are left out.
    pub fn latency(&mut self, name: &str, histogram: &Histogram<u64>) {
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)]
        {
            if histogram.len() as f64 * (1.0 - quantile) >= 20.0 {
                let value = histogram.value_at_quantile(quantile);
                self.figure(&format!("{name}_{label}_us"), value as f64 / 1e3);
            }
        }
        self.figure(&format!("{name}_max_us"), histogram.max() as f64 / 1e3);
    }

    pub fn json(&self) -> String {
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let report = json!({
            "program": "thalweg-floor",
            "version": env!("CARGO_PKG_VERSION"),
            "what": self.what,
            "flags": self.flags,
            "figures": figures,
            "notes": self.notes,
        });
        format!("{report:#}")
    }

    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.what);
        for (name, value) in &self.figures {
            let decimals = match value.abs() {
                large if large >= 1000.0 || value.fract() == 0.0 => 0,
                large if large >= 10.0 => 1,
                _ => 3,
            };
            // A String takes everything.
            let _ = writeln!(text, "  {name:<26} {value:>14.decimals$}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        text
    }
}
