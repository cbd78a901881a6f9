//! Hostile bytes: whatever arrives, no panic, no memory beyond a stated multiple of the bytes, and
//! no request that parses and then fails to iterate. Numbers are those of the bad-input list.

use bytes::Bytes;
use proptest::prelude::*;

use super::samples;
use crate::base::ids::PartitionIndex;
use crate::protocol::codec::{self, messages};
use crate::protocol::fetch::{FetchAnswer, FetchRequest};
use crate::protocol::produce::{ProduceAnswer, ProduceRequest};
use crate::protocol::{ApiKey, ClientHeader, Malformed, RequestHeader, TopicRef};

/// Decoded structures may take this many times the bytes that describe them. The worst are
/// compact strings and tagged fields of one or two bytes, which take 32 and 40.
const MEMORY_PER_BYTE_MAX: usize = 64;

fn produce_body(version: i16) -> Bytes {
    use crate::protocol::produce::{ProduceBatch, ProduceHead, encode_request};
    let topic = topic_ref(version);
    let batch = |partition, records: &'static [u8]| ProduceBatch {
        topic,
        partition: PartitionIndex(partition),
        records: Bytes::from_static(records),
    };
    let header = ClientHeader { version, correlation_id: 1, client_id: None };
    let head = ProduceHead { transactional_id: Some("tx"), acks: -1, timeout_ms: 1 };
    let batches = [batch(0, b"records"), batch(1, b""), batch(2, &[7; 300])];
    let frame = super::model::frame_of(&encode_request(&header, &head, &batches).unwrap());
    RequestHeader::parse(&frame).unwrap().1
}

fn fetch_body(version: i16) -> Bytes {
    use crate::base::ids::Offset;
    use crate::protocol::fetch::{
        FetchHead, FetchPartition, FetchSpec, IsolationLevel, encode_request,
    };
    let spec = |partition| FetchSpec {
        topic: topic_ref(version),
        partition: FetchPartition::new(PartitionIndex(partition), Offset(5), 1024),
    };
    let header = ClientHeader { version, correlation_id: 1, client_id: None };
    let head = FetchHead {
        wait_ms_max: 500,
        bytes_min: 1,
        bytes_max: 1 << 20,
        isolation: IsolationLevel::ReadCommitted,
        rack: "rack",
    };
    let frame = encode_request(&header, &head, &[spec(0), spec(1)]).unwrap();
    RequestHeader::parse(&super::model::frame_of(&[frame])).unwrap().1
}

fn topic_ref(version: i16) -> TopicRef<'static> {
    if version >= 13 {
        TopicRef::Id(crate::base::ids::TopicId([9; 16]))
    } else {
        TopicRef::Name("topic".into())
    }
}

/// Parses and, if that works, iterates everything; panics if the two disagree.
fn read_produce(body: &[u8], version: i16) -> Result<(), Malformed> {
    let request = ProduceRequest::parse(Bytes::copy_from_slice(body), version)?;
    let topics: Vec<_> = request.topics().collect();
    assert_eq!(topics.len(), request.topic_count());
    let partitions: Vec<_> = topics.iter().flat_map(|topic| topic.partitions()).collect();
    assert_eq!(partitions.len(), request.partition_count());
    let bytes: usize = partitions.iter().filter_map(|p| p.records()).map(|r| r.len()).sum();
    assert!(bytes <= body.len());
    Ok(())
}

fn read_fetch(body: &[u8], version: i16) -> Result<(), Malformed> {
    let request = FetchRequest::parse(Bytes::copy_from_slice(body), version)?;
    let topics: Vec<_> = request.topics().collect();
    assert_eq!(topics.len(), request.topic_count());
    let partitions = topics.iter().flat_map(|topic| topic.partitions()).count();
    assert_eq!(partitions, request.partition_count());
    assert!(request.forgotten_topics().map(|t| t.partitions().len()).sum::<usize>() <= body.len());
    Ok(())
}

/// Decodes a request of `api` and checks what it keeps in memory.
fn read_codec(api: ApiKey, body: &[u8], version: i16) -> Result<(), Malformed> {
    fn read<M: messages::KafkaRequest>(body: &[u8], version: i16) -> Result<(), Malformed> {
        let message: M = codec::decode(Bytes::copy_from_slice(body), version)?;
        let kept = message.retained_size().heap_bytes();
        assert!(kept <= MEMORY_PER_BYTE_MAX * body.len() + 1024, "{kept} for {}", body.len());
        Ok(())
    }
    match api {
        ApiKey::Metadata => read::<messages::MetadataRequest>(body, version),
        ApiKey::ListOffsets => read::<messages::ListOffsetsRequest>(body, version),
        ApiKey::OffsetForLeaderEpoch => {
            read::<messages::OffsetForLeaderEpochRequest>(body, version)
        }
        ApiKey::CreateTopics => read::<messages::CreateTopicsRequest>(body, version),
        ApiKey::DeleteRecords => read::<messages::DeleteRecordsRequest>(body, version),
        ApiKey::DeleteTopics => read::<messages::DeleteTopicsRequest>(body, version),
        ApiKey::DescribeConfigs => read::<messages::DescribeConfigsRequest>(body, version),
        ApiKey::IncrementalAlterConfigs => {
            read::<messages::IncrementalAlterConfigsRequest>(body, version)
        }
        ApiKey::CreatePartitions => read::<messages::CreatePartitionsRequest>(body, version),
        ApiKey::DescribeCluster => read::<messages::DescribeClusterRequest>(body, version),
        ApiKey::DescribeTopicPartitions => {
            read::<messages::DescribeTopicPartitionsRequest>(body, version)
        }
        ApiKey::InitProducerId => read::<messages::InitProducerIdRequest>(body, version),
        ApiKey::FindCoordinator => read::<messages::FindCoordinatorRequest>(body, version),
        ApiKey::Produce => read_produce(body, version),
        ApiKey::Fetch => read_fetch(body, version),
        ApiKey::ApiVersions => Ok(()),
    }
}

fn encoded<M: messages::KafkaRequest>(message: &M, version: i16) -> Bytes {
    let header = ClientHeader { version, correlation_id: 1, client_id: None };
    let frame = super::model::frame_of(&[codec::encode_request(&header, message).unwrap()]);
    RequestHeader::parse(&frame).unwrap().1
}

fn sample_body(api: ApiKey, version: i16) -> Option<Bytes> {
    Some(match api {
        ApiKey::Metadata => encoded(&samples::metadata_request(version), version),
        ApiKey::ListOffsets => encoded(&samples::list_offsets_request(version), version),
        ApiKey::OffsetForLeaderEpoch => {
            encoded(&samples::offset_for_leader_epoch_request(version), version)
        }
        ApiKey::CreateTopics => encoded(&samples::create_topics_request(version), version),
        ApiKey::DeleteRecords => encoded(&samples::delete_records_request(version), version),
        ApiKey::DeleteTopics => encoded(&samples::delete_topics_request(version), version),
        ApiKey::DescribeConfigs => encoded(&samples::describe_configs_request(version), version),
        ApiKey::IncrementalAlterConfigs => {
            encoded(&samples::incremental_alter_configs_request(version), version)
        }
        ApiKey::CreatePartitions => encoded(&samples::create_partitions_request(version), version),
        ApiKey::DescribeCluster => encoded(&samples::describe_cluster_request(version), version),
        ApiKey::DescribeTopicPartitions => {
            encoded(&samples::describe_topic_partitions_request(version), version)
        }
        ApiKey::InitProducerId => encoded(&samples::init_producer_id_request(version), version),
        ApiKey::FindCoordinator => encoded(&samples::find_coordinator_request(version), version),
        ApiKey::Produce => produce_body(version),
        ApiKey::Fetch => fetch_body(version),
        ApiKey::ApiVersions => return None,
    })
}

fn every_sample() -> impl Iterator<Item = (ApiKey, i16, Bytes)> {
    ApiKey::all()
        .flat_map(|api| api.versions().map(move |version| (api, version)))
        .filter_map(|(api, version)| Some((api, version, sample_body(api, version)?)))
}

#[test]
fn every_request_that_is_cut_off_anywhere_is_malformed() {
    for (api, version, body) in every_sample() {
        assert_eq!(read_codec(api, &body, version), Ok(()), "{api} {version}");
        for len in 0..body.len() {
            assert!(read_codec(api, &body[..len], version).is_err(), "{api} {version} at {len}");
        }
    }
}

#[test]
fn case_23_bytes_after_a_body_are_ignored() {
    for (api, version, body) in every_sample() {
        let longer = [&body[..], &[0, 0, 0]].concat();
        assert_eq!(read_codec(api, &longer, version), Ok(()), "{api} {version}");
    }
}

#[test]
fn no_changed_byte_makes_a_request_panic_or_grow() {
    for (api, version, body) in every_sample() {
        for at in 0..body.len() {
            for value in [0, 1, 0x7f, 0x80, 0xfe, 0xff] {
                let mut changed = body.to_vec();
                changed[at] = value;
                let _ = read_codec(api, &changed, version);
            }
        }
    }
}

#[test]
fn cases_31_and_32_array_lengths_without_elements_are_refused() {
    let metadata = |body: &[u8], version| read_codec(ApiKey::Metadata, body, version);
    for len in [i32::MAX, -2, i32::MIN, 1] {
        assert!(metadata(&len.to_be_bytes(), 1).is_err(), "{len}");
        let mut produce = (-1_i16).to_be_bytes().to_vec();
        produce.extend([0, 1, 0, 0, 0, 0]);
        produce.extend(len.to_be_bytes());
        assert!(read_produce(&produce, 3).is_err(), "{len}");
    }
    // What makes other decoders ask for 309 GB.
    assert!(metadata(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0], 12).is_err());
    assert_eq!(metadata(&(-1_i32).to_be_bytes(), 1), Ok(()), "null: all topics");
}

#[test]
fn case_33_null_where_there_must_be_something_is_refused() {
    let body = [0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert!(read_produce(&body, 9).is_err(), "null topics");
    let body = [0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0];
    assert!(read_produce(&body, 9).is_err(), "null name");
    assert!(read_codec(ApiKey::CreateTopics, &[0, 0, 0, 0, 0, 0, 0], 5).is_err());
    assert!(read_codec(ApiKey::Metadata, &[2, 0, 0, 0, 0, 0, 0], 9).is_err(), "null name");
}

#[test]
fn case_34_more_elements_than_anyone_needs_are_refused_however_cheap() {
    let topics = |count: u32| {
        let mut body = vec![0, 0, 1, 0, 0, 0, 0];
        crate::base::varint::write_unsigned(&mut body, count + 1);
        // Each: name of one byte, no partitions, no tags.
        body.extend([2, b't', 1, 0].repeat(count as usize));
        body.push(0);
        body
    };
    assert_eq!(read_produce(&topics(1 << 18), 9), Ok(()));
    let refused = read_produce(&topics((1 << 18) + 1), 9).unwrap_err();
    assert_eq!(refused.what(), "number of topics and partitions");
    let mut metadata = Vec::new();
    crate::base::varint::write_unsigned(&mut metadata, (1 << 17) + 2);
    metadata.extend([2, b't', 0].repeat((1 << 17) + 1));
    metadata.extend([0, 0, 0, 0]);
    assert!(read_codec(ApiKey::Metadata, &metadata, 9).is_err());
    let long = vec![0; codec::REQUEST_BODY_BYTES_MAX + 1];
    assert!(read_codec(ApiKey::CreateTopics, &long, 5).is_err());
}

#[test]
fn case_35_a_string_beyond_the_body_is_refused() {
    for len in [1_i16, i16::MAX] {
        assert!(read_produce(&len.to_be_bytes(), 3).is_err());
    }
    assert!(read_codec(ApiKey::Metadata, &[2, 9, b'a', 0, 0, 0, 0], 9).is_err());
}

#[test]
fn case_36_a_metadata_topic_without_name_is_left_to_the_server() {
    let mut body = vec![2];
    body.extend([0; 16]);
    body.extend([0, 0, 1, 0, 0]);
    let request: messages::MetadataRequest = codec::decode(Bytes::from(body), 12).unwrap();
    let topics = request.topics.unwrap();
    assert_eq!((topics[0].name.clone(), topics[0].topic_id.is_zero()), (None, true));
}

#[test]
fn case_42_names_that_are_not_utf_8_reach_the_server_as_invalid_names() {
    let bad: &[u8] = b"bad\xff\xc3\xe2\x82name";
    for version in ApiKey::CreateTopics.versions() {
        let mut request = samples::create_topics_request(version);
        request.topics[0].name = "bad????name".into();
        let body = encoded(&request, version).to_vec();
        let at = body.windows(11).position(|window| window == b"bad????name").unwrap();
        let mut body = body;
        body[at..at + 11].copy_from_slice(bad);
        let again: messages::CreateTopicsRequest =
            codec::decode(Bytes::from(body), version).unwrap();
        assert_eq!(&*again.topics[0].name, "bad\u{1a}\u{1a}\u{1a}\u{1a}name");
        request.topics[0].name = again.topics[0].name.clone();
        assert_eq!(encoded(&again, version), encoded(&request, version), "all else is kept");
    }
    for version in 3..=12 {
        let body = produce_body(version).to_vec();
        let at = body.windows(5).position(|window| window == b"topic").unwrap();
        let mut body = body;
        body[at] = 0xff;
        let request = ProduceRequest::parse(Bytes::from(body), version).unwrap();
        let topic = request.topics().next().unwrap().topic();
        assert_eq!(topic.name().unwrap().as_str(), None);
        assert_eq!(topic.name().unwrap().as_bytes(), b"\xffopic");
    }
}

#[test]
fn few_bad_strings_are_repaired_and_many_are_refused() {
    let metadata = |count: usize| {
        let mut body = i32::try_from(count).unwrap().to_be_bytes().to_vec();
        body.extend([0, 1, 0xff].repeat(count));
        codec::decode::<messages::MetadataRequest>(Bytes::from(body), 1)
    };
    assert_eq!(metadata(8).unwrap().topics.unwrap().len(), 8);
    assert!(metadata(9).is_err());
}

#[test]
fn isolation_levels_that_do_not_exist_are_refused() {
    let mut body = fetch_body(4).to_vec();
    body[16] = 2;
    assert!(read_fetch(&body, 4).is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for api in ApiKey::all() {
            for version in api.versions() {
                let _ = read_codec(api, &body, version);
            }
        }
        let bytes = Bytes::from(body);
        let _ = RequestHeader::parse(&bytes);
        for version in 3..=17 {
            let _ = ProduceAnswer::parse(bytes.clone(), version)
                .map(|answer| answer.topics().flat_map(|topic| topic.partitions()).count());
            let _ = FetchAnswer::parse(bytes.clone(), version)
                .map(|answer| answer.topics().flat_map(|topic| topic.partitions()).count());
        }
    }
}
