//! The LZ4 frame as Kafka's batch version 2 uses it: a correct header checksum (KIP-57) and
//! independent blocks. Kafka's Java reader knows nothing else and takes one frame; so do we.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{CodecError, read_bounded};

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const FLAG_INDEPENDENT_BLOCKS: u8 = 1 << 5;
const FLAG_DICTIONARY: u8 = 1;

fn corrupt(reason: &'static str) -> CodecError {
    CodecError::Corrupt { codec: "lz4", reason }
}

pub(super) fn compress(plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    // 64 KiB independent blocks are what the Java client and librdkafka write.
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    // An encoder that was never written to would give no frame at all.
    encoder
        .write_all(plain)
        .and_then(|()| encoder.flush())
        .map_err(|_| corrupt("the encoder refused the bytes"))?;
    encoder.finish().map_err(|_| corrupt("the encoder refused the bytes"))
}

pub(super) fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let (magic, rest) =
        packed.split_first_chunk::<4>().ok_or(corrupt("the LZ4 frame is cut off"))?;
    if *magic != MAGIC {
        return Err(corrupt("no LZ4 frame begins here"));
    }
    let flags = rest.first().copied().unwrap_or_default();
    if flags & FLAG_INDEPENDENT_BLOCKS == 0 {
        return Err(corrupt("the LZ4 frame's blocks depend on each other"));
    }
    if flags & FLAG_DICTIONARY != 0 {
        return Err(corrupt("the LZ4 frame wants a dictionary"));
    }
    let mut source = Source { rest: packed, ran_dry: false };
    let out = read_bounded(
        FrameDecoder::new(&mut source),
        packed.len(),
        limit,
        corrupt("the LZ4 frame is broken"),
    )?;
    // The decoder takes an end of input between two blocks for the end of the frame.
    if source.ran_dry {
        return Err(corrupt("the LZ4 frame is cut off"));
    }
    if !source.rest.is_empty() {
        return Err(corrupt("bytes follow the LZ4 frame"));
    }
    Ok(out)
}

/// The compressed bytes, noticing a read beyond their end.
struct Source<'a> {
    rest: &'a [u8],
    ran_dry: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && !buf.is_empty() {
            self.ran_dry = true;
        }
        self.rest.read(buf)
    }
}
