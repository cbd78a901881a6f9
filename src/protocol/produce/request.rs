//! A Produce request, in place.

use bytes::Bytes;
use zerocopy::big_endian::{I16, I32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::is_flexible;
use crate::base::ids::PartitionIndex;
use crate::protocol::reader::Reader;
use crate::protocol::shared::{ElementBudget, read_topic, topic_bytes_min};
use crate::protocol::{ApiKey, Malformed, TopicRef, WireStr};

/// What every version holds between the transactional id and the topics.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Terms {
    acks: I16,
    timeout_ms: I32,
}

/// A Produce request whose every length was checked: iterating it cannot fail, and allocates
/// nothing. Record batches are not looked into.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    body: Bytes,
    version: i16,
    transactional_id: Option<Bytes>,
    acks: i16,
    timeout_ms: i32,
    topics_at: usize,
    topic_count: usize,
    partition_count: usize,
}

impl ProduceRequest {
    /// Reads a body in an accepted version (3 to 13).
    ///
    /// # Errors
    /// [`Malformed`] if it is none, or names more than 262,144 topics and partitions.
    pub fn parse(body: Bytes, version: i16) -> Result<ProduceRequest, Malformed> {
        let mut reader = Reader::new(&body, is_flexible(version));
        if !ApiKey::Produce.accepts(version) {
            return reader.malformed("produce version");
        }
        let transactional_id = reader.nullable_string("transactional id")?;
        let terms: &Terms = reader.fixed("acks and timeout")?;
        let topic_count = read_topic_count(&mut reader, version)?;
        let topics_at = reader.at();
        let mut budget = ElementBudget::new();
        budget.charge(topic_count, &reader)?;
        let mut partition_count = 0;
        for _ in 0..topic_count {
            read_topic(&mut reader, version)?;
            let count = read_partition_count(&mut reader, version)?;
            budget.charge(count, &reader)?;
            partition_count += count;
            skip_partitions(&mut reader, count)?;
            reader.skip_tagged_fields()?;
        }
        reader.skip_tagged_fields()?;
        Ok(ProduceRequest {
            transactional_id: transactional_id.map(|id| body.slice_ref(id)),
            acks: terms.acks.get(),
            timeout_ms: terms.timeout_ms.get(),
            version,
            topics_at,
            topic_count,
            partition_count,
            body,
        })
    }

    /// The version that it came in, and that the response must have.
    #[must_use]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// The transaction's name, if there is one.
    #[must_use]
    pub fn transactional_id(&self) -> Option<WireStr<'_>> {
        self.transactional_id.as_ref().map(|id| WireStr::new(id))
    }

    /// 0: no response; 1, -1: when it is durable here, everywhere. Other values are the server's
    /// to refuse (21).
    #[must_use]
    pub const fn acks(&self) -> i16 {
        self.acks
    }

    /// How long the client waits for the acknowledgement, in milliseconds; any value.
    #[must_use]
    pub const fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// Topic entries; a topic may come twice.
    #[must_use]
    pub const fn topic_count(&self) -> usize {
        self.topic_count
    }

    /// Partition entries of all topics; a partition may come twice.
    #[must_use]
    pub const fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The topic entries, in order.
    #[must_use]
    pub fn topics(&self) -> ProduceTopics<'_> {
        let all = Reader::new(&self.body, is_flexible(self.version));
        ProduceTopics {
            body: &self.body,
            version: self.version,
            reader: all.skipped_to(self.topics_at),
            left: self.topic_count,
        }
    }
}

/// Iterator over the topics of a [`ProduceRequest`].
#[derive(Clone, Debug)]
pub struct ProduceTopics<'a> {
    body: &'a Bytes,
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> ProduceTopics<'a> {
    fn read(&mut self) -> Result<ProduceTopic<'a>, Malformed> {
        let topic = read_topic(&mut self.reader, self.version)?;
        let count = read_partition_count(&mut self.reader, self.version)?;
        let partitions = ProducePartitions { body: self.body, reader: self.reader, left: count };
        // The last topic's partitions need not be walked to find a next one.
        if self.left > 0 {
            skip_partitions(&mut self.reader, count)?;
            self.reader.skip_tagged_fields()?;
        }
        Ok(ProduceTopic { topic, partitions })
    }
}

impl<'a> Iterator for ProduceTopics<'a> {
    type Item = ProduceTopic<'a>;

    fn next(&mut self) -> Option<ProduceTopic<'a>> {
        self.left = self.left.checked_sub(1)?;
        let topic = self.read();
        debug_assert!(topic.is_ok(), "the request was checked when it was parsed");
        topic.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ProduceTopics<'_> {}

/// One topic of a [`ProduceRequest`].
#[derive(Clone, Debug)]
pub struct ProduceTopic<'a> {
    topic: TopicRef<'a>,
    partitions: ProducePartitions<'a>,
}

impl<'a> ProduceTopic<'a> {
    /// The topic: by name up to version 12, by id from 13 on.
    #[must_use]
    pub const fn topic(&self) -> TopicRef<'a> {
        self.topic
    }

    /// Its partition entries, in order.
    #[must_use]
    pub fn partitions(&self) -> ProducePartitions<'a> {
        self.partitions.clone()
    }
}

/// Iterator over the partitions of a [`ProduceTopic`].
#[derive(Clone, Debug)]
pub struct ProducePartitions<'a> {
    body: &'a Bytes,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for ProducePartitions<'a> {
    type Item = ProducePartition<'a>;

    fn next(&mut self) -> Option<ProducePartition<'a>> {
        self.left = self.left.checked_sub(1)?;
        let partition = read_partition(&mut self.reader);
        debug_assert!(partition.is_ok(), "the request was checked when it was parsed");
        let (index, records) = partition.ok()?;
        Some(ProducePartition { body: self.body, index, records })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ProducePartitions<'_> {}

/// One partition of a [`ProduceTopic`].
#[derive(Clone, Copy, Debug)]
pub struct ProducePartition<'a> {
    body: &'a Bytes,
    index: PartitionIndex,
    records: Option<&'a [u8]>,
}

impl<'a> ProducePartition<'a> {
    /// The partition's index; any value.
    #[must_use]
    pub const fn index(&self) -> PartitionIndex {
        self.index
    }

    /// The record batches, as they came; they share the frame's memory. `None` is null, which is
    /// the server's to refuse (87).
    #[must_use]
    pub fn records(&self) -> Option<Bytes> {
        self.records.map(|records| self.body.slice_ref(records))
    }

    /// As [`ProducePartition::records`], borrowed.
    #[must_use]
    pub const fn record_bytes(&self) -> Option<&'a [u8]> {
        self.records
    }
}

fn read_topic_count(reader: &mut Reader<'_>, version: i16) -> Result<usize, Malformed> {
    reader.array_len(topic_bytes_min(version, is_flexible(version)), "topics")
}

fn read_partition_count(reader: &mut Reader<'_>, version: i16) -> Result<usize, Malformed> {
    // Index, length of the records, tags.
    let bytes_min = if is_flexible(version) { 4 + 1 + 1 } else { 4 + 4 };
    reader.array_len(bytes_min, "partitions")
}

#[inline]
fn read_partition<'a>(
    reader: &mut Reader<'a>,
) -> Result<(PartitionIndex, Option<&'a [u8]>), Malformed> {
    let index = PartitionIndex(reader.i32("partition index")?);
    let records = reader.nullable_bytes("records")?;
    reader.skip_tagged_fields()?;
    Ok((index, records))
}

fn skip_partitions(reader: &mut Reader<'_>, count: usize) -> Result<(), Malformed> {
    for _ in 0..count {
        read_partition(reader)?;
    }
    Ok(())
}
