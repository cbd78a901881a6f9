//! The live line: one each second on standard error.

use std::time::Duration;

use crate::run::collect::Second;

/// Shows a run while it goes on.
pub struct LiveLine {
    enabled: bool,
    last_second: u64,
}

impl LiveLine {
    /// A live line for a run of `length`.
    #[must_use]
    pub fn new(enabled: bool, length: Duration) -> LiveLine {
        LiveLine { enabled, last_second: length.as_secs() }
    }

    /// Shows one second.
    pub fn show(&mut self, second: &Second) {
        // What trickles in behind the last second is in the report, not worth a line.
        if self.enabled && second.second < self.last_second.max(1) {
            eprintln!("{}", render(second));
        }
    }

    /// The run is over.
    pub fn end(&mut self) {
        self.enabled = false;
    }
}

fn render(second: &Second) -> String {
    let phase = if second.measured { "" } else { " warm-up" };
    let mut line = format!("{:>4}s{phase}", second.second + 1);
    if second.sent_requests > 0 || second.acked_records > 0 {
        line.push_str(&format!(
            "  acked {:.1} MB/s {} rec/s",
            second.acked_value_bytes as f64 / 1e6,
            count(second.acked_records)
        ));
    }
    if let Some(response) = &second.response {
        line.push_str(&format!(
            "  p50 {} p99 {} max {}",
            micros(response.us("p50").unwrap_or(0.0)),
            micros(response.us("p99").unwrap_or(0.0)),
            micros(response.max_us)
        ));
    }
    if second.fetched_records > 0 {
        line.push_str(&format!(
            "  read {:.1} MB/s {} rec/s",
            second.fetched_bytes as f64 / 1e6,
            count(second.fetched_records)
        ));
    }
    if let Some(end_to_end) = &second.end_to_end {
        line.push_str(&format!("  e2e p99 {}", micros(end_to_end.us("p99").unwrap_or(0.0))));
    }
    line.push_str(&format!("  core {:.0} %", second.busiest_core * 100.0));
    if second.failed_requests + second.errors > 0 {
        line.push_str(&format!("  FAILED {} (errors {})", second.failed_requests, second.errors));
    }
    line
}

/// A time in the unit that suits it.
#[must_use]
pub fn micros(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e5 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A count in thousands or millions where it is long.
#[must_use]
pub fn count(count: u64) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=9_999_999 => format!("{:.1} k", count as f64 / 1e3),
        _ => format!("{:.2} M", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_are_short_and_carry_their_unit() {
        assert_eq!(micros(87.4), "87 µs");
        assert_eq!(micros(1_234.0), "1.23 ms");
        assert_eq!(micros(123_456.0), "123 ms");
        assert_eq!(micros(12_345_678.0), "12.35 s");
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(123_456), "123.5 k");
        assert_eq!(count(12_345_678), "12.35 M");
    }
}
