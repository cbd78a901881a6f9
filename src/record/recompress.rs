//! Another codec for the same records: topics with a `compression.type` of their own.

use std::borrow::Cow;

use super::batch::RecordBatch;
use super::codec::compress;
use super::compression::Compression;
use super::cursor::plain_payload;
use super::error::BatchError;

impl RecordBatch {
    /// The same records under another codec; the same batch (shared bytes) if it has it already.
    /// The plain records may take at most `limit` bytes while that is done. Records are not
    /// walked: [`RecordBatch::validate_records`] does that, and Kafka does both.
    ///
    /// # Errors
    /// `Corrupt` or `TooLarge` from the old codec.
    pub fn recompress(
        &self,
        compression: Compression,
        limit: usize,
    ) -> Result<RecordBatch, BatchError> {
        if self.compression() == compression {
            return Ok(self.clone());
        }
        let plain = plain_payload(self.as_stored(), limit)?;
        let packed = match compression {
            Compression::None => plain,
            packing => Cow::Owned(compress(packing, &plain)?),
        };
        let mut header = *self.header();
        header.set_compression(compression);
        RecordBatch::seal(header, &packed)
    }
}
