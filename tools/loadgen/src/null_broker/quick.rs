//! The null broker's quick path: a Produce request of one batch, read where it was received, and its
//! answer, written behind those before it. Nothing is copied, nothing is allocated: the null broker
//! must cost less than whoever measures itself with it.
//!
//! Not here: anything else that Produce can say; that goes the long way through the broker's own
//! parser, and both say the same (a test compares them).

use bytes::BufMut;

use crate::wire::cursor::{Cursor, Malformed};
use crate::wire::produce::{
    PRODUCE_KEY, PRODUCE_VERSION_MAX, PRODUCE_VERSION_MIN, put_compact_string,
};

/// Bytes of a request that are enough to answer it, whatever its batch.
pub(super) const HEAD_BYTES: usize = 4 * 1024;

/// A Produce request for one partition of one topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OneBatch<'a> {
    correlation_id: i32,
    /// 0: no answer is expected.
    pub(super) acks: i16,
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    /// Records in its batch.
    pub(super) record_count: u32,
}

impl<'a> OneBatch<'a> {
    /// Reads the head of a request frame (without its length prefix): the batch's records need not
    /// be there. `None` if it is anything else.
    pub(super) fn read(frame: &'a [u8]) -> Option<OneBatch<'a>> {
        OneBatch::parse(frame).ok().flatten()
    }

    fn parse(frame: &'a [u8]) -> Result<Option<OneBatch<'a>>, Malformed> {
        let mut cursor = Cursor::new(frame);
        let (api, version) = (cursor.i16()?, cursor.i16()?);
        let known = (PRODUCE_VERSION_MIN..=PRODUCE_VERSION_MAX).contains(&version);
        if api != PRODUCE_KEY || !known {
            return Ok(None);
        }
        let correlation_id = cursor.i32()?;
        let client_id_bytes = usize::try_from(cursor.i16()?).unwrap_or(0);
        cursor.take(client_id_bytes)?;
        cursor.skip_tags()?;
        cursor.compact_bytes()?; // transactional id
        let acks = cursor.i16()?;
        cursor.i32()?; // timeout
        if cursor.compact_count()? != 1 {
            return Ok(None);
        }
        let Ok(topic) = std::str::from_utf8(cursor.compact_bytes()?) else { return Ok(None) };
        if cursor.compact_count()? != 1 {
            return Ok(None);
        }
        let partition = cursor.i32()?;
        cursor.unsigned()?; // bytes of the batch
        cursor.take(8 + 4 + 4)?; // base offset, length, leader epoch
        if cursor.take(1)? != [2] {
            return Ok(None);
        }
        // CRC, attributes, last delta, two timestamps, producer, epoch, sequence
        cursor.take(4 + 2 + 4 + 8 + 8 + 8 + 2 + 4)?;
        let count = cursor.i32()?;
        Ok(u32::try_from(count).ok().map(|record_count| OneBatch {
            correlation_id,
            acks,
            topic,
            partition,
            record_count,
        }))
    }

    /// Writes the answer behind what `out` holds.
    pub(super) fn answer(&self, error: i16, base_offset: i64, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_i32(0);
        out.put_i32(self.correlation_id);
        out.put_u8(0); // header tags
        out.put_u8(2); // one topic
        put_compact_string(out, self.topic);
        out.put_u8(2); // one partition
        out.put_i32(self.partition);
        out.put_i16(error);
        out.put_i64(base_offset);
        out.put_i64(-1); // append time
        out.put_i64(if error == 0 { 0 } else { -1 }); // log start
        out.put_slice(&[1, 0, 0, 0]); // no record errors, no message; tags of partition, topic
        out.put_i32(0); // throttle time
        out.put_u8(0); // tags
        let bytes = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
        out[start..start + 4].copy_from_slice(&bytes.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use thalweg::base::ids::Offset;
    use thalweg::protocol::{ErrorCode, RequestHeader, produce};
    use thalweg::record::Compression;

    use crate::wire::batch::{BatchShape, BatchTemplate};
    use crate::wire::produce::FrameTemplate;

    fn request(version: i16) -> Vec<u8> {
        let compression = Compression::None;
        let shape =
            BatchShape { records: 3, record_bytes: 50, compression, level: None, entropy: 1.0 };
        let batch = BatchTemplate::build(shape).expect("a batch");
        FrameTemplate::new("orders", "tester", -1, 30_000, version, &batch).frame().to_vec()
    }

    #[test]
    fn the_quick_path_says_what_the_long_way_says() {
        for version in PRODUCE_VERSION_MIN..=PRODUCE_VERSION_MAX {
            let frame = Bytes::from(request(version)).slice(4..);
            let (header, body) = RequestHeader::parse(&frame).expect("a header");
            let long = produce::ProduceRequest::parse(body, version).expect("a request");
            let head = produce::ResponseHead {
                correlation_id: header.correlation_id(),
                throttle_time_ms: 0,
                node_endpoints: &[],
            };
            let quick = OneBatch::read(&frame).expect("one batch");
            let error = ErrorCode::NotLeaderOrFollower;
            for (result, code, base) in [
                (produce::PartitionResult::appended(Offset(77), -1, Offset::ZERO), 0, 77),
                (produce::PartitionResult::failed(error), error.code(), -1),
            ] {
                let expected = produce::encode_response(&long, &head, vec![result]).expect("fits");
                let mut answer = vec![9];
                quick.answer(code, base, &mut answer);
                assert_eq!(answer[1..], expected[..], "version {version}");
            }
            assert_eq!((quick.topic, quick.partition, quick.record_count), ("orders", 0, 3));
        }
    }

    #[test]
    fn what_is_not_one_batch_goes_the_long_way() {
        let frame = &request(PRODUCE_VERSION_MAX)[4..];
        assert!(OneBatch::read(frame).is_some());
        // A head that ends before the batch's records do is enough; one that ends earlier is not.
        let records = 3 * 57;
        assert!(OneBatch::read(&frame[..frame.len() - records - 3]).is_some());
        for cut in 0..frame.len() - records - 3 - 4 {
            assert_eq!(OneBatch::read(&frame[..cut]), None, "{cut} bytes");
        }
        let mut fetch = frame.to_vec();
        fetch[1] = 1;
        assert_eq!(OneBatch::read(&fetch), None);
        let mut old = frame.to_vec();
        old[3] = 3;
        assert_eq!(OneBatch::read(&old), None);
    }
}
