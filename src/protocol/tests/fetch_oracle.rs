//! Fetch against an independent codec, in every version.

use bytes::Bytes;
use kafka_protocol::messages as oracle;
use kafka_protocol::messages::fetch_request as oracle_request;
use kafka_protocol::messages::fetch_response as oracle_response;
use kafka_protocol::protocol::StrBytes;
use proptest::prelude::*;

use super::model::*;
use crate::base::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId};
use crate::protocol::fetch::*;
use crate::protocol::{
    ApiKey, ClientHeader, CurrentLeader, ErrorCode, NodeEndpoint, RequestHeader, TopicRef,
    parse_response_header,
};

/// A partition wanted: index, current epoch, offset, last fetched epoch, log start, bytes.
type Wanted = (i32, i32, i64, i32, i64, i32);

/// A request's terms: replica, wait, least bytes, most bytes, committed only, session, its epoch.
type Terms = (i32, i32, i32, i32, bool, i32, i32);

type Request = (Terms, Vec<Topic<Wanted>>, Vec<Topic<i32>>, String);

fn requests() -> impl Strategy<Value = Request> {
    (any::<Terms>(), topics(any::<Wanted>()), topics(any::<i32>()), "[a-z]{0,9}")
}

fn epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

fn oracle_request(
    version: i16,
    (terms, topics, forgotten, rack): &Request,
) -> oracle::FetchRequest {
    use oracle_request::*;
    let tags = || unknown_tags(version >= 12);
    let (replica, wait, least, most, committed, session, session_epoch) = *terms;
    let partition = |wanted: &Wanted| {
        let (index, current, offset, last, log_start, bytes_max) = *wanted;
        let mut partition = FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(bytes_max)
            .with_unknown_tagged_fields(tags());
        partition.current_leader_epoch = if version >= 9 { current } else { -1 };
        partition.last_fetched_epoch = if version >= 12 { last } else { -1 };
        partition.log_start_offset = if version >= 5 { log_start } else { -1 };
        if version >= 17 {
            partition.replica_directory_id = "00000000000000010000000000000002".parse().unwrap();
        }
        partition
    };
    let topics = topics.iter().map(|topic| {
        FetchTopic::default()
            .with_topic(topic.oracle_name(version))
            .with_topic_id(topic.oracle_id(version).parse().unwrap())
            .with_partitions(topic.partitions.iter().map(partition).collect())
            .with_unknown_tagged_fields(tags())
    });
    let forgotten = forgotten.iter().filter(|_| version >= 7).map(|topic| {
        ForgottenTopic::default()
            .with_topic(topic.oracle_name(version))
            .with_topic_id(topic.oracle_id(version).parse().unwrap())
            .with_partitions(topic.partitions.clone())
            .with_unknown_tagged_fields(tags())
    });
    let mut request = oracle::FetchRequest::default()
        .with_max_wait_ms(wait)
        .with_min_bytes(least)
        .with_max_bytes(most)
        .with_isolation_level(i8::from(committed))
        .with_topics(topics.collect())
        .with_forgotten_topics_data(forgotten.collect())
        .with_unknown_tagged_fields(tags());
    if version >= 15 {
        request.replica_state =
            ReplicaState::default().with_replica_id(replica.into()).with_replica_epoch(3);
    } else {
        request.replica_id = replica.into();
    }
    if version >= 12 {
        request.cluster_id = Some(StrBytes::from_static_str("cluster"));
    }
    if version >= 7 {
        (request.session_id, request.session_epoch) = (session, session_epoch);
    }
    if version >= 11 {
        request.rack_id = StrBytes::from_string(rack.clone());
    }
    request
}

/// What a request in `version` keeps of a partition wanted.
fn kept(version: i16, wanted: &Wanted) -> Wanted {
    let (index, current, offset, last, log_start, bytes_max) = *wanted;
    let current = if version >= 9 { epoch(current).map_or(-1, |epoch| epoch.0) } else { -1 };
    let last = if version >= 12 { epoch(last).map_or(-1, |epoch| epoch.0) } else { -1 };
    let log_start = if version >= 5 { log_start } else { -1 };
    (index, current, offset, last, log_start, bytes_max)
}

fn plain(partition: &FetchPartition) -> Wanted {
    (
        partition.index().0,
        partition.current_epoch().map_or(-1, |epoch| epoch.0),
        partition.fetch_offset().0,
        partition.last_fetched_epoch().map_or(-1, |epoch| epoch.0),
        partition.log_start().0,
        partition.bytes_max(),
    )
}

/// What a partition answers: error, offsets, records in pieces, and what is optional.
#[derive(Clone, Debug)]
struct Answered {
    index: i32,
    error: usize,
    offsets: (i64, i64, i64),
    records: Vec<Bytes>,
    diverging: Option<(i32, i64)>,
    leader: Option<(i32, i32)>,
    aborted: Option<Vec<(i64, i64)>>,
    preferred: Option<u16>,
}

fn answers() -> impl Strategy<Value = Vec<Topic<Answered>>> {
    let partition = (
        (any::<i32>(), 0..ErrorCode::ALL.len(), any::<(i64, i64, i64)>()),
        prop::collection::vec(records(), 0..3),
        prop::option::of((0..9, 0..i64::MAX)),
        prop::option::of((0..9, 0..9)),
        prop::option::of(prop::collection::vec(any::<(i64, i64)>(), 0..3)),
        prop::option::of(any::<u16>()),
    );
    topics(partition.prop_map(
        |((index, error, offsets), records, diverging, leader, aborted, preferred)| Answered {
            index,
            error,
            offsets,
            records,
            diverging,
            leader,
            aborted,
            preferred,
        },
    ))
}

fn result<'a>(topic: TopicRef<'a>, answered: &Answered) -> PartitionResult<'a> {
    let error = ErrorCode::ALL[answered.error];
    let abort = |&(producer, first): &(i64, i64)| AbortedTransaction {
        producer: ProducerId(producer),
        first_offset: Offset(first),
    };
    let leads =
        |(leader, epoch)| CurrentLeader { leader: BrokerId(leader), epoch: LeaderEpoch(epoch) };
    PartitionResult {
        high_watermark: Offset(answered.offsets.0),
        last_stable: Offset(answered.offsets.1),
        log_start: Offset(answered.offsets.2),
        diverging: answered
            .diverging
            .map(|(epoch, end)| EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) }),
        current_leader: answered.leader.map(leads),
        aborted: answered.aborted.as_ref().map(|list| list.iter().map(abort).collect()),
        preferred_replica: answered.preferred.map(|replica| BrokerId(replica.into())),
        records: answered.records.clone(),
        ..PartitionResult::failed(topic, PartitionIndex(answered.index), error)
    }
}

fn oracle_partition(version: i16, answered: &Answered) -> oracle_response::PartitionData {
    use oracle_response::*;
    let abort = |&(producer, first): &(i64, i64)| {
        AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first)
    };
    let mut data = PartitionData::default()
        .with_partition_index(answered.index)
        .with_error_code(ErrorCode::ALL[answered.error].code())
        .with_high_watermark(answered.offsets.0)
        .with_last_stable_offset(answered.offsets.1)
        .with_aborted_transactions(
            answered.aborted.as_ref().map(|list| list.iter().map(abort).collect()),
        )
        .with_records(Some(Bytes::from(answered.records.concat())));
    if version >= 5 {
        data.log_start_offset = answered.offsets.2;
    }
    if version >= 11 {
        data.preferred_read_replica = answered.preferred.map_or(-1, i32::from).into();
    }
    if version >= 12 {
        if let Some((epoch, end)) = answered.diverging {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
        }
        if let Some((leader, epoch)) = answered.leader {
            data.current_leader =
                LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch);
        }
    }
    data
}

fn oracle_answer(version: i16, topics: &[Topic<Answered>]) -> oracle::FetchResponse {
    use oracle_response::*;
    let topic = |topic: &Topic<Answered>| {
        let partitions = topic.partitions.iter().map(|answer| oracle_partition(version, answer));
        FetchableTopicResponse::default()
            .with_topic(topic.oracle_name(version))
            .with_topic_id(topic.oracle_id(version).parse().unwrap())
            .with_partitions(partitions.collect())
    };
    let mut response = oracle::FetchResponse::default()
        .with_throttle_time_ms(13)
        .with_responses(topics.iter().map(topic).collect());
    if version >= 7 {
        (response.error_code, response.session_id) = (70, 99);
    }
    if version >= 16 {
        let node = NodeEndpoint::default()
            .with_node_id(4.into())
            .with_host(StrBytes::from_static_str("host"))
            .with_port(9092);
        response.node_endpoints.push(node);
    }
    response
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn requests_say_what_an_independent_codec_wrote(asked in requests()) {
        let (terms, topics, forgotten, rack) = &asked;
        for version in ApiKey::Fetch.versions() {
            let body = oracle_encode(&oracle_request(version, &asked), version);
            let request = FetchRequest::parse(body, version).unwrap();
            prop_assert_eq!(request.replica().0, terms.0);
            prop_assert_eq!(request.wait_ms_max(), terms.1);
            prop_assert_eq!(request.bytes_min(), terms.2);
            prop_assert_eq!(request.bytes_max(), terms.3);
            prop_assert_eq!(request.isolation() == IsolationLevel::ReadCommitted, terms.4);
            let session = if version >= 7 { (terms.5, terms.6) } else { (0, -1) };
            prop_assert_eq!((request.session_id(), request.session_epoch()), session);
            let rack = Some(rack.as_str()).filter(|rack| version >= 11 && !rack.is_empty());
            prop_assert_eq!(request.rack().map(|rack| rack.as_str().unwrap()), rack);
            prop_assert_eq!(request.topic_count(), topics.len());
            let listed: Vec<(TopicRef<'_>, Vec<Wanted>)> = request
                .topics()
                .map(|topic| (topic.topic(), topic.partitions().map(|p| plain(&p)).collect()))
                .collect();
            let expected: Vec<(TopicRef<'_>, Vec<Wanted>)> = topics
                .iter()
                .map(|topic| {
                    let wanted = topic.partitions.iter().map(|wanted| kept(version, wanted));
                    (topic.topic_ref(version), wanted.collect())
                })
                .collect();
            prop_assert_eq!(listed, expected, "version {}", version);
            let listed: Vec<(TopicRef<'_>, Vec<i32>)> = request
                .forgotten_topics()
                .map(|topic| (topic.topic(), topic.partitions().map(|p| p.0).collect()))
                .collect();
            let expected: Vec<_> = forgotten
                .iter()
                .filter(|_| version >= 7)
                .map(|topic| (topic.topic_ref(version), topic.partitions.clone()))
                .collect();
            prop_assert_eq!(listed, expected, "version {}", version);
        }
    }

    #[test]
    fn responses_are_those_of_an_independent_codec_to_the_byte(topics in answers()) {
        for version in ApiKey::Fetch.versions() {
            let results: Vec<_> = topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |answer| (topic, answer)))
                .map(|(topic, answer)| result(topic.topic_ref(version), answer))
                .collect();
            let node_endpoints = [NodeEndpoint {
                node: BrokerId(4),
                host: "host".into(),
                port: 9092,
                rack: None,
            }];
            let head = ResponseHead {
                correlation_id: 9,
                throttle_time_ms: 13,
                error: ErrorCode::FetchSessionIdNotFound,
                session_id: 99,
                node_endpoints: &node_endpoints,
            };
            let given: Vec<_> =
                results.iter().flat_map(|result| result.records.clone()).collect();
            let slices = encode_response(version, &head, results).unwrap();
            for records in given.iter().filter(|records| !records.is_empty()) {
                let same = |slice: &Bytes| {
                    slice.as_ptr() == records.as_ptr() && slice.len() == records.len()
                };
                prop_assert!(slices.iter().any(same), "records are passed through, not copied");
            }
            let frame = frame_of(&slices);
            let (_, body) = parse_response_header(&frame, ApiKey::Fetch, version).unwrap();
            let mut expected = oracle_answer(version, &topics);
            expected.responses.retain(|topic| !topic.partitions.is_empty());
            let read: oracle::FetchResponse = oracle_decode(body.clone(), version);
            prop_assert_eq!(&read, &expected, "version {}", version);
            prop_assert_eq!(body, oracle_encode(&expected, version), "version {}", version);
        }
    }

    #[test]
    fn clients_read_what_an_independent_codec_answered(topics in answers()) {
        for version in ApiKey::Fetch.versions() {
            let mut written = oracle_answer(version, &topics);
            written.unknown_tagged_fields = unknown_tags(version >= 12);
            let answer = FetchAnswer::parse(oracle_encode(&written, version), version).unwrap();
            prop_assert_eq!(answer.throttle_time_ms(), 13);
            let session = if version >= 7 { (70, 99) } else { (0, 0) };
            prop_assert_eq!((answer.error_code(), answer.session_id()), session);
            prop_assert_eq!(answer.topics().count(), topics.len());
            for (topic, expected) in answer.topics().zip(&topics) {
                prop_assert_eq!(topic.topic(), expected.topic_ref(version));
                prop_assert_eq!(topic.partitions().count(), expected.partitions.len());
                for (partition, answered) in topic.partitions().zip(&expected.partitions) {
                    let expected = result(topic.topic(), answered);
                    prop_assert_eq!(partition.index(), expected.index);
                    prop_assert_eq!(partition.error_code(), expected.error.code());
                    prop_assert_eq!(partition.high_watermark(), expected.high_watermark);
                    prop_assert_eq!(partition.last_stable(), expected.last_stable);
                    let log_start = if version >= 5 { expected.log_start } else { Offset(-1) };
                    prop_assert_eq!(partition.log_start(), log_start);
                    let aborted = partition.aborted().map(|list| list.collect::<Vec<_>>());
                    prop_assert_eq!(aborted, expected.aborted);
                    let newer = |since: i16| version >= since;
                    let preferred = expected.preferred_replica.filter(|_| newer(11));
                    prop_assert_eq!(partition.preferred_replica(), preferred);
                    prop_assert_eq!(partition.diverging(), expected.diverging.filter(|_| newer(12)));
                    let leader = expected.current_leader.filter(|_| newer(12));
                    prop_assert_eq!(partition.current_leader(), leader);
                    prop_assert_eq!(partition.records().unwrap(), answered.records.concat());
                }
            }
        }
    }

    #[test]
    fn clients_write_what_an_independent_codec_reads(asked in requests()) {
        let (terms, topics, _, rack) = &asked;
        for version in ApiKey::Fetch.versions() {
            let specs: Vec<_> = topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |wanted| (topic, wanted)))
                .map(|(topic, &(index, current, offset, last, _, bytes_max))| FetchSpec {
                    topic: topic.topic_ref(version),
                    partition: FetchPartition::new(PartitionIndex(index), Offset(offset), bytes_max)
                        .with_epochs(epoch(current), epoch(last)),
                })
                .collect();
            let isolation =
                if terms.4 { IsolationLevel::ReadCommitted } else { IsolationLevel::ReadUncommitted };
            let head = FetchHead {
                wait_ms_max: terms.1,
                bytes_min: terms.2,
                bytes_max: terms.3,
                isolation,
                rack,
            };
            let header = ClientHeader { version, correlation_id: 1, client_id: Some("c") };
            let frame = frame_of(&[encode_request(&header, &head, &specs).unwrap()]);
            let (_, body) = RequestHeader::parse(&frame).unwrap();
            let read: oracle::FetchRequest = oracle_decode(body, version);
            prop_assert_eq!(read.max_wait_ms, terms.1);
            prop_assert_eq!(read.replica_id.0, -1);
            prop_assert_eq!(read.session_epoch, -1);
            let kept_topics = topics.iter().filter(|topic| !topic.partitions.is_empty());
            prop_assert_eq!(read.topics.len(), kept_topics.clone().count());
            for (read, expected) in read.topics.iter().zip(kept_topics) {
                prop_assert_eq!(&read.topic, &expected.oracle_name(version));
                let listed: Vec<Wanted> = read
                    .partitions
                    .iter()
                    .map(|p| {
                        let (current, last) = (p.current_leader_epoch, p.last_fetched_epoch);
                        (p.partition, current, p.fetch_offset, last, -1, p.partition_max_bytes)
                    })
                    .collect();
                let kept: Vec<Wanted> = expected
                    .partitions
                    .iter()
                    .map(|&(index, current, offset, last, _, bytes_max)| {
                        kept(version, &(index, current, offset, last, -1, bytes_max))
                    })
                    .collect();
                prop_assert_eq!(listed, kept);
            }
        }
    }
}
