//! Random 16-byte identities in Kafka's text form (URL-safe base64 without padding, 22
//! characters), and their form in stored metadata.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ids::TopicId;

/// Characters of an identity's text form.
pub const IDENTITY_CHARS: usize = 22;

/// Sixteen random bytes for a new identity; given by the caller, so that a test can repeat a run.
pub type RandomBytes = Box<dyn FnMut() -> [u8; 16] + Send>;

/// Random bytes from the system.
///
/// # Panics
/// If the system has none to give: identities that may repeat are worse than no broker.
#[must_use]
pub fn system_random() -> RandomBytes {
    Box::new(|| {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        bytes
    })
}

/// A cluster's identity, made at the first start of its first node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId([u8; 16]);

/// A data directory's identity (KIP-858), made when the directory is first used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId([u8; 16]);

macro_rules! identity {
    ($name:ident) => {
        impl $name {
            /// From raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> $name {
                $name(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn bytes(&self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                TopicId(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                TopicId(self.0).fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                deserialize_identity(deserializer).map($name)
            }
        }
    };
}

identity!(ClusterId);
identity!(DirectoryId);

/// Turns 16 random bytes into an identity that Kafka would have made: a version 4 UUID whose text
/// does not begin with `-` (which command-line tools take for a flag).
#[must_use]
pub fn identity_from_random(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    // '-' is symbol 62, the first six bits 111110.
    if bytes[0] >> 2 == 62 {
        bytes[0] &= 0x7F;
    }
    bytes
}

/// Reads the text form; `None` if it is not 22 symbols of the alphabet that end in four zero bits.
#[must_use]
pub fn parse_identity(text: &str) -> Option<[u8; 16]> {
    if text.len() != IDENTITY_CHARS {
        return None;
    }
    let mut out = [0_u8; 16];
    let mut filled = 0;
    let mut window: u32 = 0;
    let mut window_bits = 0;
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        window = (window << 6) | u32::from(value);
        window_bits += 6;
        if window_bits >= 8 {
            window_bits -= 8;
            let byte = u8::try_from((window >> window_bits) & 0xFF).ok()?;
            *out.get_mut(filled)? = byte;
            filled += 1;
        }
    }
    let rest = window & ((1 << window_bits) - 1);
    (filled == out.len() && rest == 0).then_some(out)
}

fn deserialize_identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_identity(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an identity")))
}

/// Topic ids in stored metadata: the text form.
pub(super) mod topic_id_text {
    use super::{Deserializer, Serializer, TopicId, deserialize_identity};

    pub fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TopicId, D::Error> {
        deserialize_identity(deserializer).map(TopicId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_text() {
        for seed in 0..=255_u8 {
            let bytes = identity_from_random([seed; 16]);
            let text = ClusterId::from_bytes(bytes).to_string();
            assert_eq!(text.len(), IDENTITY_CHARS);
            assert!(!text.starts_with('-'), "{text}");
            assert_eq!(parse_identity(&text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        assert_eq!(parse_identity(""), None);
        assert_eq!(parse_identity("AQIDBAUGBwgJCgsMDQ4PE"), None);
        assert_eq!(parse_identity("AQIDBAUGBwgJCgsMDQ4PEB"), None, "bits after the last byte");
        assert_eq!(parse_identity("AQIDBAUGBwgJCgsMDQ4P+A"), None);
        assert_eq!(
            parse_identity("AQIDBAUGBwgJCgsMDQ4PEA"),
            Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
        );
    }
}
