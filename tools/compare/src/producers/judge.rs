//! Whether the load generator and another client saw the same.

use super::{ByClient, CLIENTS, Client, Run};

/// Throughput may differ by this part, ...
const THROUGHPUT_PART: f64 = 0.05;
/// ... the p50 by this part and by what the other client adds itself.
const P50_PART: f64 = 0.10;

/// Median, least and most of some runs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of `values`; all 0 if there are none.
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let (len, half) = (values.len(), values.len() / 2);
        let median = if len % 2 == 0 {
            f64::midpoint(at(half.saturating_sub(1)), at(half))
        } else {
            at(half)
        };
        Spread { median, least: at(0), most: at(len.saturating_sub(1)) }
    }

    fn text(&self, digits: usize) -> String {
        let Spread { median, least, most } = self;
        format!("{median:.digits$} [{least:.digits$}..{most:.digits$}]")
    }
}

fn spread(runs: &ByClient<'_>, client: Client, null: bool, of: fn(&Run) -> f64) -> Spread {
    Spread::of(runs.get(&(client, null)).into_iter().flatten().map(|run| of(run)))
}

/// One client's figures.
#[derive(Clone, Copy)]
struct Figures {
    throughput: Spread,
    p50: Spread,
    p99: Spread,
    null_p50: Spread,
    null_p99: Spread,
}

fn figures(runs: &ByClient<'_>, client: Client) -> Figures {
    Figures {
        throughput: spread(runs, client, false, |run| run.mb_per_s),
        p50: spread(runs, client, false, |run| run.p50_us),
        p99: spread(runs, client, false, |run| run.p99_us),
        null_p50: spread(runs, client, true, |run| run.p50_us),
        null_p99: spread(runs, client, true, |run| run.p99_us),
    }
}

/// What `ours` and `other` disagree about. What the other adds itself is what it says of a null
/// broker beyond what we say of it. `resolution_us`: to what it cuts its times. Both that it says of
/// the broker and what it adds itself may be that much more.
fn differences(ours: &Figures, other: &Figures, resolution_us: f64) -> Vec<String> {
    let mut found = Vec::new();
    let ratio = ours.throughput.median / other.throughput.median.max(1e-9);
    if (ratio - 1.0).abs() > THROUGHPUT_PART {
        found.push(format!("throughput differs by {:+.1} %", (ratio - 1.0) * 100.0));
    }
    let overhead = (other.null_p50.median - ours.null_p50.median).max(0.0);
    let beyond = other.p50.median - ours.p50.median;
    let part = P50_PART * other.p50.median;
    if beyond > part + overhead + resolution_us || -beyond > part + resolution_us {
        found.push(format!(
            "p50: {:.0} µs beside {:.0} µs, of which {overhead:.0} µs are the other's own",
            ours.p50.median, other.p50.median
        ));
    }
    let p99 = ours.p99.median;
    let least = other.p99.least - own_p99(ours, other) - resolution_us;
    if p99 < least || p99 > other.p99.most + resolution_us {
        found.push(format!("{}: a difference", tail(ours, other)));
    }
    found
}

/// What the other client adds to p99 itself, as for p50.
fn own_p99(ours: &Figures, other: &Figures) -> f64 {
    (other.null_p99.median - ours.null_p99.median).max(0.0)
}

/// The tails beside each other.
fn tail(ours: &Figures, other: &Figures) -> String {
    let (p99, own) = (ours.p99.median, own_p99(ours, other));
    let spread = other.p99.text(0);
    format!("p99: {p99:.0} µs beside {spread} µs, of which {own:.0} µs are the other's own")
}

/// Prints the table and the verdicts; `true` if there is no difference.
pub(super) fn print(runs: &ByClient<'_>) -> bool {
    let count = runs.get(&(Client::Bench, false)).map_or(0, Vec::len);
    println!("medians [least..most] of {count} runs each\n");
    println!("| client | broker | MB/s | p50 µs | p99 µs | mean request µs |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (null, broker) in [(false, "the broker"), (true, "null broker")] {
        for client in CLIENTS {
            let cell = |of, digits| spread(runs, client, null, of).text(digits);
            println!(
                "| {} | {broker} | {} | {} | {} | {} |",
                client.name(),
                cell(|run| run.mb_per_s, 2),
                cell(|run| run.p50_us, 0),
                cell(|run| run.p99_us, 0),
                cell(|run| run.mean_us.unwrap_or(f64::NAN), 0),
            );
        }
    }
    println!();
    let ours = figures(runs, Client::Bench);
    let mut agrees = true;
    for client in [Client::PerfTest, Client::Librdkafka] {
        let other = figures(runs, client);
        let found = differences(&ours, &other, client.resolution_us());
        agrees &= found.is_empty();
        let verdict = if found.is_empty() {
            format!("agrees ({})", tail(&ours, &other))
        } else {
            found.join("; ")
        };
        println!("{}: {verdict}", client.name());
    }
    agrees
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(value: f64) -> Spread {
        Spread { median: value, least: value * 0.9, most: value * 1.1 }
    }

    fn figures(mb: f64, p50: f64, p99: f64, null_p50: f64) -> Figures {
        let [throughput, p50, p99, null_p50] = [mb, p50, p99, null_p50].map(steady);
        Figures { throughput, p50, p99, null_p50, null_p99: steady(100.0) }
    }

    #[test]
    fn a_tail_that_the_other_client_makes_itself_is_no_difference_and_a_longer_one_of_ours_is() {
        let ours = figures(10.0, 300.0, 1_250.0, 50.0);
        let mut other = figures(10.0, 300.0, 3_000.0, 50.0);
        assert_eq!(differences(&ours, &other, 0.0).len(), 1);
        other.null_p99 = steady(1_900.0);
        assert!(differences(&ours, &other, 0.0).is_empty());
        let ours = figures(10.0, 300.0, 3_500.0, 50.0);
        assert_eq!(differences(&ours, &other, 0.0).len(), 1, "it never excuses ours");
    }

    #[test]
    fn a_time_within_the_resolution_of_the_other_client_is_no_difference_and_one_beyond_it_is() {
        let spread = |least, median, most| Spread { median, least, most };
        let [whole_ms, exact] = [Client::PerfTest, Client::Librdkafka].map(Client::resolution_us);
        // Five runs of 2026-11-21: 6 to 7 ms, of which some 4.7 are its own.
        let mut other = figures(15.0, 1_000.0, 6_000.0, 0.0);
        other.p99 = spread(6_000.0, 6_000.0, 7_000.0);
        other.null_p99 = spread(5_000.0, 5_000.0, 6_000.0);
        let of_ours = |p99| Figures {
            p99: spread(465.0, p99, 2_441.0),
            null_p99: spread(246.0, 289.0, 921.0),
            ..figures(15.0, 158.0, 828.0, 79.0)
        };
        assert!(differences(&of_ours(828.0), &other, whole_ms).is_empty());
        assert!(differences(&of_ours(7_900.0), &other, whole_ms).is_empty());
        for p99 in [280.0, 8_001.0] {
            let found = differences(&of_ours(p99), &other, whole_ms);
            assert!(found.len() == 1 && found[0].contains("p99"), "{p99}: {found:?}");
        }
        // A client that tells microseconds has no such excuse.
        other.p50 = spread(158.0, 158.0, 158.0);
        let found = differences(&of_ours(828.0), &other, exact);
        assert!(found.len() == 1 && found[0].contains("p99"), "{found:?}");
    }

    #[test]
    fn what_the_other_client_adds_itself_is_no_difference() {
        let ours = figures(10.0, 300.0, 900.0, 50.0);
        assert!(differences(&ours, &figures(10.2, 480.0, 930.0, 210.0), 0.0).is_empty());
        let found = differences(&ours, &figures(10.2, 480.0, 930.0, 60.0), 0.0);
        assert_eq!(found.len(), 1, "{found:?}");
        // It never excuses a time of ours that is too long.
        let found = differences(&ours, &figures(10.2, 200.0, 930.0, 210.0), 0.0);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn each_figure_is_judged() {
        let ours = figures(10.0, 300.0, 900.0, 50.0);
        let found = differences(&ours, &figures(11.0, 300.0, 2_000.0, 50.0), 0.0);
        assert!(found[0].contains("throughput") && found[1].contains("p99"), "{found:?}");
    }

    #[test]
    fn a_median_of_few_runs() {
        assert_eq!(Spread::of([3.0, 1.0].into_iter()).median, 2.0);
        assert_eq!(Spread::of([3.0, 1.0, 9.0].into_iter()).median, 3.0);
        assert_eq!(Spread::of(std::iter::empty()).median, 0.0);
    }
}
