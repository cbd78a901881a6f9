//! A Fetch request, in place.

use bytes::Bytes;
use zerocopy::big_endian::I32;

use super::{FetchPartition, RACKS, REPLICA_STATE, SESSIONS, is_flexible};
use crate::base::ids::{BrokerId, PartitionIndex};
use crate::protocol::reader::Reader;
use crate::protocol::shared::{ElementBudget, read_topic, topic_bytes_min};
use crate::protocol::{ApiKey, Malformed, TopicRef, WireStr};

/// Which records a reader may see (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum IsolationLevel {
    /// All up to the high watermark.
    ReadUncommitted = 0,
    /// Those of no transaction, or of one that is decided: up to the last stable offset.
    ReadCommitted = 1,
}

/// A Fetch request whose every length was checked: iterating it cannot fail, and allocates
/// nothing.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    body: Bytes,
    version: i16,
    terms: Terms,
    topics: Section,
    forgotten: Section,
    partition_count: usize,
    rack: Option<Bytes>,
}

/// The numbers of a request.
#[derive(Clone, Copy, Debug)]
struct Terms {
    replica: BrokerId,
    wait_ms_max: i32,
    bytes_min: i32,
    bytes_max: i32,
    isolation: IsolationLevel,
    session_id: i32,
    session_epoch: i32,
}

/// An array of topics within the body.
#[derive(Clone, Copy, Debug, Default)]
struct Section {
    at: usize,
    count: usize,
}

impl FetchRequest {
    /// Reads a body in an accepted version (4 to 17).
    ///
    /// # Errors
    /// [`Malformed`] if it is none, or names more than 262,144 topics and partitions.
    pub fn parse(body: Bytes, version: i16) -> Result<FetchRequest, Malformed> {
        let mut reader = Reader::new(&body, is_flexible(version));
        if !ApiKey::Fetch.accepts(version) {
            return reader.malformed("fetch version");
        }
        let mut terms = read_terms(&mut reader, version)?;
        let mut budget = ElementBudget::new();
        let (topics, partition_count) = check_topics(&mut reader, version, &mut budget)?;
        let forgotten = if version >= SESSIONS {
            check_forgotten(&mut reader, version, &mut budget)?
        } else {
            Section::default()
        };
        let rack = if version >= RACKS { Some(reader.string("rack")?) } else { None };
        reader.tagged_fields(|tag, field| match tag {
            0 => field.nullable_string("cluster id").map(|_| true),
            1 if version >= REPLICA_STATE => {
                terms.replica = BrokerId(field.i32("replica id")?);
                field.i64("replica epoch")?;
                field.skip_tagged_fields()?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        let rack = rack.filter(|rack| !rack.is_empty()).map(|rack| body.slice_ref(rack));
        Ok(FetchRequest { version, terms, topics, forgotten, partition_count, rack, body })
    }

    /// The version that it came in, and that the response must have.
    #[must_use]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// The replica that asks; negative for a client. Only brokers may say otherwise
    /// (CVE-2018-1288).
    #[must_use]
    pub const fn replica(&self) -> BrokerId {
        self.terms.replica
    }

    /// How long the broker may wait for `bytes_min`, in milliseconds; any value.
    #[must_use]
    pub const fn wait_ms_max(&self) -> i32 {
        self.terms.wait_ms_max
    }

    /// Bytes worth an answer before the wait is over; any value.
    #[must_use]
    pub const fn bytes_min(&self) -> i32 {
        self.terms.bytes_min
    }

    /// Bytes wanted in all; any value. A first batch that is longer comes whole (KIP-74).
    #[must_use]
    pub const fn bytes_max(&self) -> i32 {
        self.terms.bytes_max
    }

    /// Which records the reader may see.
    #[must_use]
    pub const fn isolation(&self) -> IsolationLevel {
        self.terms.isolation
    }

    /// The fetch session (KIP-227); 0 where there is none.
    #[must_use]
    pub const fn session_id(&self) -> i32 {
        self.terms.session_id
    }

    /// The request's place in its session: 0 wants a new one, -1 none.
    #[must_use]
    pub const fn session_epoch(&self) -> i32 {
        self.terms.session_epoch
    }

    /// The client's rack, if it says (KIP-392).
    #[must_use]
    pub fn rack(&self) -> Option<WireStr<'_>> {
        self.rack.as_ref().map(|rack| WireStr::new(rack))
    }

    /// Topic entries; a topic may come twice.
    #[must_use]
    pub const fn topic_count(&self) -> usize {
        self.topics.count
    }

    /// Partition entries of all topics; a partition may come twice.
    #[must_use]
    pub const fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The topic entries, in order.
    #[must_use]
    pub fn topics(&self) -> FetchTopics<'_> {
        FetchTopics {
            version: self.version,
            reader: self.reader_at(self.topics),
            left: self.topics.count,
        }
    }

    /// The topics that leave the session (version 7 and later), in order.
    #[must_use]
    pub fn forgotten_topics(&self) -> ForgottenTopics<'_> {
        ForgottenTopics {
            version: self.version,
            reader: self.reader_at(self.forgotten),
            left: self.forgotten.count,
        }
    }

    fn reader_at(&self, section: Section) -> Reader<'_> {
        Reader::new(&self.body, is_flexible(self.version)).skipped_to(section.at)
    }
}

/// Iterator over the topics of a [`FetchRequest`].
#[derive(Clone, Debug)]
pub struct FetchTopics<'a> {
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> FetchTopics<'a> {
    fn read(&mut self) -> Result<FetchTopic<'a>, Malformed> {
        let topic = read_topic(&mut self.reader, self.version)?;
        let count = read_partition_count(&mut self.reader, self.version)?;
        let partitions =
            FetchPartitions { version: self.version, reader: self.reader, left: count };
        // The last topic's partitions need not be walked to find a next one.
        if self.left > 0 {
            skip_partitions(&mut self.reader, self.version, count)?;
            self.reader.skip_tagged_fields()?;
        }
        Ok(FetchTopic { topic, partitions })
    }
}

impl<'a> Iterator for FetchTopics<'a> {
    type Item = FetchTopic<'a>;

    fn next(&mut self) -> Option<FetchTopic<'a>> {
        self.left = self.left.checked_sub(1)?;
        let topic = self.read();
        debug_assert!(topic.is_ok(), "the request was checked when it was parsed");
        topic.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for FetchTopics<'_> {}

/// One topic of a [`FetchRequest`].
#[derive(Clone, Debug)]
pub struct FetchTopic<'a> {
    topic: TopicRef<'a>,
    partitions: FetchPartitions<'a>,
}

impl<'a> FetchTopic<'a> {
    /// The topic: by name up to version 12, by id from 13 on.
    #[must_use]
    pub const fn topic(&self) -> TopicRef<'a> {
        self.topic
    }

    /// Its partition entries, in order.
    #[must_use]
    pub fn partitions(&self) -> FetchPartitions<'a> {
        self.partitions.clone()
    }
}

/// Iterator over the partitions of a [`FetchTopic`].
#[derive(Clone, Debug)]
pub struct FetchPartitions<'a> {
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl Iterator for FetchPartitions<'_> {
    type Item = FetchPartition;

    fn next(&mut self) -> Option<FetchPartition> {
        self.left = self.left.checked_sub(1)?;
        let partition = FetchPartition::read(&mut self.reader, self.version);
        debug_assert!(partition.is_ok(), "the request was checked when it was parsed");
        partition.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for FetchPartitions<'_> {}

/// Iterator over the forgotten topics of a [`FetchRequest`].
#[derive(Clone, Debug)]
pub struct ForgottenTopics<'a> {
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for ForgottenTopics<'a> {
    type Item = ForgottenTopic<'a>;

    fn next(&mut self) -> Option<ForgottenTopic<'a>> {
        self.left = self.left.checked_sub(1)?;
        let topic = read_forgotten(&mut self.reader, self.version);
        debug_assert!(topic.is_ok(), "the request was checked when it was parsed");
        topic.ok()
    }
}

/// A topic of which partitions leave a fetch session.
#[derive(Clone, Copy, Debug)]
pub struct ForgottenTopic<'a> {
    topic: TopicRef<'a>,
    partitions: &'a [I32],
}

impl<'a> ForgottenTopic<'a> {
    /// The topic: by name up to version 12, by id from 13 on.
    #[must_use]
    pub const fn topic(&self) -> TopicRef<'a> {
        self.topic
    }

    /// The partitions that leave.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = PartitionIndex> + 'a {
        self.partitions.iter().map(|index| PartitionIndex(index.get()))
    }
}

fn read_terms(reader: &mut Reader<'_>, version: i16) -> Result<Terms, Malformed> {
    let replica = if version < REPLICA_STATE { reader.i32("replica id")? } else { -1 };
    let [wait_ms_max, bytes_min, bytes_max] = *reader.fixed::<[I32; 3]>("wait and bytes")?;
    let isolation = match reader.i8("isolation level")? {
        0 => IsolationLevel::ReadUncommitted,
        1 => IsolationLevel::ReadCommitted,
        _ => return reader.malformed("isolation level"),
    };
    let [session_id, session_epoch] = if version >= SESSIONS {
        *reader.fixed::<[I32; 2]>("session")?
    } else {
        [I32::new(0), I32::new(-1)]
    };
    Ok(Terms {
        replica: BrokerId(replica),
        wait_ms_max: wait_ms_max.get(),
        bytes_min: bytes_min.get(),
        bytes_max: bytes_max.get(),
        isolation,
        session_id: session_id.get(),
        session_epoch: session_epoch.get(),
    })
}

fn check_topics(
    reader: &mut Reader<'_>,
    version: i16,
    budget: &mut ElementBudget,
) -> Result<(Section, usize), Malformed> {
    let count = reader.array_len(topic_bytes_min(version, is_flexible(version)), "topics")?;
    budget.charge(count, reader)?;
    let section = Section { at: reader.at(), count };
    let mut partition_count = 0;
    for _ in 0..count {
        read_topic(reader, version)?;
        let partitions = read_partition_count(reader, version)?;
        budget.charge(partitions, reader)?;
        partition_count += partitions;
        skip_partitions(reader, version, partitions)?;
        reader.skip_tagged_fields()?;
    }
    Ok((section, partition_count))
}

fn check_forgotten(
    reader: &mut Reader<'_>,
    version: i16,
    budget: &mut ElementBudget,
) -> Result<Section, Malformed> {
    let bytes_min = topic_bytes_min(version, is_flexible(version));
    let count = reader.array_len(bytes_min, "forgotten topics")?;
    budget.charge(count, reader)?;
    let section = Section { at: reader.at(), count };
    for _ in 0..count {
        let topic = read_forgotten(reader, version)?;
        budget.charge(topic.partitions.len(), reader)?;
    }
    Ok(section)
}

fn read_forgotten<'a>(
    reader: &mut Reader<'a>,
    version: i16,
) -> Result<ForgottenTopic<'a>, Malformed> {
    let topic = read_topic(reader, version)?;
    let count = reader.array_len(4, "forgotten partitions")?;
    let partitions = reader.fixed_slice(count, "forgotten partitions")?;
    reader.skip_tagged_fields()?;
    Ok(ForgottenTopic { topic, partitions })
}

fn read_partition_count(reader: &mut Reader<'_>, version: i16) -> Result<usize, Malformed> {
    reader.array_len(FetchPartition::bytes_min(version), "partitions")
}

fn skip_partitions(reader: &mut Reader<'_>, version: i16, count: usize) -> Result<(), Malformed> {
    for _ in 0..count {
        FetchPartition::read(reader, version)?;
    }
    Ok(())
}
