//! Produce against an independent codec, in every version.

use bytes::Bytes;
use kafka_protocol::messages as oracle;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response as oracle_response;
use kafka_protocol::protocol::StrBytes;
use proptest::prelude::*;

use super::model::*;
use crate::base::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use crate::protocol::produce::*;
use crate::protocol::{
    ApiKey, ClientHeader, CurrentLeader, ErrorCode, NodeEndpoint, RequestHeader, TopicRef,
    parse_response_header,
};

type Partition = (i32, Option<Bytes>);

fn requests() -> impl Strategy<Value = (Option<String>, i16, i32, Vec<Topic<Partition>>)> {
    let partition = (any::<i32>(), prop::option::of(records()));
    (prop::option::of("[a-z]{0,9}"), any::<i16>(), any::<i32>(), topics(partition))
}

fn oracle_request(
    version: i16,
    id: Option<&String>,
    acks: i16,
    timeout_ms: i32,
    topics: &[Topic<Partition>],
) -> oracle::ProduceRequest {
    let tags = || unknown_tags(version >= 9);
    let topic = |topic: &Topic<Partition>| {
        let partitions = topic.partitions.iter().map(|(index, records)| {
            PartitionProduceData::default()
                .with_index(*index)
                .with_records(records.clone())
                .with_unknown_tagged_fields(tags())
        });
        TopicProduceData::default()
            .with_name(topic.oracle_name(version))
            .with_topic_id(topic.oracle_id(version).parse().unwrap())
            .with_partition_data(partitions.collect())
            .with_unknown_tagged_fields(tags())
    };
    oracle::ProduceRequest::default()
        .with_transactional_id(id.map(|id| StrBytes::from_string(id.clone()).into()))
        .with_acks(acks)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(topics.iter().map(topic).collect())
        .with_unknown_tagged_fields(tags())
}

/// Everything that a parsed request says, in plain form.
fn listing(request: &ProduceRequest) -> Vec<(TopicRef<'_>, Vec<Partition>)> {
    request
        .topics()
        .map(|topic| {
            let partitions = topic.partitions();
            (topic.topic(), partitions.map(|p| (p.index().0, p.records())).collect())
        })
        .collect()
}

/// Results that use every field, one for each partition.
fn results(topics: &[Topic<Partition>]) -> Vec<PartitionResult> {
    let mut results = Vec::new();
    for (index, records) in topics.iter().flat_map(|topic| &topic.partitions) {
        results.push(if records.is_none() {
            PartitionResult {
                record_errors: vec![
                    RecordErrorAt { batch_index: *index, message: Some("null".into()) },
                    RecordErrorAt { batch_index: 2, message: None },
                ],
                error_message: Some("no batch".into()),
                ..PartitionResult::failed(ErrorCode::InvalidRecord)
            }
        } else if index % 2 == 0 {
            let leader = CurrentLeader { leader: BrokerId(*index), epoch: LeaderEpoch(6) };
            PartitionResult {
                current_leader: Some(leader),
                ..PartitionResult::failed(ErrorCode::NotLeaderOrFollower)
            }
        } else {
            PartitionResult::appended(Offset(i64::from(*index) << 20), 1_700_000_000_000, Offset(3))
        });
    }
    results
}

fn endpoints() -> Vec<NodeEndpoint> {
    let endpoint = |node, rack: Option<&str>| NodeEndpoint {
        node: BrokerId(node),
        host: "host".into(),
        port: 65535,
        rack: rack.map(String::from),
    };
    vec![endpoint(1, None), endpoint(2, Some("r"))]
}

/// The response that the oracle would write for `results`.
fn oracle_answer(
    version: i16,
    topics: &[Topic<Partition>],
    results: &[PartitionResult],
) -> oracle::ProduceResponse {
    use oracle_response::*;
    let mut left = results.iter();
    let mut answers = Vec::new();
    for topic in topics {
        let mut partitions = Vec::new();
        for (index, _) in &topic.partitions {
            let result = left.next().unwrap();
            let mut answer = PartitionProduceResponse::default()
                .with_index(*index)
                .with_error_code(result.error.code())
                .with_base_offset(result.base_offset.0)
                .with_log_append_time_ms(result.log_append_time_ms)
                .with_log_start_offset(result.log_start.0);
            if version >= 8 {
                let error = |error: &RecordErrorAt| {
                    let message = error.message.as_deref();
                    BatchIndexAndErrorMessage::default()
                        .with_batch_index(error.batch_index)
                        .with_batch_index_error_message(message.map(StrBytes::from_string_ref))
                };
                answer.record_errors = result.record_errors.iter().map(error).collect();
                let message = result.error_message.as_deref();
                answer.error_message = message.map(StrBytes::from_string_ref);
            }
            if let Some(leader) = result.current_leader.filter(|_| version >= 10) {
                answer.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(leader.leader.0.into())
                    .with_leader_epoch(leader.epoch.0);
            }
            partitions.push(answer);
        }
        let answer = TopicProduceResponse::default()
            .with_name(topic.oracle_name(version))
            .with_topic_id(topic.oracle_id(version).parse().unwrap())
            .with_partition_responses(partitions);
        answers.push(answer);
    }
    let nodes = endpoints().into_iter().filter(|_| version >= 10).map(|endpoint| {
        NodeEndpoint::default()
            .with_node_id(endpoint.node.0.into())
            .with_host(StrBytes::from_string(endpoint.host))
            .with_port(endpoint.port.into())
            .with_rack(endpoint.rack.map(StrBytes::from_string))
    });
    oracle::ProduceResponse::default()
        .with_responses(answers)
        .with_throttle_time_ms(11)
        .with_node_endpoints(nodes.collect())
}

trait FromStringRef {
    fn from_string_ref(text: &str) -> StrBytes;
}

impl FromStringRef for StrBytes {
    fn from_string_ref(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_string())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn requests_say_what_an_independent_codec_wrote((id, acks, timeout_ms, topics) in requests()) {
        for version in ApiKey::Produce.versions() {
            let written = oracle_request(version, id.as_ref(), acks, timeout_ms, &topics);
            let body = oracle_encode(&written, version);
            let request = ProduceRequest::parse(body, version).unwrap();
            prop_assert_eq!(request.acks(), acks);
            prop_assert_eq!(request.timeout_ms(), timeout_ms);
            let transactional_id = request.transactional_id().map(|id| id.as_str().unwrap());
            prop_assert_eq!(transactional_id, id.as_deref());
            prop_assert_eq!(request.topic_count(), topics.len());
            let partition_count: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
            prop_assert_eq!(request.partition_count(), partition_count);
            let expected: Vec<_> = topics
                .iter()
                .map(|topic| (topic.topic_ref(version), topic.partitions.clone()))
                .collect();
            prop_assert_eq!(listing(&request), expected, "version {}", version);
        }
    }

    #[test]
    fn responses_are_those_of_an_independent_codec_to_the_byte(
        (id, acks, timeout_ms, topics) in requests()
    ) {
        for version in ApiKey::Produce.versions() {
            let written = oracle_request(version, id.as_ref(), acks, timeout_ms, &topics);
            let request = ProduceRequest::parse(oracle_encode(&written, version), version).unwrap();
            let results = results(&topics);
            let node_endpoints = endpoints();
            let head = ResponseHead {
                correlation_id: 9,
                throttle_time_ms: 11,
                node_endpoints: &node_endpoints,
            };
            let frame = encode_response(&request, &head, results.clone()).unwrap();
            let frame = frame_of(&[frame]);
            let (correlation_id, body) =
                parse_response_header(&frame, ApiKey::Produce, version).unwrap();
            prop_assert_eq!(correlation_id, 9);
            let expected = oracle_answer(version, &topics, &results);
            let read: oracle::ProduceResponse = oracle_decode(body.clone(), version);
            let mut dropped_by_version = expected.clone();
            if version < 5 {
                for partition in
                    dropped_by_version.responses.iter_mut().flat_map(|t| &mut t.partition_responses)
                {
                    partition.log_start_offset = -1;
                }
            }
            prop_assert_eq!(&read, &dropped_by_version, "version {}", version);
            prop_assert_eq!(body, oracle_encode(&expected, version), "version {}", version);
        }
    }

    #[test]
    fn clients_read_what_an_independent_codec_answered((_, _, _, topics) in requests()) {
        for version in ApiKey::Produce.versions() {
            let results = results(&topics);
            let mut answer = oracle_answer(version, &topics, &results);
            answer.unknown_tagged_fields = unknown_tags(version >= 9);
            let answer = ProduceAnswer::parse(oracle_encode(&answer, version), version).unwrap();
            prop_assert_eq!(answer.throttle_time_ms(), 11);
            let mut left = results.iter();
            let mut topics_left = topics.iter();
            for topic in answer.topics() {
                let expected = topics_left.next().unwrap();
                prop_assert_eq!(topic.topic(), expected.topic_ref(version));
                prop_assert_eq!(topic.partitions().count(), expected.partitions.len());
                for (partition, (index, _)) in topic.partitions().zip(&expected.partitions) {
                    let result = left.next().unwrap();
                    prop_assert_eq!(partition.index, PartitionIndex(*index));
                    prop_assert_eq!(partition.error_code, result.error.code());
                    prop_assert_eq!(partition.base_offset, result.base_offset);
                    prop_assert_eq!(partition.log_append_time_ms, result.log_append_time_ms);
                    if version >= 5 {
                        prop_assert_eq!(partition.log_start, result.log_start);
                    }
                    if version >= 8 {
                        let message = partition.error_message.map(|message| message.to_lossy());
                        prop_assert_eq!(&message, &result.error_message);
                    }
                    if version >= 10 {
                        prop_assert_eq!(partition.current_leader, result.current_leader);
                    }
                }
            }
            prop_assert!(topics_left.next().is_none());
        }
    }

    #[test]
    fn clients_write_what_an_independent_codec_reads((id, acks, timeout_ms, topics) in requests()) {
        for version in ApiKey::Produce.versions() {
            let batches: Vec<_> = topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)))
                .map(|(topic, (index, records))| ProduceBatch {
                    topic: topic.topic_ref(version),
                    partition: PartitionIndex(*index),
                    records: records.clone().unwrap_or_default(),
                })
                .collect();
            let header = ClientHeader { version, correlation_id: 1, client_id: None };
            let head = ProduceHead { transactional_id: id.as_deref(), acks, timeout_ms };
            let slices = encode_request(&header, &head, &batches).unwrap();
            let (_, body) = RequestHeader::parse(&frame_of(&slices)).unwrap();
            let mut expected = oracle_request(version, id.as_ref(), acks, timeout_ms, &topics);
            // A client has no topic without batches, no null batch, and nothing to tag.
            expected.topic_data.retain(|topic| !topic.partition_data.is_empty());
            expected.unknown_tagged_fields.clear();
            for topic in &mut expected.topic_data {
                topic.unknown_tagged_fields.clear();
                for partition in &mut topic.partition_data {
                    partition.unknown_tagged_fields.clear();
                    partition.records.get_or_insert_default();
                }
            }
            let read: oracle::ProduceRequest = oracle_decode(body.clone(), version);
            prop_assert_eq!(&read, &expected);
            prop_assert_eq!(body, oracle_encode(&expected, version));
        }
    }
}

#[test]
fn a_client_sends_record_bytes_from_where_they_lie() {
    let records = Bytes::from(vec![7; 1000]);
    let batch = ProduceBatch {
        topic: TopicRef::Name("t".into()),
        partition: PartitionIndex(0),
        records: records.clone(),
    };
    let header = ClientHeader { version: 9, correlation_id: 1, client_id: Some("c") };
    let head = ProduceHead { transactional_id: None, acks: -1, timeout_ms: 1 };
    let slices = encode_request(&header, &head, &[batch]).unwrap();
    assert!(slices.iter().any(|slice| slice.as_ptr() == records.as_ptr()));
    let request_body = RequestHeader::parse(&frame_of(&slices)).unwrap().1;
    let request = ProduceRequest::parse(request_body.clone(), 9).unwrap();
    let parsed = request.topics().next().unwrap().partitions().next().unwrap().records().unwrap();
    let body = request_body.as_ptr_range();
    assert!(body.contains(&parsed.as_ptr()), "a slice of the frame");
}
