//! Every version of every API that goes through the codec crate, both ways, and read and written
//! again by an independent codec.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable};

use super::samples;
use crate::protocol::codec::{self, messages};
use crate::protocol::{ApiKey, ClientHeader, RequestHeader, parse_response_header};

/// Reads `body` with the oracle and writes it again.
fn through_the_oracle<M: Decodable + Encodable>(body: &Bytes, version: i16) -> Bytes {
    let mut left = body.clone();
    let message = M::decode(&mut left, version).unwrap();
    assert!(left.is_empty(), "the oracle read it all");
    let mut again = BytesMut::new();
    message.encode(&mut again, version).unwrap();
    again.freeze()
}

fn split_frame(frame: &Bytes) -> Bytes {
    let (prefix, rest) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(i32::from_be_bytes(*prefix) as usize, rest.len());
    frame.slice(4..)
}

fn check<Q, R, OracleQ, OracleR>(
    api: ApiKey,
    request: impl Fn(i16) -> Q,
    response: impl Fn(i16) -> R,
) where
    Q: messages::KafkaRequest + PartialEq + std::fmt::Debug,
    R: messages::KafkaResponse + PartialEq + std::fmt::Debug,
    OracleQ: Decodable + Encodable,
    OracleR: Decodable + Encodable,
{
    assert_eq!(Q::API_KEY.value(), api.code());
    assert_eq!(R::API_KEY.value(), api.code());
    for version in api.versions() {
        let header = ClientHeader { version, correlation_id: 5, client_id: Some("c") };
        let frame = split_frame(&codec::encode_request(&header, &request(version)).unwrap());
        let (parsed, body) = RequestHeader::parse(&frame).unwrap();
        assert_eq!((parsed.api(), parsed.version()), (api, version));
        let again: Q = codec::decode(body.clone(), version).unwrap();
        let twice = split_frame(&codec::encode_request(&header, &again).unwrap());
        assert_eq!(twice, frame, "{api} {version} request");
        assert_eq!(through_the_oracle::<OracleQ>(&body, version), body, "{api} {version} request");

        let frame = split_frame(&codec::encode_response(-5, version, &response(version)).unwrap());
        let (correlation_id, body) = parse_response_header(&frame, api, version).unwrap();
        assert_eq!(correlation_id, -5);
        let again: R = codec::decode_response(body.clone(), version).unwrap();
        let twice = split_frame(&codec::encode_response(-5, version, &again).unwrap());
        assert_eq!(twice, frame, "{api} {version} response");
        assert_eq!(through_the_oracle::<OracleR>(&body, version), body, "{api} {version} response");
        if version == *api.versions().end() {
            assert_eq!(again, response(version), "the newest version drops no field");
        }
    }
}

macro_rules! every_version {
    ($($test:ident: $api:ident, $request:ident $request_sample:ident,
       $response:ident $response_sample:ident;)*) => {
        const CHECKED: &[ApiKey] = &[$(ApiKey::$api,)*];

        $(
            #[test]
            fn $test() {
                check::<_, _, oracle::$request, oracle::$response>(
                    ApiKey::$api,
                    samples::$request_sample,
                    samples::$response_sample,
                );
            }
        )*
    };
}

every_version! {
    every_metadata_version_round_trips: Metadata, MetadataRequest metadata_request,
        MetadataResponse metadata_response;
    every_list_offsets_version_round_trips: ListOffsets, ListOffsetsRequest list_offsets_request,
        ListOffsetsResponse list_offsets_response;
    every_offset_for_leader_epoch_version_round_trips: OffsetForLeaderEpoch, OffsetForLeaderEpochRequest offset_for_leader_epoch_request,
        OffsetForLeaderEpochResponse offset_for_leader_epoch_response;
    every_create_topics_version_round_trips: CreateTopics, CreateTopicsRequest create_topics_request,
        CreateTopicsResponse create_topics_response;
    every_delete_records_version_round_trips: DeleteRecords,
        DeleteRecordsRequest delete_records_request, DeleteRecordsResponse delete_records_response;
    every_delete_topics_version_round_trips: DeleteTopics, DeleteTopicsRequest delete_topics_request,
        DeleteTopicsResponse delete_topics_response;
    every_describe_configs_version_round_trips: DescribeConfigs, DescribeConfigsRequest describe_configs_request,
        DescribeConfigsResponse describe_configs_response;
    every_incremental_alter_configs_version_round_trips: IncrementalAlterConfigs, IncrementalAlterConfigsRequest incremental_alter_configs_request,
        IncrementalAlterConfigsResponse incremental_alter_configs_response;
    every_create_partitions_version_round_trips: CreatePartitions, CreatePartitionsRequest create_partitions_request,
        CreatePartitionsResponse create_partitions_response;
    every_describe_cluster_version_round_trips: DescribeCluster, DescribeClusterRequest describe_cluster_request,
        DescribeClusterResponse describe_cluster_response;
    every_describe_topic_partitions_version_round_trips: DescribeTopicPartitions, DescribeTopicPartitionsRequest describe_topic_partitions_request,
        DescribeTopicPartitionsResponse describe_topic_partitions_response;
    every_init_producer_id_version_round_trips: InitProducerId, InitProducerIdRequest init_producer_id_request,
        InitProducerIdResponse init_producer_id_response;
    every_find_coordinator_version_round_trips: FindCoordinator, FindCoordinatorRequest find_coordinator_request,
        FindCoordinatorResponse find_coordinator_response;
}

#[test]
fn no_api_is_forgotten() {
    let by_hand = [ApiKey::Produce, ApiKey::Fetch, ApiKey::ApiVersions];
    for api in ApiKey::all() {
        assert!(CHECKED.contains(&api) != by_hand.contains(&api), "{api}");
    }
}
