//! Sentences that the table, the pages and the charts share.

use super::{Report, Target};
use crate::args::Workload;

/// What was run, in one line.
#[must_use]
pub fn terms(workload: &Workload, target: &Target) -> String {
    let rate = match &workload.steps[..] {
        [] => workload.rate.to_string(),
        steps => steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    format!("{}, {rate}", terms_without_rate(workload, target))
}

/// What was run but for the rate, in one line.
#[must_use]
pub fn terms_without_rate(workload: &Workload, target: &Target) -> String {
    let mut parts = Vec::new();
    let many = |count: u32, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    };
    if workload.producers > 0 {
        parts.push(many(workload.producers, "producer"));
    }
    if workload.consumers > 0 {
        parts.push(many(workload.consumers, "consumer"));
    }
    if workload.fan_out > 1 {
        parts.push(format!("for each of {} readers", workload.fan_out));
    }
    if workload.topics > 1 {
        parts.push(many(workload.topics, "topic"));
    }
    parts.push(many(workload.partitions, "partition"));
    if workload.producers > 0 {
        let records = many(workload.batch_records, "record");
        let bytes = match workload.record_bytes.fixed() {
            Some(bytes) => format!("{bytes} B"),
            None => format!("{} bytes", workload.record_bytes),
        };
        parts.push(format!("batches of {records} of {bytes}"));
        if workload.compression.name() != "none" {
            parts.push(workload.compression.name().to_owned());
        }
        parts.push(durability(workload, target));
    }
    parts.join(", ")
}

/// What an acknowledgement meant, as the flags and the broker say.
#[must_use]
pub fn durability(workload: &Workload, target: &Target) -> String {
    let acks = match workload.acks.wire() {
        -1 => "acks=all".to_owned(),
        other => format!("acks={other}"),
    };
    let every = target.topic_configs.get("flush.messages").and_then(|it| it.parse::<u64>().ok());
    let meaning = match every {
        Some(1) => "synced before the answer (flush.messages=1)".to_owned(),
        // Kafka's default is the greatest number there is.
        Some(count) if count > u64::from(u32::MAX) => "answered before it is synced".to_owned(),
        Some(count) => format!("synced every {count} records"),
        None => "the broker does not say when it syncs".to_owned(),
    };
    format!("{acks}, {meaning}")
}

/// Flushes that the devices completed, beside the requests that were acknowledged.
#[must_use]
pub fn flushes(report: &Report) -> Option<String> {
    let flushes = report.broker.as_ref()?.used.device_flushes?;
    let acked = report.counters.acked_requests;
    Some(format!("{flushes} device flushes for {acked} requests"))
}

/// Bytes in the unit that suits them.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        it if it < 1e4 => format!("{it} B"),
        it if it < 1e7 => format!("{:.1} kB", it / 1e3),
        it if it < 1e10 => format!("{:.1} MB", it / 1e6),
        it => format!("{:.1} GB", it / 1e9),
    }
}

/// A moment as `2026-11-21 14:03:07 UTC`.
#[must_use]
pub fn moment(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 0000-03-01, then the civil calendar (Howard Hinnant's algorithm).
    let day = days + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year}-{month:02}-{date:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_sizes_read_as_people_write_them() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(moment(1_795_269_787), "2026-11-21 14:03:07 UTC");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(25_768_361_984), "25.8 GB");
    }
}
