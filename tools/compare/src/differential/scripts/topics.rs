//! CreateTopics, DeleteTopics, CreatePartitions.

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::{BrokerId, TopicName};
use uuid::Uuid;

use crate::differential::script::{Script, text};

pub fn run(script: &mut Script) {
    create(script);
    create_refusals(script);
    create_assignments(script);
    create_configs(script);
    grow(script);
    delete(script);
}

fn request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000)
}

fn topic(name: &TopicName, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name.clone())
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn create(script: &mut Script) {
    for version in 2..=7 {
        let name = script.topic(&format!("create-{version}"));
        let asked = request(vec![topic(&name, 2, 1)]);
        let only = asked.clone().with_validate_only(true);
        script.ask(&format!("create topics v{version}, validate only"), version, &only);
        script.ask(&format!("create topics v{version}"), version, &asked);
        script.ask(&format!("create topics v{version}, existing"), version, &asked);
        script.ask(&format!("create topics v{version}, existing, validate only"), version, &only);
        if version >= 4 {
            let name = script.topic(&format!("create-defaults-{version}"));
            let asked = request(vec![topic(&name, -1, -1)]);
            script.ask(&format!("create topics v{version}, defaults"), version, &asked);
        }
    }
    script.ask("create topics v7, no topics", 7, &request(Vec::new()));
}

fn create_refusals(script: &mut Script) {
    let long = "x".repeat(250);
    let names = ["", ".", "..", "a/b", "a b", "ü", "a\0b", "a\u{fffd}", long.as_str()];
    for (index, name) in names.iter().enumerate() {
        let asked = request(vec![topic(&TopicName(text(name)), 1, 1)]);
        script.ask(&format!("create topics v7, bad name {index}"), 7, &asked);
    }
    for name in ["__consumer_offsets", "__transaction_state"] {
        let asked = request(vec![topic(&TopicName(text(name)), 1, 1)]).with_validate_only(true);
        script.ask(&format!("create topics v7, internal {name}"), 7, &asked);
    }
    for (partitions, replicas) in
        [(0, 1), (-2, 1), (-5, 1), (1, 0), (1, 3), (1, -2), (1, i16::MAX), (0, 0)]
    {
        let name = script.topic(&format!("bad-{partitions}-{replicas}"));
        let asked = request(vec![topic(&name, partitions, replicas)]);
        let case = format!("create topics v7, {partitions} partitions, {replicas} replicas");
        script.ask(&case, 7, &asked);
        script.ask(&format!("{case}, v2"), 2, &asked);
    }
    // Validated only: a broker that accepted it would be busy for minutes.
    let name = script.topic("bad-many");
    let many = request(vec![topic(&name, 10_000_000, 1)]).with_validate_only(true);
    script.ask("create topics v7, ten million partitions", 7, &many);
    let twice = script.topic("twice");
    let good = script.topic("beside-twice");
    let asked = request(vec![topic(&twice, 1, 1), topic(&good, 1, 1), topic(&twice, 2, 1)]);
    script.ask("create topics v7, a topic twice", 7, &asked);
    let dotted = script.topic("collision.a_b");
    script.ask("create topics v7, a dot", 7, &request(vec![topic(&dotted, 1, 1)]));
    let collides = script.topic("collision_a.b");
    script.ask("create topics v7, a colliding name", 7, &request(vec![topic(&collides, 1, 1)]));
    let collides = [script.topic("both.ways"), script.topic("both_ways")];
    let asked = request(collides.iter().map(|name| topic(name, 1, 1)).collect());
    script.ask("create topics v7, colliding names in one request", 7, &asked);
}

fn create_assignments(script: &mut Script) {
    let node = script.node();
    let assigned = |index: i32, brokers: &[i32]| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
    };
    for (what, partitions, replicas, assignments) in [
        ("one partition", -1, -1, vec![assigned(0, &[node])]),
        ("counts too", 1, 1, vec![assigned(0, &[node])]),
        ("a gap", -1, -1, vec![assigned(0, &[node]), assigned(2, &[node])]),
        ("not from zero", -1, -1, vec![assigned(1, &[node])]),
        ("a partition twice", -1, -1, vec![assigned(0, &[node]), assigned(0, &[node])]),
        ("a broker twice", -1, -1, vec![assigned(0, &[node, node])]),
        ("an unknown broker", -1, -1, vec![assigned(0, &[9_999])]),
        ("no brokers", -1, -1, vec![assigned(0, &[])]),
    ] {
        let name = script.topic(&format!("assigned-{}", what.replace(' ', "-")));
        let asked = request(vec![topic(&name, partitions, replicas).with_assignments(assignments)]);
        script.ask(&format!("create topics v7, assignment: {what}"), 7, &asked);
    }
}

fn create_configs(script: &mut Script) {
    let long = "9".repeat(40);
    for (index, (key, value)) in [
        ("retention.ms", Some("soon")),
        ("retention.ms", Some("-2")),
        ("retention.ms", Some("")),
        ("retention.ms", Some(long.as_str())),
        ("retention.ms", Some(" 1000 ")),
        ("retention.ms", None),
        ("retention.millis", Some("1")),
        ("", Some("1")),
        ("cleanup.policy", Some("compress")),
        ("cleanup.policy", Some("")),
        ("compression.type", Some("brotli")),
        ("max.message.bytes", Some("-1")),
        ("segment.bytes", Some("1")),
        ("flush.messages", Some("0")),
        ("min.insync.replicas", Some("0")),
        ("message.timestamp.type", Some("Never")),
        ("message.format.version", Some("3.0")),
        ("remote.storage.enable", Some("true")),
        ("local.retention.ms", Some("9")),
        ("preallocate", Some("maybe")),
        ("min.cleanable.dirty.ratio", Some("2")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = script.topic(&format!("config-{index}"));
        let config =
            CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text));
        let asked = request(vec![topic(&name, 1, 1).with_configs(vec![config])]);
        let value = value.unwrap_or("null");
        script.ask(&format!("create topics v7, config {key}={value}"), 7, &asked);
    }
    let config = |value: &str| {
        CreatableTopicConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text(value)))
    };
    let name = script.topic("config-twice");
    let asked =
        request(vec![topic(&name, 1, 1).with_configs(vec![config("1000"), config("2000")])]);
    script.ask("create topics v7, a config twice", 7, &asked);
}

fn grow(script: &mut Script) {
    script.create("grow", 2, &[]);
    let (known, missing) = (script.topic("grow"), script.topic("missing"));
    let asked = |name: &TopicName, count: i32| {
        let topic = CreatePartitionsTopic::default()
            .with_name(name.clone())
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    for version in 0..=3 {
        for (what, request) in [
            ("missing", asked(&missing, 5)),
            ("fewer", asked(&known, 1)),
            ("zero", asked(&known, 0)),
            ("negative", asked(&known, -1)),
            ("as many", asked(&known, 2 + i32::from(version))),
            ("more, validate only", asked(&known, 9).with_validate_only(true)),
            ("more", asked(&known, 3 + i32::from(version))),
        ] {
            script.ask(&format!("create partitions v{version}, {what}"), version, &request);
            wait_for_metadata();
        }
    }
    let mut twice = asked(&known, 8);
    twice.topics.push(twice.topics[0].clone());
    script.ask("create partitions v3, a topic twice", 3, &twice);
    for (what, count, brokers) in [
        ("too few", 8, vec![vec![1]]),
        ("unknown broker", 7, vec![vec![9_999]]),
        ("none", 7, vec![vec![]]),
    ] {
        let assignments = brokers.into_iter().map(|ids: Vec<i32>| {
            let ids = ids.into_iter().map(BrokerId).collect();
            CreatePartitionsAssignment::default().with_broker_ids(ids)
        });
        let topic = CreatePartitionsTopic::default()
            .with_name(known.clone())
            .with_count(count)
            .with_assignments(Some(assignments.collect()));
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        script.ask(&format!("create partitions v3, assignment: {what}"), 3, &request);
    }
}

/// Kafka's broker is a moment behind its controller.
fn wait_for_metadata() {
    std::thread::sleep(std::time::Duration::from_millis(100));
}

fn delete(script: &mut Script) {
    let missing = script.topic("missing");
    for version in 1..=6 {
        let label = format!("delete-{version}");
        script.create(&label, 1, &[]);
        let known = script.topic(&label);
        let names = vec![known.clone(), missing.clone(), TopicName(text("a b"))];
        let state = |name: &TopicName| DeleteTopicState::default().with_name(Some(name.clone()));
        let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
        let request = if version >= 6 {
            request.with_topics(names.iter().map(state).collect())
        } else {
            request.with_topic_names(names)
        };
        script.ask(&format!("delete topics v{version}"), version, &request);
        wait_for_metadata();
        script.ask(&format!("delete topics v{version}, again"), version, &request);
    }
    let (id, _) = script.create("delete-id", 1, &[]);
    let by_id = |id: Uuid| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let by_name = |name: &TopicName| DeleteTopicState::default().with_name(Some(name.clone()));
    let twice = script.topic("delete-twice");
    let (twice_id, _) = script.create("delete-twice", 1, &[]);
    for (what, topics) in [
        ("unknown id", vec![by_id(Uuid::from_u128(7))]),
        ("zero id", vec![by_id(Uuid::nil())]),
        ("by name and by id", vec![by_name(&twice), by_id(twice_id)]),
        ("by name twice", vec![by_name(&twice), by_name(&twice)]),
        ("name and id in one", vec![by_name(&twice).with_topic_id(twice_id)]),
        ("by id", vec![by_id(id)]),
        ("nothing", Vec::new()),
    ] {
        let request = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(topics);
        script.ask(&format!("delete topics v6, {what}"), 6, &request);
        wait_for_metadata();
    }
}
