//! The envelope of stored metadata: `"TW"`, kind, version, CRC-32C, then JSON. Metadata changes
//! rarely and lives long, so it is kept in a form that later versions extend and tools can read.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::base::crc::{crc32c, crc32c_append};

const MAGIC: [u8; 2] = *b"TW";
const HEAD_BYTES: usize = 4;
const ENVELOPE_BYTES: usize = HEAD_BYTES + 4;

/// The version that this build writes, and the newest that it reads.
pub(super) const VERSION: u8 = 1;

/// What an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// One command.
    Command,
    /// An image.
    Snapshot,
}

impl Content {
    const fn tag(self) -> u8 {
        match self {
            Content::Command => b'C',
            Content::Snapshot => b'S',
        }
    }
}

/// Why stored metadata cannot be used.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Too short, or another magic or kind.
    #[error("not a metadata record")]
    NotMetadata,
    /// Written by a later version of this program.
    #[error("written in metadata version {found}; this build reads up to {VERSION}")]
    FutureVersion {
        /// The version that it carries.
        found: u8,
    },
    /// The checksum does not match.
    #[error("metadata checksum is {found:#010x}, should be {expected:#010x}")]
    Checksum {
        /// Computed from the bytes.
        found: u32,
        /// Stored with them.
        expected: u32,
    },
    /// The checksum matches, but the content is not what this version writes.
    #[error("metadata content: {0}")]
    Content(#[from] serde_json::Error),
}

pub(super) fn encode<T: Serialize>(content: Content, value: &T) -> Result<Vec<u8>, DecodeError> {
    let payload = serde_json::to_vec(value)?;
    let head = [MAGIC[0], MAGIC[1], content.tag(), VERSION];
    let crc = crc32c_append(crc32c(&head), &payload);
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + payload.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(out)
}

pub(super) fn decode<T: DeserializeOwned>(
    content: Content,
    bytes: &[u8],
) -> Result<T, DecodeError> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(DecodeError::NotMetadata)?;
    let (crc, payload) = rest.split_first_chunk::<4>().ok_or(DecodeError::NotMetadata)?;
    let [magic_0, magic_1, tag, version] = *head;
    if [magic_0, magic_1] != MAGIC || tag != content.tag() {
        return Err(DecodeError::NotMetadata);
    }
    if version > VERSION {
        return Err(DecodeError::FutureVersion { found: version });
    }
    let expected = u32::from_le_bytes(*crc);
    let found = crc32c_append(crc32c(head), payload);
    if found != expected {
        return Err(DecodeError::Checksum { found, expected });
    }
    Ok(serde_json::from_slice(payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let bytes = encode(Content::Command, &"value").unwrap();
        assert_eq!(decode::<String>(Content::Command, &bytes).unwrap(), "value");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<String>(Content::Command, &flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode::<String>(Content::Command, &bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut bytes = encode(Content::Snapshot, &1).unwrap();
        bytes[3] = VERSION + 1;
        let error = decode::<i32>(Content::Snapshot, &bytes).unwrap_err();
        assert!(matches!(error, DecodeError::FutureVersion { found } if found == VERSION + 1));
    }
}
