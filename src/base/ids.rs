//! Newtypes for everything that is numbered, so that the compiler keeps offsets, epochs and ids
//! apart. All are plain values with Kafka's widths.

use std::fmt;

/// A record's position in a partition. Ends (`*_end`, `next_*`) are exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of a new partition.
    pub const ZERO: Offset = Offset(0);
    /// Kafka's "no offset" (-1).
    pub const UNKNOWN: Offset = Offset(-1);

    /// The offset `count` records later.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Index of a partition within its topic, from 0. Negative values arrive from clients and name
    /// no partition.
    PartitionIndex(i32)
);
number!(
    /// Rises each time the leadership of a partition starts anew; here, at every broker start
    /// (KIP-101, KIP-320).
    LeaderEpoch(i32)
);
number!(
    /// A producer's id (KIP-98). -1: not idempotent.
    ProducerId(i64)
);
number!(
    /// Fences older incarnations of one producer id (KIP-98).
    ProducerEpoch(i16)
);
number!(
    /// Kafka's node id of a broker.
    BrokerId(i32)
);
number!(
    /// Index of a shard within this process, from 0. Not a CPU id.
    ShardId(u16)
);

impl ProducerId {
    /// No producer id: the batch is not idempotent.
    pub const NONE: ProducerId = ProducerId(-1);
}

/// Sequence number of a record within one producer id and partition. Wraps from `i32::MAX` to 0
/// (KIP-98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sequence(pub i32);

impl Sequence {
    /// The sequence `count` records later, with Kafka's wrap. `count` is not negative.
    #[must_use]
    pub fn plus(self, count: i32) -> Sequence {
        debug_assert!(count >= 0 && self.0 >= 0);
        let wide = i64::from(self.0) + i64::from(count);
        let span = i64::from(i32::MAX) + 1;
        Sequence(i32::try_from(wide % span).unwrap_or(0))
    }
}

/// A topic's identity (KIP-516): a topic that is deleted and created again has another id.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The all-zero id, which names no topic.
    pub const ZERO: TopicId = TopicId([0; 16]);
}

impl fmt::Display for TopicId {
    /// Kafka's form: URL-safe base64 without padding, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bits: u32 = 0;
        let mut bit_count = 0;
        for byte in self.0 {
            bits = (bits << 8) | u32::from(byte);
            bit_count += 8;
            while bit_count >= 6 {
                bit_count -= 6;
                let symbol = ALPHABET[((bits >> bit_count) & 63) as usize];
                f.write_str(char::from(symbol).encode_utf8(&mut [0; 4]))?;
            }
        }
        let symbol = ALPHABET[((bits << (6 - bit_count)) & 63) as usize];
        f.write_str(char::from(symbol).encode_utf8(&mut [0; 4]))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition of one incarnation of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partition's index.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_wraps_to_zero_after_the_largest_int() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(0), Sequence(5));
    }

    #[test]
    fn a_topic_id_prints_as_kafka_prints_it() {
        // java: new Uuid(0x0102030405060708L, 0x090a0b0c0d0e0f10L).toString()
        let id = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(id.to_string(), "AQIDBAUGBwgJCgsMDQ4PEA");
    }
}
