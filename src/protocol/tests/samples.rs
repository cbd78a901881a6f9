//! One message of each kind with every field set that the version has.

use super::super::codec::{StrBytes, Uuid, messages::*};

fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}

fn some(value: &str) -> Option<StrBytes> {
    Some(text(value))
}

const ID: Uuid = Uuid::from_bytes([7; 16]);

/// Builds a message from its default by assigning fields.
macro_rules! build {
    ($kind:path { $($field:ident: $value:expr),* $(,)? }) => {{
        let mut message = <$kind>::default();
        $(message.$field = $value;)*
        message
    }};
}

pub(super) fn metadata_request(version: i16) -> MetadataRequest {
    use metadata_request::MetadataRequestTopic as Topic;
    let named = build!(Topic { name: some("by-name") });
    let topics = if version >= 12 {
        vec![named, build!(Topic { name: None, topic_id: ID })]
    } else {
        vec![named]
    };
    build!(MetadataRequest {
        topics: Some(topics),
        allow_auto_topic_creation: version < 4,
        include_cluster_authorized_operations: (8..=10).contains(&version),
        include_topic_authorized_operations: version >= 8,
    })
}

pub(super) fn metadata_response(version: i16) -> MetadataResponse {
    use metadata_response::*;
    let partition = build!(MetadataResponsePartition {
        error_code: 5,
        partition_index: 3,
        leader_id: 1,
        leader_epoch: 9,
        replica_nodes: vec![1, 2],
        isr_nodes: vec![1],
        offline_replicas: vec![2],
    });
    let topic = build!(MetadataResponseTopic {
        error_code: 3,
        name: some("t"),
        topic_id: ID,
        is_internal: true,
        partitions: vec![partition],
        topic_authorized_operations: if version >= 8 { 4 } else { i32::MIN },
    });
    let broker =
        build!(MetadataResponseBroker { node_id: 1, host: text("h"), port: 9092, rack: some("r") });
    build!(MetadataResponse {
        throttle_time_ms: 5,
        brokers: vec![broker],
        cluster_id: some("cluster"),
        controller_id: 1,
        topics: vec![topic],
        cluster_authorized_operations: if (8..=10).contains(&version) { 6 } else { i32::MIN },
        error_code: 129,
    })
}

pub(super) fn list_offsets_request(version: i16) -> ListOffsetsRequest {
    use list_offsets_request::*;
    let partition =
        build!(ListOffsetsPartition { partition_index: 2, current_leader_epoch: 4, timestamp: -3 });
    let topic = build!(ListOffsetsTopic { name: text("t"), partitions: vec![partition] });
    build!(ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(version >= 2),
        topics: vec![topic],
        timeout_ms: 30_000,
    })
}

pub(super) fn list_offsets_response(version: i16) -> ListOffsetsResponse {
    use list_offsets_response::*;
    let partition = build!(ListOffsetsPartitionResponse {
        partition_index: 2,
        error_code: 75,
        timestamp: 1_700_000_000_000,
        offset: 77,
        leader_epoch: if version >= 4 { 3 } else { -1 },
    });
    let topic = build!(ListOffsetsTopicResponse { name: text("t"), partitions: vec![partition] });
    build!(ListOffsetsResponse { throttle_time_ms: 1, topics: vec![topic] })
}

pub(super) fn offset_for_leader_epoch_request(_: i16) -> OffsetForLeaderEpochRequest {
    use offset_for_leader_epoch_request::*;
    let partition =
        build!(OffsetForLeaderPartition { partition: 1, current_leader_epoch: 3, leader_epoch: 2 });
    let topic = build!(OffsetForLeaderTopic { topic: text("t"), partitions: vec![partition] });
    build!(OffsetForLeaderEpochRequest { replica_id: -2, topics: vec![topic] })
}

pub(super) fn offset_for_leader_epoch_response(_: i16) -> OffsetForLeaderEpochResponse {
    use offset_for_leader_epoch_response::*;
    let partition =
        build!(EpochEndOffset { error_code: 74, partition: 1, leader_epoch: 2, end_offset: 100 });
    let topic =
        build!(OffsetForLeaderTopicResult { topic: text("t"), partitions: vec![partition] });
    build!(OffsetForLeaderEpochResponse { throttle_time_ms: 1, topics: vec![topic] })
}

pub(super) fn create_topics_request(_: i16) -> CreateTopicsRequest {
    use create_topics_request::*;
    let assignment =
        build!(CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2] });
    let config = build!(CreatableTopicConfig { name: text("flush.messages"), value: some("1") });
    let unset = build!(CreatableTopicConfig { name: text("retention.ms"), value: None });
    let topic = build!(CreatableTopic {
        name: text("t"),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assignment],
        configs: vec![config, unset],
    });
    build!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 9, validate_only: true })
}

pub(super) fn create_topics_response(_: i16) -> CreateTopicsResponse {
    use create_topics_response::*;
    let config = build!(CreatableTopicConfigs {
        name: text("retention.ms"),
        value: some("7"),
        read_only: true,
        config_source: 5,
        is_sensitive: true,
    });
    let topic = build!(CreatableTopicResult {
        name: text("t"),
        topic_id: ID,
        error_code: 17,
        error_message: some("bad"),
        topic_config_error_code: 29,
        num_partitions: 4,
        replication_factor: 1,
        configs: Some(vec![config]),
    });
    build!(CreateTopicsResponse { throttle_time_ms: 3, topics: vec![topic] })
}

pub(super) fn delete_topics_request(version: i16) -> DeleteTopicsRequest {
    use delete_topics_request::DeleteTopicState as Topic;
    if version >= 6 {
        let named = build!(Topic { name: some("t") });
        let by_id = build!(Topic { name: None, topic_id: ID });
        build!(DeleteTopicsRequest { topics: vec![named, by_id], timeout_ms: 5 })
    } else {
        build!(DeleteTopicsRequest { topic_names: vec![text("t"), text("u")], timeout_ms: 5 })
    }
}

pub(super) fn delete_topics_response(_: i16) -> DeleteTopicsResponse {
    use delete_topics_response::DeletableTopicResult as Topic;
    let topic =
        build!(Topic { name: some("t"), topic_id: ID, error_code: 3, error_message: some("gone") });
    build!(DeleteTopicsResponse { throttle_time_ms: 1, responses: vec![topic] })
}

pub(super) fn delete_records_request(_: i16) -> DeleteRecordsRequest {
    use delete_records_request::{
        DeleteRecordsPartition as Partition, DeleteRecordsTopic as Topic,
    };
    let partitions = vec![
        build!(Partition { partition_index: 0, offset: -1 }),
        build!(Partition { partition_index: 3, offset: 1 << 40 }),
    ];
    let topic = build!(Topic { name: text("t"), partitions: partitions });
    build!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5 })
}

pub(super) fn delete_records_response(_: i16) -> DeleteRecordsResponse {
    use delete_records_response::{
        DeleteRecordsPartitionResult as Partition, DeleteRecordsTopicResult as Topic,
    };
    let partition = build!(Partition { partition_index: 3, low_watermark: 7, error_code: 44 });
    let topic = build!(Topic { name: text("t"), partitions: vec![partition] });
    build!(DeleteRecordsResponse { throttle_time_ms: 1, topics: vec![topic] })
}

pub(super) fn describe_configs_request(version: i16) -> DescribeConfigsRequest {
    use describe_configs_request::DescribeConfigsResource as Resource;
    let topic = build!(Resource {
        resource_type: 2,
        resource_name: text("t"),
        configuration_keys: Some(vec![text("retention.ms")]),
    });
    let broker =
        build!(Resource { resource_type: 4, resource_name: text("1"), configuration_keys: None });
    build!(DescribeConfigsRequest {
        resources: vec![topic, broker],
        include_synonyms: true,
        include_documentation: version >= 3,
    })
}

pub(super) fn describe_configs_response(_: i16) -> DescribeConfigsResponse {
    use describe_configs_response::*;
    let synonym =
        build!(DescribeConfigsSynonym { name: text("log.retention.ms"), value: None, source: 5 });
    let config = build!(DescribeConfigsResourceResult {
        name: text("retention.ms"),
        value: some("1"),
        read_only: true,
        config_source: 1,
        is_sensitive: true,
        synonyms: vec![synonym],
        config_type: 5,
        documentation: some("how long"),
    });
    let result = build!(DescribeConfigsResult {
        error_code: 40,
        error_message: some("no"),
        resource_type: 2,
        resource_name: text("t"),
        configs: vec![config],
    });
    build!(DescribeConfigsResponse { throttle_time_ms: 1, results: vec![result] })
}

pub(super) fn incremental_alter_configs_request(_: i16) -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::*;
    let set = build!(AlterableConfig {
        name: text("retention.ms"),
        config_operation: 0,
        value: some("1"),
    });
    let delete =
        build!(AlterableConfig { name: text("flush.ms"), config_operation: 1, value: None });
    let resource = build!(AlterConfigsResource {
        resource_type: 2,
        resource_name: text("t"),
        configs: vec![set, delete],
    });
    build!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: true })
}

pub(super) fn incremental_alter_configs_response(_: i16) -> IncrementalAlterConfigsResponse {
    use incremental_alter_configs_response::*;
    let response = build!(AlterConfigsResourceResponse {
        error_code: 40,
        error_message: some("no"),
        resource_type: 2,
        resource_name: text("t"),
    });
    build!(IncrementalAlterConfigsResponse { throttle_time_ms: 1, responses: vec![response] })
}

pub(super) fn create_partitions_request(_: i16) -> CreatePartitionsRequest {
    use create_partitions_request::*;
    let assignment = build!(CreatePartitionsAssignment { broker_ids: vec![1] });
    let placed = build!(CreatePartitionsTopic {
        name: text("t"),
        count: 5,
        assignments: Some(vec![assignment]),
    });
    let free = build!(CreatePartitionsTopic { name: text("u"), count: 6, assignments: None });
    build!(CreatePartitionsRequest {
        topics: vec![placed, free],
        timeout_ms: 9,
        validate_only: true,
    })
}

pub(super) fn create_partitions_response(_: i16) -> CreatePartitionsResponse {
    use create_partitions_response::CreatePartitionsTopicResult as Topic;
    let topic = build!(Topic { name: text("t"), error_code: 37, error_message: some("no") });
    build!(CreatePartitionsResponse { throttle_time_ms: 1, results: vec![topic] })
}

pub(super) fn describe_cluster_request(version: i16) -> DescribeClusterRequest {
    build!(DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        endpoint_type: if version >= 1 { 2 } else { 1 },
        include_fenced_brokers: version >= 2,
    })
}

pub(super) fn describe_cluster_response(version: i16) -> DescribeClusterResponse {
    use describe_cluster_response::DescribeClusterBroker as Broker;
    let broker = build!(Broker {
        broker_id: 1,
        host: text("h"),
        port: 9092,
        rack: some("r"),
        is_fenced: version >= 2,
    });
    build!(DescribeClusterResponse {
        throttle_time_ms: 1,
        error_code: 114,
        error_message: some("no"),
        endpoint_type: if version >= 1 { 2 } else { 1 },
        cluster_id: text("cluster"),
        controller_id: 1,
        brokers: vec![broker],
        cluster_authorized_operations: 4,
    })
}

pub(super) fn describe_topic_partitions_request(_: i16) -> DescribeTopicPartitionsRequest {
    use describe_topic_partitions_request::*;
    build!(DescribeTopicPartitionsRequest {
        topics: vec![build!(TopicRequest { name: text("t") })],
        response_partition_limit: 10,
        cursor: Some(build!(Cursor { topic_name: text("t"), partition_index: 4 })),
    })
}

pub(super) fn describe_topic_partitions_response(_: i16) -> DescribeTopicPartitionsResponse {
    use describe_topic_partitions_response::*;
    let partition = build!(DescribeTopicPartitionsResponsePartition {
        error_code: 0,
        partition_index: 1,
        leader_id: 1,
        leader_epoch: 2,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        eligible_leader_replicas: Some(vec![]),
        last_known_elr: None,
        offline_replicas: vec![3],
    });
    let topic = build!(DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: some("t"),
        topic_id: ID,
        is_internal: true,
        partitions: vec![partition],
        topic_authorized_operations: 4,
    });
    build!(DescribeTopicPartitionsResponse {
        throttle_time_ms: 1,
        topics: vec![topic],
        next_cursor: Some(build!(Cursor { topic_name: text("t"), partition_index: 2 })),
    })
}

pub(super) fn init_producer_id_request(version: i16) -> InitProducerIdRequest {
    build!(InitProducerIdRequest {
        transactional_id: some("tx"),
        transaction_timeout_ms: 60_000,
        producer_id: if version >= 3 { 7 } else { -1 },
        producer_epoch: if version >= 3 { 1 } else { -1 },
    })
}

pub(super) fn init_producer_id_response(_: i16) -> InitProducerIdResponse {
    build!(InitProducerIdResponse {
        throttle_time_ms: 1,
        error_code: 0,
        producer_id: 1000,
        producer_epoch: 0,
    })
}

pub(super) fn find_coordinator_request(version: i16) -> FindCoordinatorRequest {
    if version >= 4 {
        build!(FindCoordinatorRequest { key_type: 1, coordinator_keys: vec![text("tx")] })
    } else {
        build!(FindCoordinatorRequest { key: text("tx"), key_type: i8::from(version >= 1) })
    }
}

pub(super) fn find_coordinator_response(version: i16) -> FindCoordinatorResponse {
    use find_coordinator_response::Coordinator;
    if version >= 4 {
        let coordinator = build!(Coordinator {
            key: text("tx"),
            node_id: -1,
            host: text("h"),
            port: -1,
            error_code: 53,
            error_message: some("no"),
        });
        build!(FindCoordinatorResponse { throttle_time_ms: 1, coordinators: vec![coordinator] })
    } else {
        build!(FindCoordinatorResponse {
            throttle_time_ms: 1,
            error_code: 53,
            error_message: some("no"),
            node_id: -1,
            host: text("h"),
            port: -1,
        })
    }
}
