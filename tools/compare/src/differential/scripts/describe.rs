//! ApiVersions, Metadata, DescribeCluster, DescribeTopicPartitions.

use kafka_protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, TopicName,
};
use uuid::Uuid;

use crate::differential::script::{Script, text};

pub fn run(script: &mut Script) {
    api_versions(script);
    metadata(script);
    metadata_refusals(script);
    auto_create(script);
    cluster(script);
    topic_partitions(script);
    find_coordinator(script);
}

fn api_versions(script: &mut Script) {
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = request
                .with_client_software_name(text("thalweg-compare"))
                .with_client_software_version(text("1.0"));
        }
        script.ask(&format!("api versions v{version}"), version, &request);
    }
    for (what, name, version) in [
        ("empty name", "", "1"),
        ("bad name", "a b", "1"),
        ("name ends with a dash", "a-", "1"),
        ("bad version", "a", "1/2"),
        ("empty version", "a", ""),
    ] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        script.ask(&format!("api versions v3, {what}"), 3, &request);
    }
}

fn topics(names: &[&TopicName]) -> Option<Vec<MetadataRequestTopic>> {
    let topic =
        |name: &&TopicName| MetadataRequestTopic::default().with_name(Some((*name).clone()));
    Some(names.iter().map(topic).collect())
}

fn metadata(script: &mut Script) {
    let (id, _) = script.create("meta", 3, &[]);
    let (known, missing) = (script.topic("meta"), script.topic("missing"));
    for version in 0..=13 {
        let mut request = MetadataRequest::default().with_topics(topics(&[&known, &missing]));
        // Before version 4 a broker that creates topics would create this one.
        if version < 4 {
            request = request.with_topics(topics(&[&known]));
        } else {
            request = request.with_allow_auto_topic_creation(false);
        }
        script.ask(&format!("metadata v{version}"), version, &request);
        if version >= 8 {
            request = request.with_include_topic_authorized_operations(true);
            script.ask(&format!("metadata v{version}, operations"), version, &request);
        }
        if version >= 12 {
            let topics = [id, Uuid::from_u128(7), Uuid::nil()]
                .map(|id| MetadataRequestTopic::default().with_topic_id(id).with_name(None));
            let request = MetadataRequest::default()
                .with_topics(Some(topics[..2].to_vec()))
                .with_allow_auto_topic_creation(false);
            script.ask(&format!("metadata v{version}, by id"), version, &request);
            let request = request.with_topics(Some(topics[2..].to_vec()));
            script.ask(&format!("metadata v{version}, neither name nor id"), version, &request);
        }
    }
    // All topics: compared is what is said of this one.
    for version in 0..=13 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let request = MetadataRequest::default().with_topics(all);
        script.ask_about(&format!("metadata v{version}, all topics"), version, &request, "meta");
    }
    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    script.ask("metadata v1, no topics", 1, &none);
    script.ask("metadata v9, no topics", 9, &none);
}

fn metadata_refusals(script: &mut Script) {
    let long = "x".repeat(250);
    let names = ["", ".", "..", "a/b", "a b", "ü", "a\0b", "a\u{fffd}", long.as_str()];
    for (index, name) in names.iter().enumerate() {
        for create in [false, true] {
            let request = MetadataRequest::default()
                .with_topics(topics(&[&TopicName(text(name))]))
                .with_allow_auto_topic_creation(create);
            script.ask(&format!("metadata v9, bad name {index}, create {create}"), 9, &request);
        }
    }
    let known = script.topic("meta");
    let twice = MetadataRequest::default()
        .with_topics(topics(&[&known, &known]))
        .with_allow_auto_topic_creation(false);
    script.ask("metadata v9, a topic twice", 9, &twice);
    let both =
        MetadataRequestTopic::default().with_name(Some(known)).with_topic_id(Uuid::from_u128(7));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![both]))
        .with_allow_auto_topic_creation(false);
    script.ask("metadata v12, name and an unknown id", 12, &request);
    let null = MetadataRequestTopic::default().with_name(None);
    let request = MetadataRequest::default().with_topics(Some(vec![null]));
    script.ask("metadata v10, null name", 10, &request);
}

/// The first answer says that the topic is not there yet; a little later it is.
fn auto_create(script: &mut Script) {
    for (name, version) in [("auto-1", 1), ("auto-9", 9)] {
        let topic = script.topic(name);
        let request = MetadataRequest::default()
            .with_topics(topics(&[&topic]))
            .with_allow_auto_topic_creation(true);
        script.ask(&format!("metadata v{version} creates"), version, &request);
        std::thread::sleep(std::time::Duration::from_millis(1_000));
        let request = request.with_allow_auto_topic_creation(version < 4);
        script.ask(&format!("metadata v{version} has created"), version, &request);
    }
}

fn cluster(script: &mut Script) {
    for version in 0..=2 {
        let request = DescribeClusterRequest::default();
        script.ask(&format!("describe cluster v{version}"), version, &request);
        let request = request.with_include_cluster_authorized_operations(true);
        script.ask(&format!("describe cluster v{version}, operations"), version, &request);
        if version >= 1 {
            for endpoint in [2, 3] {
                let request = DescribeClusterRequest::default().with_endpoint_type(endpoint);
                let case = format!("describe cluster v{version}, endpoint type {endpoint}");
                script.ask(&case, version, &request);
            }
        }
    }
}

fn topic_partitions(script: &mut Script) {
    let (known, missing) = (script.topic("meta"), script.topic("missing"));
    let ask = |names: &[&TopicName], limit: i32, cursor: Option<Cursor>| {
        let topics = names.iter().map(|name| TopicRequest::default().with_name((*name).clone()));
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics.collect())
            .with_response_partition_limit(limit)
            .with_cursor(cursor)
    };
    let cursor = |name: &TopicName, index: i32| {
        Some(Cursor::default().with_topic_name(name.clone()).with_partition_index(index))
    };
    let bad = TopicName(text("a b"));
    for (what, request) in [
        ("known and missing", ask(&[&known, &missing], 2_000, None)),
        ("a page of two", ask(&[&known], 2, None)),
        ("from a cursor", ask(&[&known], 2_000, cursor(&known, 1))),
        ("a cursor behind the end", ask(&[&known], 2_000, cursor(&known, 9))),
        ("a negative cursor", ask(&[&known], 2_000, cursor(&known, -2))),
        ("a cursor on another topic", ask(&[&known], 2_000, cursor(&missing, 0))),
        ("a limit of zero", ask(&[&known], 0, None)),
        ("a negative limit", ask(&[&known], -1, None)),
        ("a bad name", ask(&[&bad], 10, None)),
        ("a topic twice", ask(&[&known, &known], 10, None)),
    ] {
        script.ask(&format!("describe topic partitions v0, {what}"), 0, &request);
    }
}

fn find_coordinator(script: &mut Script) {
    let keys =
        FindCoordinatorRequest::default().with_key_type(9).with_coordinator_keys(vec![text("t")]);
    script.ask("find coordinator v4, unknown key type", 4, &keys);
}
