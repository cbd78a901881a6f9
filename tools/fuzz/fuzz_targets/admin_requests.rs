//! Bodies of all requests that go through the codec crate: they must not take more memory than a
//! stated multiple of their bytes, and what was read must survive being written and read again.
//!
//! Input: one byte that chooses the API, one that chooses the version, then the body.
//!
//! Run, from the repository's root (the seeds are read, new inputs go to the first folder):
//! ```text
//! mkdir -p tools/fuzz/corpus/admin_requests
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz admin_requests \
//!   tools/fuzz/corpus/admin_requests tools/fuzz/seeds/admin_requests \
//!   -- -max_total_time=600 -max_len=65536 -malloc_limit_mb=64
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use thalweg::protocol::codec::messages::{self, KafkaRequest};
use thalweg::protocol::{ApiKey, ClientHeader, RequestHeader, codec};

/// See the hostile-input tests of `protocol`.
const MEMORY_PER_BYTE_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Some(([api, version], body)) = input.split_first_chunk::<2>() else { return };
    let apis: Vec<ApiKey> = ApiKey::all().collect();
    let api = apis[usize::from(*api) % apis.len()];
    let versions: Vec<i16> = api.versions().collect();
    let version = versions[usize::from(*version) % versions.len()];
    let body = Bytes::copy_from_slice(body);
    match api {
        ApiKey::Metadata => exercise::<messages::MetadataRequest>(body, version),
        ApiKey::ListOffsets => exercise::<messages::ListOffsetsRequest>(body, version),
        ApiKey::OffsetForLeaderEpoch => {
            exercise::<messages::OffsetForLeaderEpochRequest>(body, version);
        }
        ApiKey::CreateTopics => exercise::<messages::CreateTopicsRequest>(body, version),
        ApiKey::DeleteTopics => exercise::<messages::DeleteTopicsRequest>(body, version),
        ApiKey::DescribeConfigs => exercise::<messages::DescribeConfigsRequest>(body, version),
        ApiKey::IncrementalAlterConfigs => {
            exercise::<messages::IncrementalAlterConfigsRequest>(body, version);
        }
        ApiKey::CreatePartitions => exercise::<messages::CreatePartitionsRequest>(body, version),
        ApiKey::DescribeCluster => exercise::<messages::DescribeClusterRequest>(body, version),
        ApiKey::DescribeTopicPartitions => {
            exercise::<messages::DescribeTopicPartitionsRequest>(body, version);
        }
        ApiKey::DeleteRecords => exercise::<messages::DeleteRecordsRequest>(body, version),
        ApiKey::InitProducerId => exercise::<messages::InitProducerIdRequest>(body, version),
        ApiKey::FindCoordinator => exercise::<messages::FindCoordinatorRequest>(body, version),
        // They have targets of their own.
        ApiKey::Produce | ApiKey::Fetch | ApiKey::ApiVersions => {}
    }
});

fn exercise<M: KafkaRequest + PartialEq + std::fmt::Debug>(body: Bytes, version: i16) {
    let body_bytes = body.len();
    let Ok(message) = codec::decode::<M>(body, version) else { return };
    let kept = message.retained_size().heap_bytes();
    assert!(kept <= MEMORY_PER_BYTE_MAX * body_bytes + 1024, "{kept} bytes for {body_bytes}");
    let header = ClientHeader { version, correlation_id: 1, client_id: None };
    let frame = codec::encode_request(&header, &message).expect("what was read can be written");
    let (_, body) = RequestHeader::parse(&frame.slice(4..)).expect("our header");
    assert_eq!(codec::decode::<M>(body, version).expect("our body"), message);
}
