//! The client's side of Produce: requests that carry record bytes without copying them, and
//! responses read in place.

use bytes::Bytes;

use super::{is_flexible, response};
use crate::base::ids::{Offset, PartitionIndex};
use crate::protocol::reader::Reader;
use crate::protocol::shared::{read_topic, topic_bytes_min, write_topic};
use crate::protocol::{
    ApiKey, ClientHeader, CurrentLeader, EncodeError, Malformed, TopicRef, WireStr,
};

/// What a request says besides its batches.
#[derive(Clone, Copy, Debug)]
pub struct ProduceHead<'a> {
    /// The transaction's name, if there is one.
    pub transactional_id: Option<&'a str>,
    /// 0, 1 or -1.
    pub acks: i16,
    /// How long the broker may take to acknowledge, in milliseconds.
    pub timeout_ms: i32,
}

/// A batch to send.
#[derive(Clone, Debug)]
pub struct ProduceBatch<'a> {
    /// The topic: by name up to version 12, by id from 13 on.
    pub topic: TopicRef<'a>,
    /// The partition's index.
    pub partition: PartitionIndex,
    /// One record batch, encoded. It is sent from where it lies.
    pub records: Bytes,
}

/// A Produce request, as the slices of its frame. Neighbours in `batches` with the same topic
/// share a topic entry.
///
/// # Errors
/// [`EncodeError`] if a topic is named in the wrong way for the version, or the frame is too long.
pub fn encode_request(
    header: &ClientHeader<'_>,
    head: &ProduceHead<'_>,
    batches: &[ProduceBatch<'_>],
) -> Result<Vec<Bytes>, EncodeError> {
    let runs = || batches.chunk_by(|a, b| a.topic == b.topic);
    let mut writer = header.write(ApiKey::Produce, 64 + 32 * batches.len());
    writer.expect_slices(batches.len());
    writer.nullable_string(head.transactional_id.map(str::as_bytes));
    writer.i16(head.acks);
    writer.i32(head.timeout_ms);
    writer.array_len(runs().count());
    for run in runs() {
        let Some(first) = run.first() else { continue };
        write_topic(&mut writer, header.version, first.topic);
        writer.array_len(run.len());
        for batch in run {
            writer.i32(batch.partition.0);
            writer.gathered_bytes(Some([batch.records.clone()]));
            writer.no_tagged_fields();
        }
        writer.no_tagged_fields();
    }
    writer.no_tagged_fields();
    writer.finish_gathered()
}

/// A Produce response whose every length was checked: iterating it cannot fail.
#[derive(Clone, Debug)]
pub struct ProduceAnswer {
    body: Bytes,
    version: i16,
    topics_at: usize,
    topic_count: usize,
    throttle_time_ms: i32,
}

impl ProduceAnswer {
    /// Reads the body of a response in `version` (3 to 13).
    ///
    /// # Errors
    /// [`Malformed`] if it is none.
    pub fn parse(body: Bytes, version: i16) -> Result<ProduceAnswer, Malformed> {
        let mut reader = Reader::new(&body, is_flexible(version));
        if !ApiKey::Produce.accepts(version) {
            return reader.malformed("produce version");
        }
        let topic_count =
            reader.array_len(topic_bytes_min(version, is_flexible(version)), "topics")?;
        let topics_at = reader.at();
        for _ in 0..topic_count {
            read_topic(&mut reader, version)?;
            let count = read_partition_count(&mut reader)?;
            skip_partitions(&mut reader, version, count)?;
            reader.skip_tagged_fields()?;
        }
        let throttle_time_ms = reader.i32("throttle time")?;
        reader.skip_tagged_fields()?;
        reader.finish()?;
        Ok(ProduceAnswer { version, topics_at, topic_count, throttle_time_ms, body })
    }

    /// How long the broker asks the client to wait, in milliseconds.
    #[must_use]
    pub const fn throttle_time_ms(&self) -> i32 {
        self.throttle_time_ms
    }

    /// The topic entries, in order.
    #[must_use]
    pub fn topics(&self) -> TopicAnswers<'_> {
        let all = Reader::new(&self.body, is_flexible(self.version));
        TopicAnswers {
            version: self.version,
            reader: all.skipped_to(self.topics_at),
            left: self.topic_count,
        }
    }
}

/// Iterator over the topics of a [`ProduceAnswer`].
#[derive(Clone, Debug)]
pub struct TopicAnswers<'a> {
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> TopicAnswers<'a> {
    fn read(&mut self) -> Result<TopicAnswer<'a>, Malformed> {
        let topic = read_topic(&mut self.reader, self.version)?;
        let count = read_partition_count(&mut self.reader)?;
        let partitions =
            PartitionAnswers { version: self.version, reader: self.reader, left: count };
        skip_partitions(&mut self.reader, self.version, count)?;
        self.reader.skip_tagged_fields()?;
        Ok(TopicAnswer { topic, partitions })
    }
}

impl<'a> Iterator for TopicAnswers<'a> {
    type Item = TopicAnswer<'a>;

    fn next(&mut self) -> Option<TopicAnswer<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.read().ok()
    }
}

/// One topic of a [`ProduceAnswer`].
#[derive(Clone, Debug)]
pub struct TopicAnswer<'a> {
    topic: TopicRef<'a>,
    partitions: PartitionAnswers<'a>,
}

impl<'a> TopicAnswer<'a> {
    /// The topic, as the request named it.
    #[must_use]
    pub const fn topic(&self) -> TopicRef<'a> {
        self.topic
    }

    /// Its partition entries, in order.
    #[must_use]
    pub fn partitions(&self) -> PartitionAnswers<'a> {
        self.partitions.clone()
    }
}

/// Iterator over the partitions of a [`TopicAnswer`].
#[derive(Clone, Debug)]
pub struct PartitionAnswers<'a> {
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for PartitionAnswers<'a> {
    type Item = PartitionAnswer<'a>;

    fn next(&mut self) -> Option<PartitionAnswer<'a>> {
        self.left = self.left.checked_sub(1)?;
        read_partition(&mut self.reader, self.version).ok()
    }
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionAnswer<'a> {
    /// The partition's index.
    pub index: PartitionIndex,
    /// Kafka's error code; 0 is success. A number, since a broker may know more than we do.
    pub error_code: i16,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The broker's time of append in milliseconds, where the topic stamps it; else -1.
    pub log_append_time_ms: i64,
    /// First offset of the log; [`Offset::UNKNOWN`] before version 5.
    pub log_start: Offset,
    /// What is wrong (version 8 and later).
    pub error_message: Option<WireStr<'a>>,
    /// Who leads, if the broker says so (version 10 and later).
    pub current_leader: Option<CurrentLeader>,
}

fn read_partition_count(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    reader.array_len(4 + 2 + 8 + 8, "partitions")
}

fn read_partition<'a>(
    reader: &mut Reader<'a>,
    version: i16,
) -> Result<PartitionAnswer<'a>, Malformed> {
    let index = PartitionIndex(reader.i32("partition index")?);
    let error_code = reader.i16("error code")?;
    let base_offset = Offset(reader.i64("base offset")?);
    let log_append_time_ms = reader.i64("log append time")?;
    let log_start = if version >= response::LOG_START {
        Offset(reader.i64("log start offset")?)
    } else {
        Offset::UNKNOWN
    };
    let mut error_message = None;
    if version >= response::RECORD_ERRORS {
        for _ in 0..reader.array_len(4 + 1, "record errors")? {
            reader.i32("batch index")?;
            reader.nullable_string("record error message")?;
            reader.skip_tagged_fields()?;
        }
        error_message = reader.nullable_string("error message")?.map(WireStr::new);
    }
    let mut current_leader = None;
    reader.tagged_fields(|tag, field| {
        let known = tag == 0 && version >= response::CURRENT_LEADER;
        if known {
            current_leader = Some(CurrentLeader::read(field)?);
        }
        Ok(known)
    })?;
    Ok(PartitionAnswer {
        index,
        error_code,
        base_offset,
        log_append_time_ms,
        log_start,
        error_message,
        current_leader,
    })
}

fn skip_partitions(reader: &mut Reader<'_>, version: i16, count: usize) -> Result<(), Malformed> {
    for _ in 0..count {
        read_partition(reader, version)?;
    }
    Ok(())
}
