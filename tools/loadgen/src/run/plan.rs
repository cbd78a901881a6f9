//! Who sends what to whom, from which load core. Pure.
//!
//! A partition goes by its number among all partitions of the run: its place in the list of leaders.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::setup::Ready;
use crate::args::Workload;
use crate::client::admin::Leader;
use crate::load::churn::ChurnPlan;
use crate::load::consumer::{Assigned, ConsumerPlan};
use crate::load::lane::{LanePlan, LaneTarget};
use crate::load::rebalance::RebalancePlan;
use crate::load::recorder::Window;
use crate::load::schedule::Schedule;
use crate::wire::fetch::FetchLimits;
use crate::wire::pool::BatchPool;
use crate::wire::stamp::StampPlaces;

/// Longest wait of a fetch that finds nothing.
const FETCH_WAIT_MS: i32 = 500;

/// What all plans of a run follow from.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// The cluster.
    pub ready: &'a Ready,
    /// The batches.
    pub pool: &'a BatchPool,
    /// The run's parts.
    pub window: Window,
    /// This run's number in its stamps.
    pub run: u8,
    /// Verify mode: the run's number in the marks of its records.
    pub verify: Option<u64>,
}

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

/// Splits the partitions with these numbers by leader.
#[must_use]
pub fn by_leader(ids: &[i32], leaders: &[Leader]) -> BTreeMap<SocketAddr, Vec<i32>> {
    let mut split: BTreeMap<SocketAddr, Vec<i32>> = BTreeMap::new();
    for &id in ids {
        if let Some(leader) = usize::try_from(id).ok().and_then(|at| leaders.get(at)) {
            split.entry(leader.addr).or_default().push(id);
        }
    }
    split
}

/// A lane before its schedule is known.
struct LaneShare {
    leader: SocketAddr,
    targets: Vec<LaneTarget>,
    weights: Option<Vec<f64>>,
    /// Its part of what is offered.
    part: f64,
}

/// All producers' lanes. Without keys each producer offers the same, and each of its partitions
/// gets the same part of it; with keys each partition gets what its keys' probabilities say.
#[must_use]
pub fn lanes(common: &Common<'_>, idempotent_version: Option<i16>) -> Vec<LanePlan> {
    let Common { workload, ready, .. } = *common;
    let count = ready.leaders.len() as u32;
    let mut holders = vec![0u32; ready.leaders.len()];
    for producer in 0..workload.producers {
        share(producer, workload.producers, count).iter().for_each(|&id| holders[id as usize] += 1);
    }
    let mut shares = Vec::new();
    for producer in 0..workload.producers {
        let mine = share(producer, workload.producers, count);
        for (leader, ids) in by_leader(&mine, &ready.leaders) {
            let even = ids.len() as f64 / mine.len() as f64 / f64::from(workload.producers);
            shares.extend(lane_share(common, leader, &ids, &holders, even));
        }
    }
    let lane_count = shares.len().max(1) as f64;
    let plan = |(id, share): (usize, LaneShare)| LanePlan {
        id: (id % usize::from(u16::MAX)) as u16,
        leader: share.leader,
        targets: share.targets,
        weights: share.weights,
        schedule: schedule(common, share.part, id as f64 / lane_count, id as u64),
        in_flight: workload.in_flight as usize,
        answered: workload.acks.wire() != 0,
        idempotent_version,
        txn: None,
        greeting: ready.versions.api_versions,
        run: common.run,
        verify: common.verify,
    };
    shares.into_iter().enumerate().map(plan).collect()
}

/// The lane to `leader` with these partitions; `None` if no key belongs to any of them.
fn lane_share(
    common: &Common<'_>,
    leader: SocketAddr,
    ids: &[i32],
    holders: &[u32],
    even: f64,
) -> Option<LaneShare> {
    let Ready { topics, leaders, .. } = common.ready;
    let (mut targets, mut sums, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for &id in ids {
        let place = &leaders[id as usize];
        let batches = common.pool.of_partition(place.partition);
        if batches.is_empty() {
            continue;
        }
        let weight = common.pool.weight(place.partition).unwrap_or(0.0);
        sum += weight / topics.len() as f64 / f64::from(holders[id as usize].max(1));
        sums.push(sum);
        let topic = (topics.len() > 1).then(|| Arc::from(topics[place.topic as usize].as_str()));
        targets.push(LaneTarget { id, topic, partition: place.partition, batches });
    }
    let keyed = common.pool.weight(0).is_some();
    let part = if keyed { sum } else { even };
    (!targets.is_empty()).then_some(LaneShare {
        leader,
        targets,
        weights: keyed.then_some(sums),
        part,
    })
}

/// A lane's schedule: its `part` of the rates, one after the other.
fn schedule(common: &Common<'_>, part: f64, phase: f64, id: u64) -> Schedule {
    let Common { workload, window, .. } = *common;
    let value_bytes = common.pool.facts().value_bytes_per_batch;
    let rates = workload.rates();
    let (mut steps, mut from_ns, mut end_ns) = (Vec::new(), window.start_ns, window.measure_ns);
    for (idx, step) in rates.iter().enumerate() {
        let Some(total) = step.rate.batches_per_second(workload.batch_records, value_bytes) else {
            return Schedule::Closed;
        };
        end_ns += step.length.as_nanos() as u64;
        let seed = (id + 1) | (idx as u64) << 32;
        let open = Schedule::open(workload.arrivals, from_ns, total * part, phase, seed);
        steps.push((open, end_ns));
        from_ns = end_ns;
    }
    match steps.len() {
        1 => steps.remove(0).0,
        _ => Schedule::steps(steps),
    }
}

/// All readers' consumers.
#[must_use]
pub fn consumers(common: &Common<'_>) -> Vec<ConsumerPlan> {
    let Common { workload, ready, .. } = *common;
    let partition_bytes_max = i32::try_from(workload.fetch_bytes).unwrap_or(i32::MAX);
    let limits = FetchLimits {
        wait_ms: FETCH_WAIT_MS,
        bytes_min: 1,
        bytes_max: partition_bytes_max.max(50 << 20),
        partition_bytes_max,
        read_committed: workload.read_committed,
    };
    let places = match common.verify {
        None => common.pool.stamp_places().to_vec(),
        Some(_) => Vec::new(),
    };
    let mut plans = Vec::new();
    for consumer in 0..workload.consumers {
        let mine = share(consumer, workload.consumers, ready.leaders.len() as u32);
        for (leader, ids) in by_leader(&mine, &ready.leaders) {
            plans.push(ConsumerPlan {
                leader,
                topics: assigned(ready, &ids),
                limits,
                greeting: ready.versions.api_versions,
                stamps: StampPlaces { run: common.run, places: places.clone() },
                timed: workload.producers > 0,
                verify: common.verify,
            });
        }
    }
    let readers = workload.fan_out.max(1) as usize;
    let count = plans.len() * readers;
    plans.into_iter().cycle().take(count).collect()
}

fn assigned(ready: &Ready, ids: &[i32]) -> Vec<(String, Vec<Assigned>)> {
    let topic = |id: i32| ready.leaders[id as usize].topic as usize;
    let of_topic = |ids: &[i32]| {
        let partitions = ids.iter().map(|&id| Assigned {
            id,
            partition: ready.leaders[id as usize].partition,
            from: ready.offsets.get(&id).copied().unwrap_or(0),
        });
        (ready.topics[topic(ids[0])].clone(), partitions.collect())
    };
    ids.chunk_by(|&a, &b| topic(a) == topic(b)).map(of_topic).collect()
}

/// Each load core's part of the churn.
#[must_use]
pub fn churn(common: &Common<'_>, cores: usize) -> Vec<Option<ChurnPlan>> {
    let Common { workload, ready, window, .. } = *common;
    let mut brokers: Vec<SocketAddr> = ready.leaders.iter().map(|leader| leader.addr).collect();
    brokers.sort_unstable();
    brokers.dedup();
    let plan = |core: usize| {
        let per_second = workload.churn / cores as f64;
        let phase = core as f64 / cores as f64;
        let seed = core as u64 + 0xc1_0000;
        let schedule = Schedule::open(workload.arrivals, window.start_ns, per_second, phase, seed);
        (workload.churn > 0.0).then(|| ChurnPlan {
            dialer: ready.dialer.clone(),
            brokers: brokers.clone(),
            schedule,
            greeting: ready.versions.api_versions,
        })
    };
    (0..cores).map(plan).collect()
}

/// The group whose rebalances are measured, if there is one.
#[must_use]
pub fn rebalances(common: &Common<'_>) -> Option<RebalancePlan> {
    let Common { workload, ready, .. } = *common;
    let (coordinator, versions) = ready.group?;
    Some(RebalancePlan {
        dialer: ready.dialer.clone(),
        coordinator,
        versions,
        greeting: ready.versions.api_versions,
        group: ready.topics[0].clone(),
        topics: ready.topics.clone(),
        partitions: (ready.leaders.len() / ready.topics.len().max(1)) as u32,
        members: workload.group_members,
        every: workload.rebalance_every,
        heartbeat: workload.heartbeat,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::admin::HotVersions;
    use crate::client::dial::Dialer;
    use crate::workload::file::parse;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window =
        Window { start_ns: 0, measure_ns: 0, end_ns: 10 * SECOND, deadline_ns: 20 * SECOND };

    fn ready(topics: u32, partitions: i32, brokers: u16) -> Ready {
        let leader = |topic, partition| Leader {
            topic,
            partition,
            addr: SocketAddr::from(([127, 0, 0, 1], 9000 + partition as u16 % brokers)),
        };
        Ready {
            dialer: Dialer::default(),
            encryption: None,
            versions: HotVersions {
                produce: 9,
                fetch: 12,
                init_producer_id: None,
                transactions: None,
                api_versions: 3,
            },
            topics: (0..topics).map(|topic| format!("t-{topic:06}")).collect(),
            leaders: (0..topics)
                .flat_map(|topic| (0..partitions).map(move |part| leader(topic, part)))
                .collect(),
            offsets: BTreeMap::new(),
            group: None,
            topic_configs: BTreeMap::new(),
            broker_configs: BTreeMap::new(),
            features: BTreeMap::new(),
        }
    }

    /// What the plans of a workload are, for `check` to look at.
    fn with(text: &str, ready: &Ready, check: impl FnOnce(&Common<'_>)) {
        let workload = parse(text).expect("a workload").remove(0).settled();
        let pool = BatchPool::build(&workload).expect("a pool");
        let (workload, pool) = (&workload, &pool);
        check(&Common { workload, ready, pool, window: WINDOW, run: 1, verify: None });
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

    fn due(plans: Vec<LanePlan>, end_ns: u64) -> u64 {
        let mut due = 0;
        for mut plan in plans {
            while plan.schedule.next_ns().is_some_and(|at| at < end_ns) {
                plan.schedule.advance();
                due += 1;
            }
        }
        due
    }

    #[test]
    fn the_lanes_together_offer_the_rate_that_was_asked_for() {
        let text = "producers = 3\nrate = \"3000records/s\"\nbatch_records = 10";
        with(text, &ready(1, 7, 2), |common| {
            let plans = lanes(common, None);
            assert_eq!(plans.len(), 6); // each of three producers meets both leaders
            // 300 batches a second for 10 s; each lane may round by one.
            assert!((2994..=3006).contains(&due(plans, 10 * SECOND)));
        });
    }

    #[test]
    fn with_keys_each_partition_gets_what_its_keys_weigh_and_all_get_the_rate() {
        for producers in [1, 3, 11] {
            let text = format!(
                "producers = {producers}\nrate = \"5000records/s\"\nbatch_records = 5\n\
                 partitions = 7\nkeys = \"zipf:1.2\"\nkey_count = 100\ntopics = 2"
            );
            with(&text, &ready(2, 7, 2), |common| {
                let plans = lanes(common, None);
                let mut parts = [0.0; 14];
                for plan in &plans {
                    let sums = plan.weights.as_ref().expect("keys decide");
                    let mut before = 0.0;
                    for (target, sum) in plan.targets.iter().zip(sums) {
                        parts[target.id as usize] += sum - before;
                        before = *sum;
                        let topic = if target.id < 7 { "t-000000" } else { "t-000001" };
                        assert_eq!(target.topic.as_deref(), Some(topic));
                    }
                }
                for (id, part) in parts.iter().enumerate() {
                    let weight = common.pool.weight(id as i32 % 7).expect("keys decide") / 2.0;
                    assert!((part - weight).abs() < 1e-9, "{producers} producers, {id}");
                }
                let lanes = plans.len() as u64;
                assert!(due(plans, 10 * SECOND).abs_diff(10_000) <= lanes, "{producers}");
            });
        }
    }

    #[test]
    fn steps_change_the_rate_of_all_lanes_together() {
        let text =
            "producers = 3\nsteps = [\"100records/s:2s\", \"1000records/s:8s\"]\nbatch_records = 1";
        with(text, &ready(1, 3, 1), |common| {
            assert!(due(lanes(common, None), 2 * SECOND).abs_diff(200) <= 3);
            assert!(due(lanes(common, None), 10 * SECOND).abs_diff(8_200) <= 6);
        });
    }

    #[test]
    fn every_reader_has_every_partition_once() {
        let text = "consumers = 2\nfan_out = 3\ntopics = 2\npartitions = 5";
        with(text, &ready(2, 5, 2), |common| {
            let mut seen = [0; 10];
            for plan in consumers(common) {
                for (topic, partitions) in &plan.topics {
                    for it in partitions {
                        assert_eq!(*topic, common.ready.topics[it.id as usize / 5]);
                        assert_eq!(it.partition, it.id % 5);
                        seen[it.id as usize] += 1;
                    }
                }
            }
            assert_eq!(seen, [3; 10]);
        });
    }

    #[test]
    fn churn_is_shared_by_the_cores_and_meets_every_broker() {
        with("churn = 100.0", &ready(1, 4, 2), |common| {
            let mut due = 0;
            for plan in churn(common, 3) {
                let mut plan = plan.expect("there is churn");
                assert_eq!(plan.brokers.len(), 2);
                while plan.schedule.next_ns().is_some_and(|at| at < 10 * SECOND) {
                    plan.schedule.advance();
                    due += 1;
                }
            }
            assert!((997..=1003).contains(&due), "{due}");
        });
        with("churn = 0.0", &ready(1, 4, 2), |common| {
            assert!(churn(common, 2).iter().all(Option::is_none));
        });
    }
}
