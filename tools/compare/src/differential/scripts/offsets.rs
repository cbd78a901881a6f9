//! ListOffsets: the special timestamps, and by time, also inside compressed batches.

use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};

use super::BASE_TIMESTAMP;
use crate::batch::{Batch, Record};
use crate::differential::script::Script;

pub fn run(script: &mut Script) {
    let epoch = seed(script);
    special(script);
    by_time(script);
    refusals(script, epoch);
}

/// Batches whose timestamps rise, fall and repeat: plain, compressed, plain.
fn seed(script: &mut Script) -> i32 {
    let (_, epoch) = script.create("offsets", 2, &[]);
    let batch = |base: i64, deltas: &[i64]| {
        let records: Vec<Record> = deltas
            .iter()
            .map(|delta| Record {
                timestamp_delta: *delta,
                value: Some(vec![b'v'; 20]),
                ..Record::default()
            })
            .collect();
        Batch::of_records(BASE_TIMESTAMP + base, &records)
    };
    script.seed("offsets", &batch(0, &[0, 10, 20]));
    script.seed("offsets", &batch(1_000, &[0, 100, 50, 300, 200]).gzip());
    script.seed("offsets", &batch(500, &[0, 800, 1]));
    script.seed("offsets", &batch(900, &[0, 0]).gzip());
    epoch
}

fn request(topic: &TopicName, partition: ListOffsetsPartition) -> ListOffsetsRequest {
    let topic =
        ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn at(index: i32, timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
}

fn special(script: &mut Script) {
    let topic = script.topic("offsets");
    for version in 1..=10 {
        for timestamp in [-1, -2, -3, -4, -5, -6, -99, i64::MIN] {
            for index in [0, 1] {
                let asked = request(&topic, at(index, timestamp));
                let case =
                    format!("list offsets v{version}, timestamp {timestamp}, partition {index}");
                script.ask(&case, version, &asked);
            }
        }
        if version >= 2 {
            let committed = request(&topic, at(0, -1)).with_isolation_level(1);
            let case = format!("list offsets v{version}, read committed");
            script.ask(&case, version, &committed);
        }
    }
}

fn by_time(script: &mut Script) {
    let topic = script.topic("offsets");
    let times =
        [0, 5, 10, 11, 20, 21, 500, 999, 1_000, 1_050, 1_100, 1_101, 1_299, 1_300, 1_301, 9_999];
    for time in times {
        let asked = request(&topic, at(0, BASE_TIMESTAMP + time));
        script.ask(&format!("list offsets v7, time {time}"), 7, &asked);
    }
    for (what, timestamp) in [("0", 0), ("greatest", i64::MAX)] {
        let asked = request(&topic, at(0, timestamp));
        script.ask(&format!("list offsets v7, absolute time {what}"), 7, &asked);
    }
    let empty = request(&topic, at(1, BASE_TIMESTAMP));
    script.ask("list offsets v7, an empty partition", 7, &empty);
    script.create("offsets-append", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let batch = Batch::of(BASE_TIMESTAMP, &[b"one", b"two", b"three"]);
    script.seed("offsets-append", &batch);
    let topic = script.topic("offsets-append");
    for (what, timestamp) in [("before", BASE_TIMESTAMP), ("after", i64::MAX)] {
        let asked = request(&topic, at(0, timestamp));
        script.ask_offset(&format!("list offsets v7, log append time, {what}"), 7, &asked);
    }
    script.ask_offset("list offsets v7, log append time, largest", 7, &request(&topic, at(0, -3)));
}

fn refusals(script: &mut Script, epoch: i32) {
    let (known, missing) = (script.topic("offsets"), script.topic("missing"));
    for version in [1, 4, 7, 10] {
        for (what, asked) in [
            ("missing topic", request(&missing, at(0, -1))),
            ("partition 9", request(&known, at(9, -1))),
            ("partition -1", request(&known, at(-1, -1))),
        ] {
            script.ask(&format!("list offsets v{version}, {what}"), version, &asked);
        }
        if version >= 4 {
            for (what, current) in
                [("the current", epoch), ("a future", epoch + 1), ("an old", epoch - 1)]
            {
                let partition = at(0, -1).with_current_leader_epoch(current);
                let case = format!("list offsets v{version}, {what} leader epoch");
                script.ask(&case, version, &request(&known, partition));
            }
        }
        let mut twice = request(&known, at(0, -1));
        twice.topics[0].partitions.push(at(0, -2));
        script.ask(&format!("list offsets v{version}, a partition twice"), version, &twice);
        let replica = request(&known, at(0, -1)).with_replica_id(BrokerId(9_999));
        script.ask(&format!("list offsets v{version}, replica id 9999"), version, &replica);
    }
}
