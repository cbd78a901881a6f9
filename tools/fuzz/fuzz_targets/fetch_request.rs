//! The body of a Fetch request, in every version; then its answer, read by a client; and the same
//! bytes as an answer from a broker.
//!
//! Input: one byte that chooses the version, then the body.
//!
//! Run, from the repository's root (the seeds are read, new inputs go to the first folder):
//! ```text
//! mkdir -p tools/fuzz/corpus/fetch_request
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz fetch_request \
//!   tools/fuzz/corpus/fetch_request tools/fuzz/seeds/fetch_request \
//!   -- -max_total_time=600 -max_len=65536 -malloc_limit_mb=64
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use thalweg::protocol::fetch::{
    FetchAnswer, FetchRequest, PartitionResult, ResponseHead, encode_response,
};
use thalweg::protocol::{ApiKey, ErrorCode, parse_response_header};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else { return };
    let version = 4 + i16::from(choice % 14);
    let body = Bytes::copy_from_slice(body);
    if let Ok(answer) = FetchAnswer::parse(body.clone(), version) {
        let mut record_bytes = 0;
        for partition in answer.topics().flat_map(|topic| topic.partitions()) {
            let _ = partition.aborted().map(|aborted| aborted.count());
            record_bytes += partition.records().map_or(0, |records| records.len());
        }
        assert!(record_bytes <= body.len());
    }
    let Ok(request) = FetchRequest::parse(body.clone(), version) else { return };
    let forgotten: usize = request.forgotten_topics().map(|topic| topic.partitions().len()).sum();
    assert!(forgotten * 4 <= body.len());
    let mut results = Vec::new();
    for topic in request.topics() {
        assert_eq!(topic.topic().id().is_some(), version >= 13);
        for partition in topic.partitions() {
            let records = body.slice(..body.len().min(results.len()));
            results.push(PartitionResult {
                records: vec![records],
                ..PartitionResult::failed(topic.topic(), partition.index(), ErrorCode::None)
            });
        }
    }
    assert_eq!(request.topics().count(), request.topic_count());
    assert_eq!(results.len(), request.partition_count());
    answer(version, results);
});

/// Answers the request and reads the answer back.
fn answer(version: i16, results: Vec<PartitionResult<'_>>) {
    let head = ResponseHead {
        correlation_id: 7,
        throttle_time_ms: 0,
        error: ErrorCode::None,
        session_id: 0,
        node_endpoints: &[],
    };
    let expected = results.clone();
    let slices = encode_response(version, &head, results).expect("names came from a request");
    let frame = Bytes::from(slices.concat());
    let (_, body) =
        parse_response_header(&frame.slice(4..), ApiKey::Fetch, version).expect("our header");
    let answer = FetchAnswer::parse(body, version).expect("our answer");
    let mut expected = expected.iter();
    for topic in answer.topics() {
        for partition in topic.partitions() {
            let expected = expected.next().expect("one answer for each result");
            assert_eq!((topic.topic(), partition.index()), (expected.topic, expected.index));
            assert_eq!(partition.record_bytes(), Some(&expected.records[0][..]));
        }
    }
    assert!(expected.next().is_none());
}
