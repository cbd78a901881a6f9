//! Fetch and OffsetForLeaderEpoch.

use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use uuid::Uuid;

use super::BASE_TIMESTAMP;
use crate::batch::Batch;
use crate::differential::script::Script;

/// A topic to fetch from, with all that a version may ask for.
struct Target {
    name: TopicName,
    id: Uuid,
    epoch: i32,
}

pub fn run(script: &mut Script) {
    let target = seed(script);
    versions(script, &target);
    offsets(script, &target);
    limits(script, &target);
    epochs(script, &target);
    sessions(script, &target);
    what_produce_stored(script);
    leader_epochs(script, &target);
}

/// Ten batches of two records.
fn seed(script: &mut Script) -> Target {
    let (id, epoch) = script.create("fetch", 2, &[]);
    for index in 0..10 {
        let value = format!("value {index}");
        let batch = Batch::of(BASE_TIMESTAMP + index, &[value.as_bytes(), b"second"]);
        script.seed("fetch", &batch);
    }
    Target { name: script.topic("fetch"), id, epoch }
}

fn request(version: i16, target: &Target, partition: FetchPartition) -> FetchRequest {
    let mut topic = FetchTopic::default().with_partitions(vec![partition]);
    topic = if version >= 13 {
        topic.with_topic_id(target.id)
    } else {
        topic.with_topic(target.name.clone())
    };
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(200)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(index)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

fn versions(script: &mut Script, target: &Target) {
    for version in 4..=17 {
        for (what, partition) in [
            ("from 0", partition(0, 0)),
            ("from the middle of a batch", partition(0, 7)),
            ("at the end", partition(0, 20)),
            ("an empty partition", partition(1, 0)),
            ("behind the end", partition(0, 21)),
            ("partition 9", partition(9, 0)),
        ] {
            let asked = request(version, target, partition);
            script.ask(&format!("fetch v{version}, {what}"), version, &asked);
        }
        let stranger = Target { name: script.topic("missing"), id: Uuid::from_u128(7), epoch: -1 };
        let asked = request(version, &stranger, partition(0, 0));
        script.ask(&format!("fetch v{version}, missing topic"), version, &asked);
        let committed = request(version, target, partition(0, 0)).with_isolation_level(1);
        script.ask(&format!("fetch v{version}, read committed"), version, &committed);
    }
    let zero = Target { name: target.name.clone(), id: Uuid::nil(), epoch: -1 };
    script.ask("fetch v13, zero id", 13, &request(13, &zero, partition(0, 0)));
}

fn offsets(script: &mut Script, target: &Target) {
    for offset in [-1, -2, i64::MIN, 21, i64::MAX] {
        let asked = request(12, target, partition(0, offset));
        script.ask(&format!("fetch v12, offset {offset}"), 12, &asked);
    }
    for index in [-1, i32::MAX] {
        let asked = request(12, target, partition(index, 0));
        script.ask(&format!("fetch v12, partition {index}"), 12, &asked);
    }
    let mut twice = request(12, target, partition(0, 0));
    twice.topics[0].partitions.push(partition(0, 18));
    script.ask("fetch v12, a partition twice", 12, &twice);
    let mut twice = request(12, target, partition(0, 18));
    twice.topics.push(twice.topics[0].clone());
    script.ask("fetch v12, a topic twice", 12, &twice);
    let isolation = request(12, target, partition(0, 18)).with_isolation_level(7);
    script.ask("fetch v12, isolation level 7", 12, &isolation);
    let nothing = request(12, target, partition(0, 0)).with_topics(Vec::new());
    script.ask("fetch v12, no topics", 12, &nothing.with_max_wait_ms(50));
}

fn limits(script: &mut Script, target: &Target) {
    for bytes in [0, -1, 1, 100, 200, i32::MAX] {
        let small = partition(0, 0).with_partition_max_bytes(bytes);
        let asked = request(12, target, small);
        script.ask(&format!("fetch v12, partition max bytes {bytes}"), 12, &asked);
        let mut asked = request(12, target, partition(0, 0)).with_max_bytes(bytes);
        asked.topics[0].partitions.push(partition(1, 0));
        script.ask(&format!("fetch v12, max bytes {bytes}"), 12, &asked);
    }
    for (wait, bytes) in [(0, 1), (-1, 1), (100, i32::MAX), (i32::MAX, 0), (100, -1), (0, 0)] {
        let asked =
            request(12, target, partition(0, 20)).with_max_wait_ms(wait).with_min_bytes(bytes);
        // With nothing to give, the longest wait would last for days.
        script.ask(&format!("fetch v12, wait {wait}, min bytes {bytes}"), 12, &asked);
    }
}

fn epochs(script: &mut Script, target: &Target) {
    let at = |offset: i64, current: i32, last: i32| {
        partition(0, offset).with_current_leader_epoch(current).with_last_fetched_epoch(last)
    };
    for (what, current) in [
        ("the current", target.epoch),
        ("a future", target.epoch + 1),
        ("a far future", i32::MAX),
        ("an old", target.epoch - 1),
        ("-2", -2),
    ] {
        for version in [9, 12] {
            let asked = request(version, target, at(0, current, -1));
            script.ask(&format!("fetch v{version}, {what} leader epoch"), version, &asked);
        }
    }
    for (what, offset, last) in [
        ("the current", 20, target.epoch),
        ("a future", 20, target.epoch + 1),
        ("the current, behind the end", 25, target.epoch),
        ("a future, behind the end", 25, target.epoch + 1),
        ("-2", 20, -2),
    ] {
        let asked = request(12, target, at(offset, target.epoch, last));
        script.ask(&format!("fetch v12, last fetched epoch: {what}"), 12, &asked);
    }
    let replica = request(12, target, partition(0, 0)).with_replica_id(BrokerId(0));
    script.ask("fetch v12, replica id 0", 12, &replica);
    let replica = request(12, target, partition(0, 0)).with_replica_id(BrokerId(9_999));
    script.ask("fetch v12, replica id 9999", 12, &replica);
    let state = ReplicaState::default().with_replica_id(BrokerId(9_999)).with_replica_epoch(1);
    let replica = request(15, target, partition(0, 0)).with_replica_id(BrokerId(-1));
    script.ask("fetch v15, replica state 9999", 15, &replica.with_replica_state(state));
}

fn sessions(script: &mut Script, target: &Target) {
    for (what, id, epoch) in [
        ("unknown", 12_345, 1),
        ("unknown, epoch 0", 12_345, 0),
        ("none, epoch 1", 0, 1),
        ("none, epoch -2", 0, -2),
        ("unknown, closed", 12_345, -1),
    ] {
        let asked =
            request(12, target, partition(0, 18)).with_session_id(id).with_session_epoch(epoch);
        script.ask(&format!("fetch v12, session {what}"), 12, &asked);
    }
    let forgotten =
        ForgottenTopic::default().with_topic(target.name.clone()).with_partitions(vec![5]);
    let asked = request(12, target, partition(0, 18)).with_forgotten_topics_data(vec![forgotten]);
    script.ask("fetch v12, forgets what it never had", 12, &asked);
}

/// The batches that the produce cases left behind, byte by byte but for the CRC.
fn what_produce_stored(script: &mut Script) {
    for (name, partitions) in [
        ("produce", 2),
        ("headers", 80),
        ("records", 50),
        ("compacted", 1),
        ("sequences", 2),
        ("epochs", 1),
        ("wrap", 1),
        ("small", 1),
        ("times", 1),
        ("to-gzip", 1),
        ("to-none", 1),
        ("to-producer", 1),
    ] {
        let target = Target { name: script.topic(name), id: Uuid::nil(), epoch: -1 };
        let mut asked = request(12, &target, partition(0, 0)).with_max_bytes(1 << 25);
        asked.topics[0].partitions.extend((1..partitions).map(|index| partition(index, 0)));
        script.ask(&format!("stored, {name}"), 12, &asked);
    }
}

fn leader_epochs(script: &mut Script, target: &Target) {
    let ask = |topic: &TopicName, index: i32, current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic.clone())
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic])
    };
    let missing = script.topic("missing");
    for version in 2..=4 {
        for (what, request) in [
            ("the current", ask(&target.name, 0, -1, target.epoch)),
            ("a future", ask(&target.name, 0, -1, target.epoch + 1)),
            ("-1", ask(&target.name, 0, -1, -1)),
            ("-2", ask(&target.name, 0, -1, -2)),
            ("an empty partition", ask(&target.name, 1, -1, target.epoch)),
            ("current leader epoch", ask(&target.name, 0, target.epoch, target.epoch)),
            ("a future leader epoch", ask(&target.name, 0, target.epoch + 1, target.epoch)),
            ("an old leader epoch", ask(&target.name, 0, target.epoch - 1, target.epoch)),
            ("partition 9", ask(&target.name, 9, -1, 0)),
            ("missing topic", ask(&missing, 0, -1, 0)),
        ] {
            let case = format!("offset for leader epoch v{version}, {what}");
            script.ask(&case, version, &request);
        }
        if version >= 3 {
            let replica = ask(&target.name, 0, -1, target.epoch).with_replica_id(BrokerId(9_999));
            let case = format!("offset for leader epoch v{version}, replica id 9999");
            script.ask(&case, version, &replica);
        }
    }
}
