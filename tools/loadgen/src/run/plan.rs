//! Who sends what to whom, from which load core. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::args::Workload;
use crate::client::admin::Leader;
use crate::load::lane::LanePlan;
use crate::load::schedule::Schedule;

/// The partitions of member `index` of `members` that share `count` partitions: every member has
/// at least one, every partition at least one member.
#[must_use]
pub fn share(index: u32, members: u32, count: u32) -> Vec<i32> {
    if count == 0 || members == 0 {
        return Vec::new();
    }
    let mine: Vec<i32> =
        (index..count).step_by(members as usize).map(|partition| partition as i32).collect();
    if mine.is_empty() { vec![(index % count) as i32] } else { mine }
}

/// Splits `partitions` by leader.
#[must_use]
pub fn by_leader(partitions: &[i32], leaders: &[Leader]) -> BTreeMap<SocketAddr, Vec<i32>> {
    let mut split: BTreeMap<SocketAddr, Vec<i32>> = BTreeMap::new();
    for leader in leaders.iter().filter(|leader| partitions.contains(&leader.partition)) {
        split.entry(leader.addr).or_default().push(leader.partition);
    }
    split
}

/// All producers' lanes, with the rate split so that each producer offers the same and each of its
/// partitions gets the same part of it.
#[must_use]
pub fn lanes(
    workload: &Workload,
    leaders: &[Leader],
    start_ns: u64,
    run: u8,
    idempotent_version: Option<i16>,
    greeting: i16,
    verify: Option<u64>,
) -> Vec<LanePlan> {
    let count = leaders.len() as u32;
    let total = workload.rate.batches_per_second(workload.batch_records, workload.record_bytes);
    let mut lanes = Vec::new();
    for producer in 0..workload.producers {
        let mine = share(producer, workload.producers, count);
        for (leader, partitions) in by_leader(&mine, leaders) {
            let part = partitions.len() as f64 / mine.len() as f64;
            let per_second = total.map(|total| total / f64::from(workload.producers) * part);
            lanes.push((leader, partitions, per_second));
        }
    }
    let lane_count = lanes.len().max(1) as f64;
    lanes
        .into_iter()
        .enumerate()
        .map(|(id, (leader, partitions, per_second))| LanePlan {
            id: (id % usize::from(u16::MAX)) as u16,
            leader,
            partitions,
            schedule: per_second.map_or(Schedule::Closed, |per_second| {
                let phase = id as f64 / lane_count;
                Schedule::open(workload.arrivals, start_ns, per_second, phase, id as u64 + 1)
            }),
            in_flight: workload.in_flight as usize,
            answered: workload.acks.wire() != 0,
            idempotent_version,
            greeting,
            run,
            records: workload.batch_records,
            value_bytes: u64::from(workload.batch_records) * workload.record_bytes as u64,
            verify,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn workload(flags: &str) -> Workload {
        let line = format!("x run --bootstrap a:1 {flags}");
        let cli = crate::args::Cli::try_parse_from(line.split_whitespace()).expect("parses");
        match cli.command {
            crate::args::Command::Run(run) => run.workload,
            _ => unreachable!("asked for run"),
        }
    }

    fn leaders(count: i32, brokers: u16) -> Vec<Leader> {
        (0..count)
            .map(|partition| Leader {
                partition,
                addr: SocketAddr::from(([127, 0, 0, 1], 9000 + partition as u16 % brokers)),
            })
            .collect()
    }

    #[test]
    fn every_partition_has_a_member_and_every_member_a_partition() {
        for (members, count) in [(1, 1), (1, 7), (3, 7), (7, 3), (64, 1000), (5, 5)] {
            let mut seen = vec![0; count as usize];
            for index in 0..members {
                let mine = share(index, members, count);
                assert!(!mine.is_empty());
                mine.iter().for_each(|&partition| seen[partition as usize] += 1);
            }
            assert!(seen.iter().all(|&times| times > 0));
            assert!(members > count || seen.iter().all(|&times| times == 1));
        }
    }

    #[test]
    fn the_lanes_together_offer_the_rate_that_was_asked_for() {
        let workload = workload("--producers 3 --rate 3000records/s --batch-records 10");
        let plans = lanes(&workload, &leaders(7, 2), 0, 1, None, 3, None);
        assert_eq!(plans.len(), 6); // each of three producers meets both leaders
        let mut due = 0;
        for mut plan in plans {
            while plan.schedule.next_ns().is_some_and(|at| at < 10_000_000_000) {
                plan.schedule.advance();
                due += 1;
            }
        }
        // 300 batches a second for 10 s; each lane may round by one.
        assert!((2994..=3006).contains(&due), "{due}");
    }
}
