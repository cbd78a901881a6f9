//! gzip (RFC 1952), several members allowed as in Java's `GZIPInputStream`.

use std::io::Write;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{CodecError, read_bounded};

const BROKEN: CodecError =
    CodecError::Corrupt { codec: "gzip", reason: "the gzip data is broken or cut off" };

pub(super) fn compress(plain: &[u8], level: Option<i32>) -> Result<Vec<u8>, CodecError> {
    let level = level.map_or_else(flate2::Compression::default, |level| {
        flate2::Compression::new(level.clamp(1, 9).unsigned_abs())
    });
    let mut encoder = GzEncoder::new(Vec::new(), level);
    // Writing to memory does not fail; the codec's own errors would come here.
    encoder.write_all(plain).and_then(|()| encoder.finish()).map_err(|_| BROKEN)
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    if packed.is_empty() {
        return Err(BROKEN);
    }
    read_bounded(MultiGzDecoder::new(packed), packed.len(), limit, BROKEN)
}
