//! A small Kafka client over [`Wire`], by hand: what tests of whole promises ask a broker.

use std::net::SocketAddr;
use std::time::Duration;

use super::batch::{RawBatch, record};
use super::wire::{Answer, Body, Got, Wire};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const INIT_PRODUCER_ID: i16 = 22;
const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
const DELETE_RECORDS: i16 = 21;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
const DESCRIBE_CONFIGS: i16 = 32;

/// Bytes of a batch before its records.
const BATCH_HEADER_BYTES: usize = 61;

/// Answer to a produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: i16,
    pub base_offset: i64,
}

/// Answer to a fetch of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub error: i16,
    pub high_watermark: i64,
    pub records: Vec<u8>,
}

/// One batch as it came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub base_offset: i64,
    pub last_offset: i64,
    pub leader_epoch: i32,
    /// The records as the producer packed them.
    pub payload: Vec<u8>,
    /// The whole batch.
    pub bytes: Vec<u8>,
}

/// What Metadata says of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSeen {
    pub error: i16,
    /// Index and leader epoch of each partition.
    pub partitions: Vec<(i32, i32)>,
    /// Who leads each of them.
    pub leaders: Vec<LeaderSeen>,
}

/// What Metadata says of one partition's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderSeen {
    pub error: i16,
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
    pub offline: Vec<i32>,
}

/// A connection that speaks legal Kafka.
pub struct Client {
    wire: Wire,
}

impl Client {
    /// Connects and greets, so that large frames are accepted.
    pub fn connect(address: SocketAddr) -> Client {
        let mut wire = Wire::connect(address);
        let mut answer = wire.call(API_VERSIONS, 0, false, &[]);
        assert_eq!(answer.i16(), 0, "a greeting is answered");
        Client { wire }
    }

    /// Shortens or lengthens the patience.
    pub fn with_patience(self, patience: Duration) -> Client {
        Client { wire: self.wire.with_patience(patience) }
    }

    /// The connection below.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Creates a topic; returns the error code.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> i16 {
        let mut body = Body::new().i32(1).string(topic).i32(partitions).i16(1).i32(0);
        body = body.i32(count_of(configs));
        for (name, value) in configs {
            body = body.string(name).string(value);
        }
        let mut answer = self.wire.call(CREATE_TOPICS, 2, false, &body.i32(10_000).i8(0).0);
        answer.skip(8);
        answer.string();
        answer.i16()
    }

    /// Deletes a topic; returns the error code.
    pub fn delete_topic(&mut self, topic: &str) -> i16 {
        let body = Body::new().i32(1).string(topic).i32(10_000);
        let mut answer = self.wire.call(DELETE_TOPICS, 1, false, &body.0);
        answer.skip(8);
        answer.string();
        answer.i16()
    }

    /// Asks for one topic, which is not created by that.
    pub fn metadata(&mut self, topic: &str) -> TopicSeen {
        let body = Body::new().i32(1).string(topic).i8(0);
        let mut answer = self.wire.call(METADATA, 7, false, &body.0);
        answer.skip(4);
        for _ in 0..answer.i32() {
            answer.skip(4);
            answer.string();
            answer.skip(4);
            answer.nullable_string();
        }
        answer.nullable_string();
        answer.skip(4);
        assert_eq!(answer.i32(), 1, "one topic was asked for");
        let error = answer.i16();
        answer.string();
        answer.skip(1);
        let seen = (0..answer.i32()).map(|_| seen_partition(&mut answer));
        let (partitions, leaders) = seen.unzip();
        TopicSeen { error, partitions, leaders }
    }

    /// Sends a batch; the answer is to be taken by [`Client::produced`].
    pub fn send_produce(&mut self, topic: &str, partition: i32, acks: i16, batch: &[u8]) {
        let body = Body::new().null_string().i16(acks).i32(30_000).i32(1).string(topic);
        let body = body.i32(1).i32(partition).bytes(batch);
        self.wire.send(PRODUCE, 7, false, &body.0);
    }

    /// The next produce answer; `None` if the connection ends instead.
    pub fn produced(&mut self) -> Option<Produced> {
        let Got::Frame(frame) = self.wire.receive() else { return None };
        let mut answer = Answer::new(frame);
        answer.skip(8);
        answer.string();
        assert_eq!(answer.i32(), 1);
        answer.skip(4);
        Some(Produced { error: answer.i16(), base_offset: answer.i64() })
    }

    /// Produces one batch with acks=all and waits for the answer.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Produced {
        self.send_produce(topic, partition, -1, batch);
        self.produced().expect("a produce is answered")
    }

    /// Sends a fetch of one partition; the answer is to be taken by [`Client::fetched`].
    pub fn send_fetch(&mut self, at: (&str, i32, i64), bytes_max: i32, wait_ms: i32) {
        let (topic, partition, offset) = at;
        let body = Body::new().i32(-1).i32(wait_ms).i32(1).i32(bytes_max).i8(0).i32(1);
        let body = body.string(topic).i32(1).i32(partition).i64(offset).i32(bytes_max);
        self.wire.send(FETCH, 4, false, &body.0);
    }

    /// The next fetch answer; `None` if the connection ends instead.
    pub fn fetched(&mut self) -> Option<Fetched> {
        let Got::Frame(frame) = self.wire.receive() else { return None };
        let mut answer = Answer::new(frame);
        answer.skip(8);
        assert_eq!(answer.i32(), 1);
        answer.string();
        assert_eq!(answer.i32(), 1);
        answer.skip(4);
        let (error, high_watermark) = (answer.i16(), answer.i64());
        answer.skip(8);
        let aborted = answer.i32();
        assert!(aborted <= 0, "nothing was aborted");
        let len = usize::try_from(answer.i32()).unwrap_or(0);
        let records = answer.rest()[..len].to_vec();
        Some(Fetched { error, high_watermark, records })
    }

    /// Fetches once, without waiting.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64, bytes_max: i32) -> Fetched {
        self.send_fetch((topic, partition, offset), bytes_max, 0);
        self.fetched().expect("a fetch is answered")
    }

    /// All batches from `offset` to the high watermark.
    pub fn read_all(&mut self, topic: &str, partition: i32, offset: i64) -> Vec<Stored> {
        let mut all: Vec<Stored> = Vec::new();
        let mut next = offset;
        loop {
            let fetched = self.fetch(topic, partition, next, 8 << 20);
            assert_eq!(fetched.error, 0, "{topic}-{partition} can be read from {next}");
            let batches = stored_batches(&fetched.records);
            let Some(last) = batches.last() else {
                assert_eq!(next, fetched.high_watermark, "only the end has nothing behind it");
                return all;
            };
            next = last.last_offset + 1;
            all.extend(batches);
        }
    }

    /// ListOffsets by timestamp or special value: error, timestamp, offset.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let body = Body::new().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp);
        let mut answer = self.wire.call(LIST_OFFSETS, 1, false, &body.0);
        answer.skip(4);
        answer.string();
        answer.skip(8);
        (answer.i16(), answer.i64(), answer.i64())
    }

    /// The end of the log.
    pub fn end_offset(&mut self, topic: &str, partition: i32) -> i64 {
        let (error, _, offset) = self.list_offset(topic, partition, -1);
        assert_eq!(error, 0, "{topic}-{partition} has an end");
        offset
    }

    /// A new producer id.
    pub fn init_producer_id(&mut self) -> i64 {
        let body = Body::new().null_string().i32(60_000);
        let mut answer = self.wire.call(INIT_PRODUCER_ID, 0, false, &body.0);
        answer.skip(4);
        assert_eq!(answer.i16(), 0, "a producer id is given");
        answer.i64()
    }

    /// OffsetForLeaderEpoch: error, epoch, end offset.
    pub fn epoch_end(&mut self, topic: &str, partition: i32, epoch: i32) -> (i16, i32, i64) {
        let body = Body::new().i32(-1).i32(1).string(topic).i32(1);
        let body = body.i32(partition).i32(-1).i32(epoch);
        let mut answer = self.wire.call(OFFSET_FOR_LEADER_EPOCH, 3, false, &body.0);
        answer.skip(8);
        answer.string();
        answer.skip(4);
        let error = answer.i16();
        answer.skip(4);
        (error, answer.i32(), answer.i64())
    }

    /// DeleteRecords: low watermark and error.
    pub fn delete_records(&mut self, topic: &str, partition: i32, before: i64) -> (i64, i16) {
        let body = Body::new().i32(1).string(topic).i32(1).i32(partition).i64(before).i32(10_000);
        let mut answer = self.wire.call(DELETE_RECORDS, 1, false, &body.0);
        answer.skip(8);
        answer.string();
        answer.skip(8);
        (answer.i64(), answer.i16())
    }

    /// Sets one configuration of a topic; returns the error code.
    pub fn set_topic_config(&mut self, topic: &str, name: &str, value: &str) -> i16 {
        let body = Body::new().i32(1).i8(2).string(topic).i32(1).string(name).i8(0).string(value);
        let mut answer = self.wire.call(INCREMENTAL_ALTER_CONFIGS, 0, false, &body.i8(0).0);
        answer.skip(8);
        answer.i16()
    }

    /// A topic's configuration.
    pub fn topic_config(&mut self, topic: &str, name: &str) -> Option<String> {
        let body = Body::new().i32(1).i8(2).string(topic).i32(1).string(name).i8(0);
        let mut answer = self.wire.call(DESCRIBE_CONFIGS, 1, false, &body.0);
        answer.skip(8);
        assert_eq!(answer.i16(), 0, "the configuration of {topic} is told");
        answer.nullable_string();
        answer.skip(1);
        answer.string();
        if answer.i32() == 0 {
            return None;
        }
        answer.string();
        answer.nullable_string()
    }
}

fn seen_partition(answer: &mut Answer) -> ((i32, i32), LeaderSeen) {
    let (error, index, leader, leader_epoch) =
        (answer.i16(), answer.i32(), answer.i32(), answer.i32());
    let mut nodes = || (0..answer.i32()).map(|_| answer.i32()).collect();
    let (replicas, in_sync, offline) = (nodes(), nodes(), nodes());
    ((index, leader_epoch), LeaderSeen { error, leader, replicas, in_sync, offline })
}

/// Cuts concatenated batches; panics on anything that is not whole.
pub fn stored_batches(mut bytes: &[u8]) -> Vec<Stored> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let i32_at = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("4"));
        let base_offset = i64::from_be_bytes(bytes[..8].try_into().expect("8"));
        let end = 12 + usize::try_from(i32_at(8)).expect("a length");
        assert_eq!(bytes[16], 2, "magic");
        let crc = u32::from_be_bytes(bytes[17..21].try_into().expect("4"));
        assert_eq!(crc, thalweg::base::crc::crc32c(&bytes[21..end]), "CRC at {base_offset}");
        all.push(Stored {
            base_offset,
            last_offset: base_offset + i64::from(i32_at(23)),
            leader_epoch: i32_at(12),
            payload: bytes[BATCH_HEADER_BYTES..end].to_vec(),
            bytes: bytes[..end].to_vec(),
        });
        bytes = &bytes[end..];
    }
    all
}

/// A batch of `count` records with these bytes as value.
pub fn batch_of(count: i32, value: &[u8]) -> RawBatch {
    let payload = (0..count).flat_map(|delta| record(delta, Some(b"key"), value)).collect();
    RawBatch { payload, ..RawBatch::of(count) }
}

fn count_of<T>(items: &[T]) -> i32 {
    i32::try_from(items.len()).expect("few")
}
