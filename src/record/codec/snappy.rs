//! Snappy as Kafka's clients use it: framed by xerial's snappy-java (Java, franz-go, kafka-python)
//! or one raw block (librdkafka, sarama). Readers take both, as snappy-java's own does; we write
//! xerial's framing with its 32 KiB blocks.
//!
//! Framing: `82 "SNAPPY" 00`, version 1 and oldest compatible version 1 (big-endian `i32`), then
//! for each block its compressed length (big-endian `i32`) and a raw snappy block.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{CodecError, grow};

const MAGIC: &[u8; 8] = b"\x82SNAPPY\x00";
const VERSION: i32 = 1;

/// snappy-java's `SnappyOutputStream.DEFAULT_BLOCK_SIZE`, which Kafka uses.
const BLOCK_BYTES: usize = 32 * 1024;

/// A snappy element of three bytes copies at most 64: no honest block grows more.
const EXPANSION_MAX: usize = 22;

fn corrupt(reason: &'static str) -> CodecError {
    CodecError::Corrupt { codec: "snappy", reason }
}

pub(super) fn compress(plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(16 + plain.len() / 2);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = Encoder::new();
    let mut block = vec![0; max_compress_len(BLOCK_BYTES)];
    for chunk in plain.chunks(BLOCK_BYTES) {
        let len = encoder
            .compress(chunk, &mut block)
            .map_err(|_| corrupt("the encoder refused a block"))?;
        let packed = block.get(..len).unwrap_or_default();
        out.extend_from_slice(&i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes());
        out.extend_from_slice(packed);
    }
    Ok(out)
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let Some(framed) = packed.strip_prefix(MAGIC) else {
        append_block(packed, limit, &mut out)?;
        return Ok(out);
    };
    let truncated = corrupt("the framing is cut off");
    let (version, rest) = split_i32(framed).ok_or(truncated)?;
    let (_oldest_compatible, mut rest) = split_i32(rest).ok_or(truncated)?;
    // As snappy-java decides it: newer writers are trusted to stay readable.
    if version < VERSION {
        return Err(corrupt("the framing's version is too old"));
    }
    while !rest.is_empty() {
        let (len, after) = split_i32(rest).ok_or(truncated)?;
        let len = usize::try_from(len).map_err(|_| corrupt("a block's length is negative"))?;
        if len == 0 {
            return Err(corrupt("a block is empty"));
        }
        let (block, after) =
            after.split_at_checked(len).ok_or(corrupt("a block points beyond the batch"))?;
        append_block(block, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn split_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (front, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*front), rest))
}

fn append_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if block.is_empty() {
        return Err(corrupt("a block is empty"));
    }
    let plain_len = decompress_len(block).map_err(|_| corrupt("a block's header is broken"))?;
    if plain_len > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(corrupt("a block claims more than it can hold"));
    }
    let filled = out.len();
    let grown = filled.saturating_add(plain_len);
    if grown > limit {
        return Err(CodecError::TooLarge { bytes_max: limit });
    }
    grow(out, grown, limit);
    let free = out.get_mut(filled..).unwrap_or_default();
    let written =
        Decoder::new().decompress(block, free).map_err(|_| corrupt("a block is broken"))?;
    if written != plain_len {
        return Err(corrupt("a block is broken"));
    }
    Ok(())
}
