//! The codecs that a batch may name.

/// Codec of a batch's records: bits 0-2 of the attributes. Ids 5-7 mean nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy: xerial's framing as the Java client writes it, or one raw block as librdkafka does.
    Snappy,
    /// LZ4 frame with independent blocks and a correct header checksum (KIP-57).
    Lz4,
    /// Zstandard, RFC 8878 (KIP-110): Produce v7 and later, Fetch v10 and later.
    Zstd,
}

impl Compression {
    /// Every codec, by its id.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The codec that a batch's attributes name; `None` for the ids that have no meaning.
    #[must_use]
    pub fn from_attributes(attributes: i16) -> Option<Compression> {
        match attributes & 0x07 {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The codec's bits in a batch's attributes.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec of that name in `compression.type`: `none` (or its topic alias `uncompressed`),
    /// `gzip`, `snappy`, `lz4`, `zstd`. `producer` is no codec and gives `None`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Compression> {
        if name == "uncompressed" {
            return Some(Compression::None);
        }
        Compression::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Kafka's name of the codec.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Compression;

    #[test]
    fn ids_and_names_lead_back_to_their_codec() {
        for codec in Compression::ALL {
            assert_eq!(Compression::from_attributes(codec.id() | 0x38), Some(codec));
            assert_eq!(Compression::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Compression::from_name("uncompressed"), Some(Compression::None));
        assert_eq!(Compression::from_name("producer"), None);
        for id in 5..8 {
            assert_eq!(Compression::from_attributes(id), None);
        }
    }
}
