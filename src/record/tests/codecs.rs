//! The codecs: round trips, foreign bytes, and the bombs and lies of cases 77-80.

use std::io::Write;

use super::super::*;

const PACKING: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn is_corrupt(result: Result<Vec<u8>, CodecError>) -> bool {
    matches!(result, Err(CodecError::Corrupt { .. }))
}

/// Bytes that compress a little: text with a counter.
fn text(len: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|idx| format!("line {} of the text\n", idx * 7919).into_bytes())
        .take(len)
        .collect()
}

#[test]
fn every_codec_gives_back_what_it_took_at_every_size_around_its_blocks() {
    for codec in Compression::ALL {
        for len in [0, 1, 100, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 300_000, 5_000_000] {
            let plain = text(len);
            let packed = compress(codec, &plain).unwrap();
            assert!(!packed.is_empty() || codec == Compression::None);
            assert_eq!(decompress(codec, &packed, len).unwrap(), plain, "{codec:?} {len}");
        }
    }
}

#[test]
fn case_77_the_limit_holds_to_the_byte_and_memory_follows_it() {
    for codec in Compression::ALL {
        let packed = compress(codec, &vec![0; 10_000_000]).unwrap();
        assert_eq!(decompress(codec, &packed, 10_000_000).unwrap().len(), 10_000_000);
        for limit in [0, 1, 5000, 1_000_000, 9_999_999] {
            let error = decompress(codec, &packed, limit).unwrap_err();
            assert_eq!(error, CodecError::TooLarge { bytes_max: limit }, "{codec:?}");
        }
    }
}

#[test]
fn a_cut_stream_is_corrupt_wherever_it_is_cut() {
    let plain = text(1000);
    for codec in PACKING {
        let packed = compress(codec, &plain).unwrap();
        for len in 0..packed.len() {
            let result = decompress(codec, &packed[..len], 1 << 20);
            // Framed snappy has no end mark: cut between blocks it is shorter, and the record
            // count will not fit.
            let shorter = codec == Compression::Snappy && result.as_ref().is_ok_and(Vec::is_empty);
            assert!(shorter || is_corrupt(result), "{codec:?} cut at {len}");
        }
        assert!(is_corrupt(decompress(codec, &[0; 64], 1 << 20)), "{codec:?}");
    }
}

#[test]
fn snappy_of_the_java_client_and_raw_snappy_are_read() {
    // One record with value "sdfdsf", compressed by the Java client, framed and not.
    let framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x0f\x0d\x30\x18\0\0\0\x01\x0csdfdsf\0";
    let plain = b"\x18\0\0\0\x01\x0csdfdsf\0";
    assert_eq!(decompress(Compression::Snappy, framed, 100).unwrap(), plain);
    assert_eq!(decompress(Compression::Snappy, &framed[20..], 100).unwrap(), plain);
    assert_eq!(compress(Compression::Snappy, plain).unwrap(), framed, "byte for byte");
    let long = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&long).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, 100_000).unwrap(), long);
}

#[test]
fn case_78_snappy_framing_that_lies_is_corrupt() {
    let framed = |blocks: &[u8]| {
        let head = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
        decompress(Compression::Snappy, &[&head[..], blocks].concat(), 1 << 20)
    };
    assert!(is_corrupt(framed(&[0x7f, 0xff, 0xff, 0xff, 1])));
    assert!(is_corrupt(framed(&[0x80, 0, 0, 0, 1])));
    assert!(is_corrupt(framed(&[0xff, 0xff, 0xff, 0xff])));
    assert!(is_corrupt(framed(&[0; 4096])), "a loop of empty blocks");
    assert!(is_corrupt(framed(&[0, 0])), "half a length");
    // A block that claims a mebibyte in five bytes is refused before a byte is allocated.
    assert!(is_corrupt(framed(&[0, 0, 0, 5, 0x80, 0x80, 0x40, 0, b'a'])));
    let older = b"\x82SNAPPY\0\0\0\0\0\0\0\0\x01";
    assert!(is_corrupt(decompress(Compression::Snappy, older, 100)));
}

#[test]
fn case_79_lz4_frames_that_kafka_cannot_read_are_corrupt() {
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    let plain = text(200_000);
    let frame = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let unpack = |packed: &[u8]| decompress(Compression::Lz4, packed, 1 << 20);
    let sound = frame(FrameInfo::new().content_checksum(true).block_checksums(true));
    assert_eq!(unpack(&sound).unwrap(), plain);
    assert!(is_corrupt(unpack(&frame(FrameInfo::new().block_mode(BlockMode::Linked)))));
    let mut wrong = sound.clone();
    wrong[6] ^= 1;
    assert!(is_corrupt(unpack(&wrong)), "header checksum");
    let mut wrong = sound.clone();
    wrong[4] |= 1;
    assert!(is_corrupt(unpack(&wrong)), "dictionary");
    let mut wrong = sound.clone();
    wrong[5] = 0x10;
    assert!(is_corrupt(unpack(&wrong)), "block size");
    let mut wrong = sound.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(is_corrupt(unpack(&wrong)), "content checksum");
    assert!(is_corrupt(unpack(&[&sound[..], &[0]].concat())), "trailing byte");
    let mut lying = FrameEncoder::with_frame_info(FrameInfo::new(), Vec::new());
    lying.write_all(&plain).unwrap();
    let honest = lying.finish().unwrap();
    // Content size flag, a size that is not true, and the header checksum that fits.
    let legacy = 0x184C_2102_u32.to_le_bytes();
    assert!(is_corrupt(unpack(&[&legacy[..], &honest[4..]].concat())));
    let skippable = [&0x184D_2A50_u32.to_le_bytes()[..], &4u32.to_le_bytes(), &[0; 4]].concat();
    assert!(is_corrupt(unpack(&skippable)));
    assert!(is_corrupt(unpack(&frame_with_content_size(&plain, plain.len() as u64 + 1))));
    assert_eq!(unpack(&frame_with_content_size(&plain, plain.len() as u64)).unwrap(), plain);
}

/// An LZ4 frame that claims `size` bytes: written with the true size, then claimed anew, with the
/// header checksum of a frame that was honestly of that size.
fn frame_with_content_size(plain: &[u8], size: u64) -> Vec<u8> {
    use lz4_flex::frame::{FrameEncoder, FrameInfo};
    let frame = |content: &[u8]| {
        let info = FrameInfo::new().content_size(Some(content.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let header = frame(&vec![0; usize::try_from(size).unwrap()]);
    [&header[..15], &frame(plain)[15..]].concat()
}

#[test]
fn case_80_zstd_frames_that_lie_or_hold_nothing_are_refused_without_memory() {
    let unpack = |packed: &[u8], limit| decompress(Compression::Zstd, packed, limit);
    let plain = text(200_000);
    // A stream without content size, as the Java client writes it, at the strongest level.
    let mut encoder = zstd::Encoder::new(Vec::new(), 19).unwrap();
    encoder.write_all(&plain).unwrap();
    let streamed = encoder.finish().unwrap();
    assert_eq!(unpack(&streamed, 200_000).unwrap(), plain);
    assert_eq!(unpack(&streamed, 199_999), Err(CodecError::TooLarge { bytes_max: 199_999 }));
    assert_eq!(unpack(&[&streamed[..], &streamed[..]].concat(), 400_000).unwrap().len(), 400_000);
    let mut wide = streamed.clone();
    wide[5] = 21 << 3; // window 2 GiB
    assert!(is_corrupt(unpack(&wide, 1 << 20)));
    wide[5] = (17 << 3) | 1; // 128 MiB and an eighth
    assert!(is_corrupt(unpack(&wide, 1 << 20)));
    wide[5] = 17 << 3; // 128 MiB: what level 22 writes
    assert_eq!(unpack(&wide, 1 << 20).unwrap(), plain);
    let skippable = [&0x184D_2A50_u32.to_le_bytes()[..], &4u32.to_le_bytes(), &[0; 4]].concat();
    assert!(is_corrupt(unpack(&skippable, 1 << 20)));
    assert!(is_corrupt(unpack(&[&streamed[..], &skippable[..]].concat(), 1 << 20)));
    // Single segment, 8-byte content size of a tebibyte.
    let tebibyte = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0];
    assert_eq!(unpack(&tebibyte, 1 << 30), Err(CodecError::TooLarge { bytes_max: 1 << 30 }));
    // A claim that the limit would allow is not allocated before the data bears it out.
    let mebibytes = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x30, 1, 0, 0];
    assert!(is_corrupt(unpack(&mebibytes, 1 << 30)));
}

#[test]
fn gzip_of_several_members_is_read_and_rubbish_behind_it_is_not() {
    let member = compress(Compression::Gzip, b"one").unwrap();
    let both = [&member[..], &member[..]].concat();
    assert_eq!(decompress(Compression::Gzip, &both, 6).unwrap(), b"oneone");
    let trailing = [&member[..], b"x"].concat();
    assert!(is_corrupt(decompress(Compression::Gzip, &trailing, 6)));
    let mut wrong = member.clone();
    let crc_at = wrong.len() - 8;
    wrong[crc_at] ^= 1;
    assert!(is_corrupt(decompress(Compression::Gzip, &wrong, 6)));
}
