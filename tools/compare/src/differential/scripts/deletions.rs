//! DeleteRecords: where logs begin, and what is refused.

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

use super::BASE_TIMESTAMP;
use crate::batch::Batch;
use crate::differential::script::{Script, text};

pub fn run(script: &mut Script) {
    starts(script);
    refusals(script);
    policies(script);
}

fn request(topics: &[(&TopicName, &[(i32, i64)])]) -> DeleteRecordsRequest {
    let partition = |(index, offset): &(i32, i64)| {
        DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
    };
    let topics = topics.iter().map(|(name, partitions)| {
        DeleteRecordsTopic::default()
            .with_name((*name).clone())
            .with_partitions(partitions.iter().map(partition).collect())
    });
    DeleteRecordsRequest::default().with_topics(topics.collect()).with_timeout_ms(10_000)
}

fn seeded(script: &mut Script, name: &str, configs: &[(&str, &str)]) -> TopicName {
    script.create(name, 2, configs);
    for _ in 0..4 {
        script.seed(name, &Batch::of(BASE_TIMESTAMP, &[b"one", b"two", b"three"]));
    }
    script.topic(name)
}

/// Where the log begins, and what is found by a time before all of it.
fn ask_start(script: &mut Script, case: &str, topic: &TopicName) {
    for (what, timestamp) in [("earliest", -2), ("latest", -1), ("by time", BASE_TIMESTAMP)] {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic =
            ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![partition]);
        let asked =
            ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        script.ask(&format!("{case}: {what}"), 7, &asked);
    }
}

fn starts(script: &mut Script) {
    for version in 0..=2 {
        let topic = seeded(script, &format!("deletions-{version}"), &[("retention.ms", "-1")]);
        for (what, offset) in [
            ("nothing", 0),
            ("a border of batches", 3),
            ("again", 3),
            ("less again", 1),
            ("the middle of a batch", 7),
            ("the high watermark", -1),
            ("the end", 12),
        ] {
            let case = format!("delete records v{version}, {what}");
            script.ask(&case, version, &request(&[(&topic, &[(0, offset)])]));
            ask_start(script, &case, &topic);
        }
        let empty = request(&[(&topic, &[(1, -1)])]);
        script.ask(&format!("delete records v{version}, an empty partition"), version, &empty);
    }
}

fn refusals(script: &mut Script) {
    let topic = seeded(script, "deletions-refused", &[("retention.ms", "-1")]);
    let missing = script.topic("missing");
    for version in 0..=2 {
        for offset in [13, 1_000, i64::MAX, -2, i64::MIN] {
            let case = format!("delete records v{version}, offset {offset}");
            script.ask(&case, version, &request(&[(&topic, &[(0, offset)])]));
        }
        for (what, asked) in [
            ("missing topic", request(&[(&missing, &[(0, 0)])])),
            ("partition 9", request(&[(&topic, &[(9, 0)])])),
            ("partition -1", request(&[(&topic, &[(-1, 0)])])),
            ("some good, some not", request(&[(&topic, &[(0, 99), (1, 0)])])),
            ("no partitions", request(&[(&topic, &[])])),
            ("no topics", request(&[])),
        ] {
            script.ask(&format!("delete records v{version}, {what}"), version, &asked);
        }
    }
    let bad = TopicName(text("a b"));
    script.ask("delete records v2, bad name", 2, &request(&[(&bad, &[(0, 0)])]));
    let twice = request(&[(&topic, &[(0, 0), (0, 1)])]);
    script.ask("delete records v2, a partition twice", 2, &twice);
    let no_time = request(&[(&topic, &[(0, 2)])]).with_timeout_ms(0);
    script.ask("delete records v2, no time", 2, &no_time);
    ask_start(script, "delete records v2, refused", &topic);
}

fn policies(script: &mut Script) {
    for policy in ["compact", "compact,delete", "delete", ""] {
        let name = format!("deletions-policy-{}", policy.replace(',', "-"));
        script.create(&name, 1, &[("cleanup.policy", policy)]);
        let topic = script.topic(&name);
        for offset in [-1, 0, 5, -7] {
            let case = format!("delete records v2, cleanup.policy={policy}, offset {offset}");
            script.ask(&case, 2, &request(&[(&topic, &[(0, offset)])]));
        }
    }
}
