//! Bytes from a fresh connection: the length prefix, the header, and ApiVersions, which answers
//! whatever comes.
//!
//! Input: a frame with its prefix. The rest of the input is the frame, whatever the prefix says.
//!
//! Run, from the repository's root (the seeds are read, new inputs go to the first folder):
//! ```text
//! mkdir -p tools/fuzz/corpus/frame
//! cargo +nightly fuzz run --fuzz-dir tools/fuzz frame \
//!   tools/fuzz/corpus/frame tools/fuzz/seeds/frame \
//!   -- -max_total_time=600 -max_len=4096 -malloc_limit_mb=64
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use thalweg::protocol::api_versions::{ApiVersionsRequest, Features, SupportedFeature};
use thalweg::protocol::{ApiKey, RequestHeader, frame_len, parse_response_header};

const FEATURES: Features<'static> = Features {
    supported: &[SupportedFeature { name: "metadata.version", min: 7, max: 29 }],
    finalized_epoch: 1,
    finalized: &[("metadata.version", 29)],
};

fuzz_target!(|input: &[u8]| {
    let Some((prefix, frame)) = input.split_first_chunk::<4>() else { return };
    const MAX: usize = 100 * 1024 * 1024;
    if let Ok(len) = frame_len(*prefix, MAX) {
        assert!((8..=MAX).contains(&len));
    }
    let frame = Bytes::copy_from_slice(frame);
    for api in ApiKey::all() {
        let _ = parse_response_header(&frame, api, *api.versions().end());
    }
    let Ok((header, body)) = RequestHeader::parse(&frame) else { return };
    assert!(body.len() + 10 <= frame.len());
    assert!(header.api() == ApiKey::ApiVersions || header.api().accepts(header.version()));
    let _ = header.client_id().map(|id| id.to_lossy().len());
    if header.api() == ApiKey::ApiVersions {
        let Ok(request) = ApiVersionsRequest::parse(&header, &body) else { return };
        let answer = request
            .encode_response(header.correlation_id(), 0, &FEATURES)
            .expect("the answer is small");
        let (len, answer) = answer.split_first_chunk::<4>().expect("it is a frame");
        assert_eq!(u32::from_be_bytes(*len) as usize, answer.len());
        assert_eq!(answer[..4], header.correlation_id().to_be_bytes());
        assert_eq!(answer[4..6], request.error().code().to_be_bytes());
    }
});
