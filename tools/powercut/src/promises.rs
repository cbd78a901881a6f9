//! What clients were told, and what must therefore be found after a power cut.

use std::collections::BTreeMap;

use crate::block_log::Entry;

/// How a topic's batches look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Some hundred bytes: through the journal.
    Small,
    /// Nearly a megabyte, several on the way: straight into the segments.
    Large,
    /// Either.
    Mixed,
    /// One record of a few kilobytes, each time with the next of [`KEYS`] keys.
    Keyed,
}

/// Keys of a compacted topic.
pub const KEYS: usize = 40;

/// A topic that is written to all the time.
pub struct Topic {
    pub name: &'static str,
    pub partitions: i32,
    pub size: Size,
    pub configs: &'static [(&'static str, &'static str)],
    /// Acknowledged records that a power cut may take, exclusive bound.
    pub may_lose: u64,
    /// Bytes that retention leaves at least; 0: it takes none.
    pub retains_bytes: usize,
    /// Records are deleted on request.
    pub is_deleted_from: bool,
    /// Only the last record of a key has to stay.
    pub is_compacted: bool,
}

const NEVER: (&str, &str) = ("flush.messages", "9223372036854775807");
const SMALL_SEGMENTS: (&str, &str) = ("segment.bytes", "1048576");

const fn synced(name: &'static str, partitions: i32, size: Size) -> Topic {
    Topic {
        name,
        partitions,
        size,
        configs: &[("flush.messages", "1"), SMALL_SEGMENTS],
        may_lose: 1,
        retains_bytes: 0,
        is_deleted_from: false,
        is_compacted: false,
    }
}

/// Every level of durability, both lanes, retention, deletion and compaction.
pub const TOPICS: [Topic; 8] = [
    synced("synced", 2, Size::Small),
    synced("mixed", 1, Size::Mixed),
    Topic { is_deleted_from: true, ..synced("deleted", 1, Size::Small) },
    Topic {
        configs: &[("segment.bytes", "4194304"), ("retention.bytes", "6291456")],
        retains_bytes: 6 << 20,
        ..synced("large", 2, Size::Large)
    },
    Topic {
        configs: &[("flush.messages", "50"), SMALL_SEGMENTS],
        may_lose: 50,
        ..synced("some", 1, Size::Small)
    },
    Topic {
        configs: &[NEVER, ("flush.ms", "20"), SMALL_SEGMENTS],
        may_lose: u64::MAX,
        ..synced("timed", 1, Size::Small)
    },
    Topic {
        configs: &[NEVER, SMALL_SEGMENTS],
        may_lose: u64::MAX,
        ..synced("never", 1, Size::Mixed)
    },
    Topic {
        configs: &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.01"),
            SMALL_SEGMENTS,
        ],
        is_compacted: true,
        ..synced("compacted", 1, Size::Keyed)
    },
];

/// A partition of one of [`TOPICS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: usize,
    pub partition: i32,
}

impl Place {
    pub fn all() -> Vec<Place> {
        let of = |topic: usize| {
            (0..TOPICS[topic].partitions).map(move |partition| Place { topic, partition })
        };
        (0..TOPICS.len()).flat_map(of).collect()
    }

    pub fn topic(self) -> &'static Topic {
        &TOPICS[self.topic]
    }

    pub fn name(self) -> String {
        format!("{}-{}", self.topic().name, self.partition)
    }
}

/// A topic that comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub partitions: usize,
    /// Its `retention.ms`.
    pub retention_ms: String,
}

/// What a client was told or has asked for.
#[derive(Clone, Debug)]
pub enum Mark {
    /// Batch `number` of the partition is at this offset.
    Acked { place: Place, number: usize, base_offset: i64 },
    /// To delete the records before this offset.
    StartAsked { place: Place, before: i64 },
    /// The partition begins here.
    StartTold { place: Place, start: i64 },
    /// A topic shall be like this, or be gone.
    TopicAsked { name: String, shape: Option<Shape> },
    /// It is.
    TopicTold { name: String },
}

/// What must be true of a partition.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Number and base offset of each acknowledged batch.
    pub acked: Vec<(usize, i64)>,
    pub start_asked: i64,
    pub start_told: i64,
}

/// What may be true of a topic: what was told last, or what was asked since.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    pub told: Option<Shape>,
    pub asked: Option<Option<Shape>>,
}

/// All that was promised.
#[derive(Debug, Default)]
pub struct Promises {
    pub records: BTreeMap<Place, Records>,
    pub topics: BTreeMap<String, Topics>,
}

impl Promises {
    /// The promises of all that happened.
    pub fn of(entries: &[Entry]) -> Promises {
        let mut all = Promises::default();
        for entry in entries {
            if let Entry::Mark(mark) = entry {
                all.note(mark);
            }
        }
        all
    }

    fn note(&mut self, mark: &Mark) {
        match mark {
            Mark::Acked { place, number, base_offset } => {
                self.records.entry(*place).or_default().acked.push((*number, *base_offset));
            }
            Mark::StartAsked { place, before } => {
                let records = self.records.entry(*place).or_default();
                records.start_asked = records.start_asked.max(*before);
            }
            Mark::StartTold { place, start } => {
                let records = self.records.entry(*place).or_default();
                records.start_told = records.start_told.max(*start);
            }
            Mark::TopicAsked { name, shape } => {
                self.topics.entry(name.clone()).or_default().asked = Some(shape.clone());
            }
            Mark::TopicTold { name } => {
                let topic = self.topics.entry(name.clone()).or_default();
                topic.told = topic.asked.take().flatten();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_not_answered_may_be_or_not() {
        let shape = Some(Shape { partitions: 2, retention_ms: "1".to_owned() });
        let asked = |shape| Entry::Mark(Mark::TopicAsked { name: "t".to_owned(), shape });
        let told = Entry::Mark(Mark::TopicTold { name: "t".to_owned() });
        let entries = [asked(shape.clone()), told, asked(None)];
        let topic = |count: usize| Promises::of(&entries[..count]).topics["t"].clone();
        assert_eq!((topic(1).told, topic(1).asked), (None, Some(shape.clone())));
        assert_eq!((topic(2).told, topic(2).asked), (shape.clone(), None));
        assert_eq!((topic(3).told, topic(3).asked), (shape, Some(None)));
    }
}
