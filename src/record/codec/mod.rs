//! The codecs, each bounded in the bytes that it gives and the memory that it takes.
//!
//! Whatever compressed bytes claim about themselves, decompression holds at most the limit, what
//! the input could honestly expand to, and a fixed working set a codec (gzip 32 KiB of window, LZ4
//! two blocks of at most 4 MiB, zstd no window at all because it writes into our buffer).

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::io::Read;

use super::compression::Compression;

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The compressed bytes are not what the codec writes.
    #[error("{codec}: {reason}")]
    Corrupt {
        /// The codec's name.
        codec: &'static str,
        /// What does not fit.
        reason: &'static str,
    },
    /// The output exceeds the limit.
    #[error("more than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

/// Compresses `plain` in the form that Kafka's clients read. `None` copies.
///
/// # Errors
/// `TooLarge` if a codec cannot take so many bytes (4 GiB and more).
pub fn compress(compression: Compression, plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    compress_at(compression, None, plain)
}

/// The same at `level`, of the codecs that have levels here: gzip (1 to 9) and zstd (-131072 to 22).
///
/// # Errors
/// As [`compress`]; a level that a codec does not know is the nearest that it knows.
pub fn compress_at(
    compression: Compression,
    level: Option<i32>,
    plain: &[u8],
) -> Result<Vec<u8>, CodecError> {
    match compression {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => gzip::compress(plain, level),
        Compression::Snappy => snappy::compress(plain),
        Compression::Lz4 => lz4::compress(plain),
        Compression::Zstd => zstd::compress(plain, level),
    }
}

/// Decompresses `packed` into at most `limit` bytes. `None` copies.
///
/// # Errors
/// `Corrupt` if the bytes are not a complete output of the codec; `TooLarge` beyond the limit.
pub fn decompress(
    compression: Compression,
    packed: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CodecError> {
    match compression {
        Compression::None if packed.len() > limit => Err(CodecError::TooLarge { bytes_max: limit }),
        Compression::None => Ok(packed.to_vec()),
        Compression::Gzip => gzip::decompress(packed, limit),
        Compression::Snappy => snappy::decompress(packed, limit),
        Compression::Lz4 => lz4::decompress(packed, limit),
        Compression::Zstd => zstd::decompress(packed, limit),
    }
}

/// Bytes that a first buffer may have: what `packed_len` bytes usually expand to, never more than
/// the limit. Lengths that the compressed bytes claim are not believed beyond this.
fn first_capacity(packed_len: usize, limit: usize) -> usize {
    packed_len.saturating_mul(4).max(4096).min(limit)
}

/// Makes `out` `len` bytes long, doubling its memory as it grows but never beyond the limit and one
/// byte.
fn grow(out: &mut Vec<u8>, len: usize, limit: usize) {
    if len > out.capacity() {
        let doubled = out.capacity().saturating_mul(2).min(limit.saturating_add(1));
        out.reserve_exact(doubled.max(len) - out.len());
    }
    out.resize(len, 0);
}

/// Reads `reader` to its end into at most `limit` bytes; any error of the reader becomes `broken`.
/// A bomb costs what the limit allows.
fn read_bounded(
    mut reader: impl Read,
    packed_len: usize,
    limit: usize,
    broken: CodecError,
) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![0; first_capacity(packed_len, limit).max(1)];
    let mut filled = 0;
    loop {
        if filled == out.len() {
            if filled > limit {
                return Err(CodecError::TooLarge { bytes_max: limit });
            }
            let grown = out.len().saturating_mul(2).min(limit.saturating_add(1));
            grow(&mut out, grown, limit);
        }
        let free = out.get_mut(filled..).unwrap_or_default();
        match reader.read(free) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(_) => return Err(broken),
        }
    }
    if filled > limit {
        return Err(CodecError::TooLarge { bytes_max: limit });
    }
    out.truncate(filled);
    Ok(out)
}
