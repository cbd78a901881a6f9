//! The client's side of Fetch: requests, and responses read in place: record bytes are slices of
//! the response.

use bytes::Bytes;

use super::{
    AbortedTransaction, EpochEnd, FetchPartition, IsolationLevel, LOG_START, RACKS, REPLICA_STATE,
    SESSIONS, is_flexible,
};
use crate::base::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId};
use crate::protocol::reader::Reader;
use crate::protocol::shared::{read_topic, topic_bytes_min, write_topic};
use crate::protocol::{ApiKey, ClientHeader, CurrentLeader, EncodeError, Malformed, TopicRef};

/// What a request says besides its partitions. It asks for no fetch session.
#[derive(Clone, Copy, Debug)]
pub struct FetchHead<'a> {
    /// How long the broker may wait for `bytes_min`, in milliseconds.
    pub wait_ms_max: i32,
    /// Bytes worth an answer before the wait is over.
    pub bytes_min: i32,
    /// Bytes wanted in all.
    pub bytes_max: i32,
    /// Which records to see.
    pub isolation: IsolationLevel,
    /// The client's rack (version 11 and later), or empty.
    pub rack: &'a str,
}

/// A partition to read.
#[derive(Clone, Copy, Debug)]
pub struct FetchSpec<'a> {
    /// The topic: by name up to version 12, by id from 13 on.
    pub topic: TopicRef<'a>,
    /// What to read of it.
    pub partition: FetchPartition,
}

/// A Fetch request, as a frame. Neighbours in `partitions` with the same topic share a topic
/// entry.
///
/// # Errors
/// [`EncodeError`] if a topic is named in the wrong way for the version, or the frame is too long.
pub fn encode_request(
    header: &ClientHeader<'_>,
    head: &FetchHead<'_>,
    partitions: &[FetchSpec<'_>],
) -> Result<Bytes, EncodeError> {
    let version = header.version;
    let mut writer = header.write(ApiKey::Fetch, 64 + 40 * partitions.len());
    if version < REPLICA_STATE {
        writer.i32(-1);
    }
    writer.i32(head.wait_ms_max);
    writer.i32(head.bytes_min);
    writer.i32(head.bytes_max);
    writer.i8(head.isolation as i8);
    if version >= SESSIONS {
        writer.i32(0);
        writer.i32(-1);
    }
    let runs = || partitions.chunk_by(|a, b| a.topic == b.topic);
    writer.array_len(runs().count());
    for run in runs() {
        let Some(first) = run.first() else { continue };
        write_topic(&mut writer, version, first.topic);
        writer.array_len(run.len());
        for spec in run {
            spec.partition.write(&mut writer, version);
        }
        writer.no_tagged_fields();
    }
    if version >= SESSIONS {
        writer.array_len(0);
    }
    if version >= RACKS {
        writer.string(head.rack.as_bytes());
    }
    writer.no_tagged_fields();
    writer.finish()
}

/// A Fetch response whose every length was checked: iterating it cannot fail.
#[derive(Clone, Debug)]
pub struct FetchAnswer {
    body: Bytes,
    version: i16,
    throttle_time_ms: i32,
    error_code: i16,
    session_id: i32,
    topics_at: usize,
    topic_count: usize,
}

impl FetchAnswer {
    /// Reads the body of a response in `version` (4 to 17).
    ///
    /// # Errors
    /// [`Malformed`] if it is none.
    pub fn parse(body: Bytes, version: i16) -> Result<FetchAnswer, Malformed> {
        let mut reader = Reader::new(&body, is_flexible(version));
        if !ApiKey::Fetch.accepts(version) {
            return reader.malformed("fetch version");
        }
        let throttle_time_ms = reader.i32("throttle time")?;
        let (error_code, session_id) = if version >= SESSIONS {
            (reader.i16("error code")?, reader.i32("session id")?)
        } else {
            (0, 0)
        };
        let topic_count =
            reader.array_len(topic_bytes_min(version, is_flexible(version)), "topics")?;
        let topics_at = reader.at();
        for _ in 0..topic_count {
            read_topic(&mut reader, version)?;
            let count = read_partition_count(&mut reader)?;
            skip_partitions(&mut reader, version, count)?;
            reader.skip_tagged_fields()?;
        }
        reader.skip_tagged_fields()?;
        reader.finish()?;
        Ok(FetchAnswer {
            version,
            throttle_time_ms,
            error_code,
            session_id,
            topics_at,
            topic_count,
            body,
        })
    }

    /// How long the broker asks the client to wait, in milliseconds.
    #[must_use]
    pub const fn throttle_time_ms(&self) -> i32 {
        self.throttle_time_ms
    }

    /// Kafka's error code for the request as a whole; 0 is success.
    #[must_use]
    pub const fn error_code(&self) -> i16 {
        self.error_code
    }

    /// The fetch session; 0 is none.
    #[must_use]
    pub const fn session_id(&self) -> i32 {
        self.session_id
    }

    /// The topic entries, in order.
    #[must_use]
    pub fn topics(&self) -> TopicAnswers<'_> {
        let all = Reader::new(&self.body, is_flexible(self.version));
        TopicAnswers {
            body: &self.body,
            version: self.version,
            reader: all.skipped_to(self.topics_at),
            left: self.topic_count,
        }
    }
}

/// Iterator over the topics of a [`FetchAnswer`].
#[derive(Clone, Debug)]
pub struct TopicAnswers<'a> {
    body: &'a Bytes,
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> TopicAnswers<'a> {
    fn read(&mut self) -> Result<TopicAnswer<'a>, Malformed> {
        let topic = read_topic(&mut self.reader, self.version)?;
        let count = read_partition_count(&mut self.reader)?;
        let partitions = PartitionAnswers {
            body: self.body,
            version: self.version,
            reader: self.reader,
            left: count,
        };
        if self.left > 0 {
            skip_partitions(&mut self.reader, self.version, count)?;
            self.reader.skip_tagged_fields()?;
        }
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

/// One topic of a [`FetchAnswer`].
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
    body: &'a Bytes,
    version: i16,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for PartitionAnswers<'a> {
    type Item = PartitionAnswer<'a>;

    fn next(&mut self) -> Option<PartitionAnswer<'a>> {
        self.left = self.left.checked_sub(1)?;
        let raw = RawPartition::read(&mut self.reader, self.version).ok()?;
        Some(PartitionAnswer { body: self.body, raw })
    }
}

/// What one partition answered.
#[derive(Clone, Copy, Debug)]
pub struct PartitionAnswer<'a> {
    body: &'a Bytes,
    raw: RawPartition<'a>,
}

#[derive(Clone, Copy, Debug)]
struct RawPartition<'a> {
    index: PartitionIndex,
    error_code: i16,
    high_watermark: Offset,
    last_stable: Offset,
    log_start: Offset,
    aborted: Option<AbortedTransactions<'a>>,
    preferred_replica: Option<BrokerId>,
    records: Option<&'a [u8]>,
    diverging: Option<EpochEnd>,
    current_leader: Option<CurrentLeader>,
}

impl<'a> PartitionAnswer<'a> {
    /// The partition's index.
    #[must_use]
    pub const fn index(&self) -> PartitionIndex {
        self.raw.index
    }

    /// Kafka's error code; 0 is success. A number, since a broker may know more than we do.
    #[must_use]
    pub const fn error_code(&self) -> i16 {
        self.raw.error_code
    }

    /// End of what is committed.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.raw.high_watermark
    }

    /// End of what is decided.
    #[must_use]
    pub const fn last_stable(&self) -> Offset {
        self.raw.last_stable
    }

    /// First offset of the log; [`Offset::UNKNOWN`] before version 5.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.raw.log_start
    }

    /// The aborted transactions among the records; `None` where the broker gives none.
    #[must_use]
    pub const fn aborted(&self) -> Option<AbortedTransactions<'a>> {
        self.raw.aborted
    }

    /// The replica to read from instead.
    #[must_use]
    pub const fn preferred_replica(&self) -> Option<BrokerId> {
        self.raw.preferred_replica
    }

    /// Where our log and the broker's part (version 12 and later).
    #[must_use]
    pub const fn diverging(&self) -> Option<EpochEnd> {
        self.raw.diverging
    }

    /// Who leads, if the broker says so (version 12 and later).
    #[must_use]
    pub const fn current_leader(&self) -> Option<CurrentLeader> {
        self.raw.current_leader
    }

    /// The record batches; they share the response's memory. The last one may be cut off.
    #[must_use]
    pub fn records(&self) -> Option<Bytes> {
        self.raw.records.map(|records| self.body.slice_ref(records))
    }

    /// As [`PartitionAnswer::records`], borrowed.
    #[must_use]
    pub const fn record_bytes(&self) -> Option<&'a [u8]> {
        self.raw.records
    }
}

/// Iterator over the aborted transactions of a [`PartitionAnswer`].
#[derive(Clone, Copy, Debug)]
pub struct AbortedTransactions<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl Iterator for AbortedTransactions<'_> {
    type Item = AbortedTransaction;

    fn next(&mut self) -> Option<AbortedTransaction> {
        self.left = self.left.checked_sub(1)?;
        read_aborted(&mut self.reader).ok()
    }
}

impl<'a> RawPartition<'a> {
    fn read(reader: &mut Reader<'a>, version: i16) -> Result<RawPartition<'a>, Malformed> {
        let mut partition = RawPartition {
            index: PartitionIndex(reader.i32("partition index")?),
            error_code: reader.i16("error code")?,
            high_watermark: Offset(reader.i64("high watermark")?),
            last_stable: Offset(reader.i64("last stable offset")?),
            log_start: Offset::UNKNOWN,
            aborted: None,
            preferred_replica: None,
            records: None,
            diverging: None,
            current_leader: None,
        };
        if version >= LOG_START {
            partition.log_start = Offset(reader.i64("log start offset")?);
        }
        if let Some(count) = reader.nullable_array_len(8 + 8, "aborted transactions")? {
            partition.aborted = Some(AbortedTransactions { reader: *reader, left: count });
            for _ in 0..count {
                read_aborted(reader)?;
            }
        }
        if version >= RACKS {
            let replica = reader.i32("preferred replica")?;
            partition.preferred_replica = (replica >= 0).then_some(BrokerId(replica));
        }
        partition.records = reader.nullable_bytes("records")?;
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => partition.diverging = Some(read_epoch_end(field)?),
                1 => partition.current_leader = Some(CurrentLeader::read(field)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(partition)
    }
}

fn read_aborted(reader: &mut Reader<'_>) -> Result<AbortedTransaction, Malformed> {
    let producer = ProducerId(reader.i64("producer id")?);
    let first_offset = Offset(reader.i64("first offset")?);
    reader.skip_tagged_fields()?;
    Ok(AbortedTransaction { producer, first_offset })
}

fn read_epoch_end(reader: &mut Reader<'_>) -> Result<EpochEnd, Malformed> {
    let epoch = LeaderEpoch(reader.i32("epoch")?);
    let end = Offset(reader.i64("end offset")?);
    reader.skip_tagged_fields()?;
    Ok(EpochEnd { epoch, end })
}

fn read_partition_count(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    // Index, error, two offsets, aborted transactions, records.
    reader.array_len(4 + 2 + 8 + 8 + 1 + 1, "partitions")
}

fn skip_partitions(reader: &mut Reader<'_>, version: i16, count: usize) -> Result<(), Malformed> {
    for _ in 0..count {
        RawPartition::read(reader, version)?;
    }
    Ok(())
}
