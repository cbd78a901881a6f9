//! Zstandard (RFC 8878), decompressed frame by frame straight into the output buffer: the one-pass
//! decoder keeps no window of its own, so a frame that claims a window of 128 MiB (what level 22
//! writes when it streams) costs nothing.

use std::cell::Cell;

use zstd::zstd_safe::{self, CCtx, DCtx, zstd_sys::ZSTD_ErrorCode};

use super::{CodecError, first_capacity, grow};

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// The largest window that Kafka's Java client (zstd-jni with zstd's default) agrees to read.
const WINDOW_LOG_MAX: u32 = 27;

/// zstd returns its errors as negated numbers.
const DST_TOO_SMALL: usize =
    0usize.wrapping_sub(ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize);

thread_local! {
    // Making a context costs more than a small batch does (20-30 us against 2). Each core keeps one
    // of each: about 160 KiB to read, and a few MiB to write once it has written large batches.
    static ENCODER: Cell<Option<CCtx<'static>>> = const { Cell::new(None) };
    static DECODER: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

fn corrupt(reason: &'static str) -> CodecError {
    CodecError::Corrupt { codec: "zstd", reason }
}

pub(super) fn compress(plain: &[u8], level: Option<i32>) -> Result<Vec<u8>, CodecError> {
    let kept = ENCODER.try_with(Cell::take).ok().flatten();
    let mut context = kept.or_else(CCtx::try_create).ok_or(corrupt("no memory for the encoder"))?;
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    // zstd itself takes a level out of bounds for the nearest.
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    let written = context.compress(&mut out, plain, level);
    let _ = ENCODER.try_with(|encoder| encoder.set(Some(context)));
    written.map_err(|_| corrupt("the encoder refused the bytes"))?;
    Ok(out)
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    if packed.is_empty() {
        return Err(corrupt("no zstd frame begins here"));
    }
    let kept = DECODER.try_with(Cell::take).ok().flatten();
    let mut context = kept.or_else(DCtx::try_create).ok_or(corrupt("no memory for the decoder"))?;
    let out = decompress_frames(&mut context, packed, limit);
    // Each frame begins anew: what an error leaves in the context does not reach the next one.
    let _ = DECODER.try_with(|decoder| decoder.set(Some(context)));
    out
}

fn decompress_frames(
    context: &mut DCtx<'_>,
    packed: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let mut rest = packed;
    while !rest.is_empty() {
        let len = zstd_safe::find_frame_compressed_size(rest)
            .map_err(|_| corrupt("the zstd frame is broken or cut off"))?;
        let (frame, after) = rest
            .split_at_checked(len)
            .filter(|(frame, _)| !frame.is_empty())
            .ok_or(corrupt("the zstd frame is cut off"))?;
        check_header(frame)?;
        append_frame(context, frame, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

/// Refuses skippable and legacy frames, dictionaries, and windows that no consumer would accept.
fn check_header(frame: &[u8]) -> Result<(), CodecError> {
    let body = frame.strip_prefix(&MAGIC).ok_or(corrupt("no zstd frame begins here"))?;
    let (&descriptor, body) =
        body.split_first().ok_or(corrupt("the zstd frame header is cut off"))?;
    if descriptor & 0x03 != 0 {
        return Err(corrupt("the zstd frame wants a dictionary"));
    }
    let single_segment = descriptor & 0x20 != 0;
    if single_segment {
        return Ok(()); // the window is the content, which the limit bounds
    }
    let window = body.first().copied().ok_or(corrupt("the zstd frame header is cut off"))?;
    let (exponent, mantissa) = (10 + u32::from(window >> 3), u64::from(window & 0x07));
    let window_bytes = (1u64 << exponent) + (1u64 << exponent) / 8 * mantissa;
    if window_bytes > 1 << WINDOW_LOG_MAX {
        return Err(corrupt("the zstd window exceeds 128 MiB"));
    }
    Ok(())
}

/// Decompresses one frame behind what `out` holds, with more room each time that it did not fit.
fn append_frame(
    context: &mut DCtx<'_>,
    frame: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let too_large = CodecError::TooLarge { bytes_max: limit };
    let filled = out.len();
    let room_max = limit.saturating_sub(filled);
    let claimed = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| corrupt("the zstd frame header is broken"))?;
    let claimed = claimed.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    if claimed.is_some_and(|size| size > room_max) {
        return Err(too_large);
    }
    // An honest claim of a well compressed frame is still believed up to a mebibyte.
    let cautious = first_capacity(frame.len(), room_max).max(room_max.min(1 << 20));
    let mut room = claimed.map_or(first_capacity(frame.len(), room_max), |size| size.min(cautious));
    loop {
        grow(out, filled + room, limit);
        let free = out.get_mut(filled..).unwrap_or_default();
        match context.decompress(free, frame) {
            Ok(written) => {
                out.truncate(filled + written);
                return Ok(());
            }
            Err(DST_TOO_SMALL) if room < room_max => {
                room = room.saturating_mul(4).clamp(1, room_max);
            }
            Err(DST_TOO_SMALL) => return Err(too_large),
            Err(_) => return Err(corrupt("the zstd frame is broken")),
        }
    }
}
