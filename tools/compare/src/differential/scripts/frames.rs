//! Frames, headers and bodies that no client library would send.

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::{ApiVersionsRequest, TopicName};

use super::BASE_TIMESTAMP;
use crate::batch::Batch;
use crate::differential::script::{Script, produce_request, text};
use crate::wire;

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

pub fn run(script: &mut Script) {
    lengths(script);
    keys_and_versions(script);
    fallback(script);
    headers(script);
    bodies(script);
    silence(script);
    strings(script);
}

/// What of an answer is worth comparing when its size differs between brokers: that there is one,
/// and the correlation id.
fn answered(frame: &Bytes) -> String {
    format!("correlation {:02x?}", frame.get(..4).unwrap_or_default())
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

fn lengths(script: &mut Script) {
    for length in [-1, i32::MIN, 0, 1, 7, i32::MAX, 100 << 20 | 1] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend([0; 16]);
        script.ask_bytes(&format!("frame length {length}"), &bytes, answered);
    }
    script.ask_bytes("TLS client hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", answered);
    script.ask_bytes("HTTP request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", answered);
}

/// A request of nothing but its header.
fn only_header(key: i16, version: i16, flexible: bool) -> Vec<u8> {
    framed(&wire::header(key, version, 5, flexible))
}

fn keys_and_versions(script: &mut Script) {
    for key in [9_999, -1, i16::MAX] {
        script.ask_bytes(&format!("api key {key}"), &only_header(key, 0, false), answered);
    }
    for version in [-1, 14, i16::MAX] {
        let bytes = only_header(METADATA, version, true);
        script.ask_bytes(&format!("metadata v{version}"), &bytes, answered);
    }
    // Versions that Kafka 4.0 dropped.
    for (name, key, version) in
        [("produce", 0, 2), ("fetch", 1, 3), ("list offsets", 2, 0), ("create topics", 19, 1)]
    {
        script.ask_bytes(
            &format!("{name} v{version}"),
            &only_header(key, version, false),
            answered,
        );
    }
    // Between brokers only.
    for (name, key, version) in [
        ("vote", 52, 0),
        ("alter partition", 56, 2),
        ("envelope", 58, 0),
        ("broker registration", 62, 0),
        ("broker heartbeat", 63, 0),
        ("allocate producer ids", 67, 0),
    ] {
        let bytes = only_header(key, version, true);
        script.ask_bytes(&format!("{name} from a client"), &bytes, answered);
    }
}

/// A newer ApiVersions than the broker knows is answered in version 0, with error 35 and its own
/// entry.
fn fallback(script: &mut Script) {
    for version in [5, 99, i16::MAX, -1] {
        let mut frame = wire::header(API_VERSIONS, version, 5, true);
        frame.extend(b"\x04abc\x021\x00");
        script.ask_bytes(&format!("api versions v{version}"), &framed(&frame), |frame| {
            format!("{:02x?}", frame.as_ref())
        });
    }
}

fn headers(script: &mut Script) {
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let body = wire::body(9, &request).unwrap_or_default();
    let head = |client_id_len: i16, client_id: &[u8], tags: &[u8]| {
        let mut frame = Vec::new();
        frame.extend(METADATA.to_be_bytes());
        frame.extend(9i16.to_be_bytes());
        frame.extend(5i32.to_be_bytes());
        frame.extend(client_id_len.to_be_bytes());
        frame.extend(client_id);
        frame.extend(tags);
        frame.extend(&body);
        framed(&frame)
    };
    let long = vec![b'c'; i16::MAX as usize];
    for (what, bytes) in [
        ("null client id", head(-1, b"", &[0])),
        ("empty client id", head(0, b"", &[0])),
        ("client id longer than the frame", head(5_000, b"abc", &[0])),
        ("client id length -2", head(-2, b"", &[0])),
        ("client id of 32 KiB", head(i16::MAX, &long, &[0])),
        ("client id no UTF-8", head(2, &[0xff, 0xfe], &[0])),
        ("an unknown tag", head(1, b"c", &[1, 9, 2, 7, 7])),
        ("a tag twice", head(1, b"c", &[2, 9, 1, 7, 9, 1, 7])),
        ("tags in falling order", head(1, b"c", &[2, 9, 1, 7, 8, 1, 7])),
        ("a tag longer than the frame", head(1, b"c", &[1, 9, 0xff, 0xff, 0x3f])),
        ("2^32-1 tags", head(1, b"c", &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a tag count of six bytes", head(1, b"c", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00])),
        ("a tag count past 32 bits", head(1, b"c", &[0x80, 0x80, 0x80, 0x80, 0x70])),
        ("a tag count of five bytes for zero", head(1, b"c", &[0x80, 0x80, 0x80, 0x80, 0x00])),
    ] {
        script.ask_bytes(&format!("header: {what}"), &bytes, answered);
    }
    for correlation in [-1i32, i32::MIN, i32::MAX, 0] {
        let mut bytes = head(1, b"c", &[0]);
        bytes[8..12].copy_from_slice(&correlation.to_be_bytes());
        script.ask_bytes(&format!("header: correlation id {correlation}"), &bytes, answered);
    }
}

fn bodies(script: &mut Script) {
    let topic = MetadataRequestTopic::default().with_name(Some(script.topic("missing")));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    let body = wire::body(9, &request).unwrap_or_default();
    let mut behind = body.clone();
    behind.extend([1, 2, 3]);
    script.ask_body::<MetadataRequest>("body: bytes behind it, flexible", 9, &behind);
    let old = wire::body(8, &request).unwrap_or_default();
    let mut behind = old.clone();
    behind.extend([1, 2, 3]);
    script.ask_body::<MetadataRequest>("body: bytes behind it, not flexible", 8, &behind);
    for (what, version, bytes) in [
        ("cut", 9, body[..body.len() - 1].to_vec()),
        ("array of 2^31-1", 8, [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 8]].concat()),
        ("null name where there must be one", 9, vec![2, 0, 0, 0, 0, 0, 0]),
        ("string longer than the frame", 9, vec![2, 0x7f, b'a', 0, 0, 0, 0]),
        ("boolean 2", 9, vec![1, 2, 2, 2, 0]),
    ] {
        script.ask_body::<MetadataRequest>(&format!("body: {what}"), version, &bytes);
    }
    // Kafka takes these for null, which asks for all topics: only that it answers is compared.
    for (what, version, bytes) in [
        ("array of -2", 8, [&[0xff, 0xff, 0xff, 0xfe][..], &[0; 8]].concat()),
        ("compact array of 2^32-2", 9, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0]),
    ] {
        let frame = wire::frame::<MetadataRequest>(version, 5, &bytes);
        script.ask_bytes(&format!("body: {what}"), &framed(&frame), answered);
    }
    let software = [&b"\x04abc\x021\x00"[..], b"\x01"].concat();
    script.ask_body::<ApiVersionsRequest>("body: api versions with a byte behind", 3, &software);
}

/// `acks=0` is not answered; where it fails the connection ends.
fn silence(script: &mut Script) {
    let good = Batch::of(BASE_TIMESTAMP, &[b"silent"]);
    let mut bad = good.clone();
    bad.crc = Some(1);
    let (known, missing) = (script.topic("produce"), script.topic("missing"));
    for (what, topic, batch) in
        [("good", &known, &good), ("wrong CRC", &known, &bad), ("missing topic", &missing, &good)]
    {
        let request = produce_request(0, topic, &[(1, Some(batch.encode()))]);
        let body = wire::body(9, &request).unwrap_or_default();
        let frame = wire::frame::<kafka_protocol::messages::ProduceRequest>(9, 5, &body);
        script.ask_bytes(&format!("produce v9, acks 0, {what}"), &framed(&frame), answered);
    }
}

/// Names that are no UTF-8 reach the broker only in bytes made by hand.
fn strings(script: &mut Script) {
    let marker = "replace-me";
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(marker))));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    let mut body = wire::body(9, &request).unwrap_or_default();
    if let Some(at) = body.windows(marker.len()).position(|window| window == marker.as_bytes()) {
        body[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
    }
    script.ask_body::<MetadataRequest>("body: a name that is no UTF-8", 9, &body);
}
