//! The body of a Produce request, in every version; then its answer, read by a client; and the
//! same bytes as an answer from a broker.
//!
//! Input: one byte that chooses the version, then the body.
//!
//! Run, from the repository's root (the seeds are read, new inputs go to the first folder):
//! ```text
//! mkdir -p tools/fuzz/corpus/produce_request
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz produce_request \
//!   tools/fuzz/corpus/produce_request tools/fuzz/seeds/produce_request \
//!   -- -max_total_time=600 -max_len=65536 -malloc_limit_mb=64
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use thalweg::base::ids::{BrokerId, LeaderEpoch, Offset};
use thalweg::protocol::produce::{
    PartitionResult, ProduceAnswer, ProduceRequest, ResponseHead, encode_response,
};
use thalweg::protocol::{ApiKey, CurrentLeader, ErrorCode, parse_response_header};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else { return };
    let version = 3 + i16::from(choice % 11);
    let body = Bytes::copy_from_slice(body);
    if let Ok(answer) = ProduceAnswer::parse(body.clone(), version) {
        for topic in answer.topics() {
            let _ = topic.partitions().count();
        }
    }
    let Ok(request) = ProduceRequest::parse(body.clone(), version) else { return };
    let mut partition_count = 0;
    let mut record_bytes = 0;
    for topic in request.topics() {
        assert_eq!(topic.topic().id().is_some(), version >= 13);
        for partition in topic.partitions() {
            partition_count += 1;
            record_bytes += partition.records().map_or(0, |records| records.len());
        }
    }
    assert_eq!(request.topics().count(), request.topic_count());
    assert_eq!(partition_count, request.partition_count());
    assert!(record_bytes <= body.len());
    answer(&request, version);
});

/// Answers the request and reads the answer back.
fn answer(request: &ProduceRequest, version: i16) {
    let head = ResponseHead { correlation_id: 7, throttle_time_ms: 0, node_endpoints: &[] };
    let results = (0..request.partition_count()).map(|idx| {
        if idx % 2 == 0 {
            return PartitionResult::appended(Offset(idx as i64), -1, Offset::ZERO);
        }
        let leader = CurrentLeader { leader: BrokerId(1), epoch: LeaderEpoch(2) };
        let failed = PartitionResult::failed(ErrorCode::NotLeaderOrFollower);
        PartitionResult { current_leader: Some(leader), ..failed }
    });
    let frame = encode_response(request, &head, results).expect("names came from a request");
    let (correlation_id, body) =
        parse_response_header(&frame.slice(4..), ApiKey::Produce, version).expect("our header");
    assert_eq!(correlation_id, 7);
    let answer = ProduceAnswer::parse(body, version).expect("our answer");
    let mut left = 0;
    for (asked, answered) in request.topics().zip(answer.topics()) {
        assert_eq!(asked.topic(), answered.topic());
        for (asked, answered) in asked.partitions().zip(answered.partitions()) {
            assert_eq!(asked.index(), answered.index);
            assert_eq!(answered.error_code, if left % 2 == 0 { 0 } else { 6 });
            left += 1;
        }
    }
    assert_eq!(left, request.partition_count());
}
