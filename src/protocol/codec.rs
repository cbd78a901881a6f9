//! All messages that are not read by hand, through the codec crate: this is the only file that
//! names it, so that it can be replaced.
//!
//! The crate's structures cannot be built by literal outside it: start from `default()` and assign
//! fields. Encoding refuses a field that is set but does not exist in the version, unless Kafka's
//! schema says that it may be dropped; so set version-bound fields only where they exist.

use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaMessage, KafkaRequest, KafkaResponse, OutboundFrameLimits};
use kafka_wire_core::{ApiVersion, DecodeError, DecodeLimits, Decoder};

use super::reader::Reader;
use super::{ApiKey, ClientHeader, EncodeError, FRAME_PREFIX_BYTES, Malformed};
use crate::base::ids::TopicId;

/// The messages, by Kafka's names: `messages::MetadataRequest`, and their parts in modules as
/// `messages::metadata_request::MetadataRequestTopic`.
pub use kafka_wire as messages;
/// What fields are made of: strings that share a frame's memory, ids, retained tagged fields.
pub use kafka_wire_core::{EncodeError as CodecError, StrBytes, TaggedFields, Uuid};

/// The longest body that is decoded, in bytes. Decoded structures are up to 40 times as large as
/// the shortest bytes that describe them; this keeps the worst request below the memory of the
/// largest frame. Metadata for 100,000 topics fits.
pub const REQUEST_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Strings that are not UTF-8 of one request that are replaced; a request with more is malformed.
/// Each costs two passes over the body.
const REPAIRS_MAX: usize = 8;

/// Takes the place of every byte that is not UTF-8: ASCII's SUBSTITUTE, which no name may contain.
const SUBSTITUTE: u8 = 0x1a;

/// Reads the body of a request.
///
/// Strings that are not UTF-8 do not fail it: their bad bytes become U+001A, so that a bad topic
/// name is answered as one (17), and not with a closed connection. (Kafka puts U+FFFD there.)
/// Bytes behind the body are ignored, as Kafka does: librdkafka 2.12 sends three behind a Metadata
/// request for all topics.
///
/// # Errors
/// [`Malformed`] if it is none, if it is longer than [`REQUEST_BODY_BYTES_MAX`], or holds an array
/// of over 131,072 elements.
pub fn decode<M: KafkaRequest>(body: Bytes, version: i16) -> Result<M, Malformed> {
    let mut body = body;
    for _ in 0..=REPAIRS_MAX {
        match decode_start(body.clone(), version) {
            Ok(message) => return Ok(message),
            Err(DecodeError::InvalidUtf8 { offset, .. }) => {
                body = replace_invalid_string::<M>(&body, version, offset)?;
            }
            Err(error) => return Err(malformed::<M>(&error)),
        }
    }
    Err(Malformed::new("number of strings that are not UTF-8", 0))
}

fn decode_start<M: KafkaRequest>(body: Bytes, version: i16) -> Result<M, DecodeError> {
    let mut decoder = Decoder::new(body, request_limits())?;
    M::decode(&mut decoder, ApiVersion::new(version))
}

/// Reads the body of a response, as a client does.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn decode_response<M: KafkaResponse>(body: Bytes, version: i16) -> Result<M, Malformed> {
    M::decode_from_bytes(body, ApiVersion::new(version), DecodeLimits::default())
        .map_err(|error| malformed::<M>(&error))
}

/// Reads a response with its header (the frame without its length prefix), as a client does, also
/// of APIs that this broker does not serve; returns the correlation id and the message.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn decode_response_frame<M: KafkaResponse>(
    frame: &Bytes,
    version: i16,
) -> Result<(i32, M), Malformed> {
    let mut reader = Reader::new(frame, response_header_version::<M>(version) >= 1);
    let correlation_id = reader.i32("correlation id")?;
    reader.skip_tagged_fields()?;
    Ok((correlation_id, decode_response(frame.slice(reader.at()..), version)?))
}

fn response_header_version<M: KafkaResponse>(version: i16) -> i16 {
    match ApiKey::from_code(M::API_KEY.value()) {
        Some(api) => api.response_header_version(version),
        None => i16::from(M::is_flexible(ApiVersion::new(version))),
    }
}

/// A response, as a frame with its header.
///
/// # Errors
/// [`EncodeError::Codec`] if a field is set that does not exist in `version`, or a string is too
/// long for it.
pub fn encode_response<M: KafkaResponse>(
    correlation_id: i32,
    version: i16,
    message: &M,
) -> Result<Bytes, EncodeError> {
    let header_version = response_header_version::<M>(version);
    let mut frame = BytesMut::with_capacity(256);
    frame.extend_from_slice(&[0; FRAME_PREFIX_BYTES]);
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    if header_version >= 1 {
        frame.extend_from_slice(&[0]);
    }
    message.encode_into(&mut frame, ApiVersion::new(version))?;
    let len = frame.len() - FRAME_PREFIX_BYTES;
    let prefix = i32::try_from(len).map_err(|_| EncodeError::FrameTooLong(len))?;
    if let Some(place) = frame.first_chunk_mut::<FRAME_PREFIX_BYTES>() {
        *place = prefix.to_be_bytes();
    }
    Ok(frame.freeze())
}

/// A request, as a frame with its header: what a client sends.
///
/// # Errors
/// As [`encode_response`].
pub fn encode_request<M: KafkaRequest>(
    header: &ClientHeader<'_>,
    message: &M,
) -> Result<Bytes, EncodeError> {
    let mut frame = BytesMut::new();
    kafka_wire::encode_request(
        &mut frame,
        header.correlation_id,
        header.client_id.map(StrBytes::from),
        message,
        ApiVersion::new(header.version),
        OutboundFrameLimits::new(i32::MAX as usize),
    )?;
    Ok(frame.freeze())
}

impl From<TopicId> for Uuid {
    fn from(id: TopicId) -> Uuid {
        Uuid::from_bytes(id.0)
    }
}

impl From<Uuid> for TopicId {
    fn from(id: Uuid) -> TopicId {
        TopicId(id.to_bytes())
    }
}

fn request_limits() -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.max_frame_bytes = REQUEST_BODY_BYTES_MAX;
    limits.max_string_bytes = i16::MAX as usize;
    limits.max_bytes_bytes = 1024 * 1024;
    limits.max_array_elements = 1 << 17;
    limits.max_tagged_fields = 64;
    limits.max_tag_bytes = 64 * 1024;
    limits.max_total_tag_bytes = 64 * 1024;
    limits
}

/// A copy of `body` in which the string that starts at `offset` is UTF-8 of the same length.
fn replace_invalid_string<M: KafkaMessage>(
    body: &Bytes,
    version: i16,
    offset: usize,
) -> Result<Bytes, Malformed> {
    let len = string_len_at::<M>(body, version, offset)?;
    let mut copy = body.to_vec();
    let Some(string) = copy.get_mut(offset..offset.saturating_add(len)) else {
        return Err(Malformed::new(M::NAME, offset));
    };
    let mut repaired = Vec::with_capacity(len);
    for chunk in string.utf8_chunks() {
        repaired.extend_from_slice(chunk.valid().as_bytes());
        repaired.resize(repaired.len() + chunk.invalid().len(), SUBSTITUTE);
    }
    string.copy_from_slice(&repaired);
    Ok(Bytes::from(copy))
}

/// The length of the string that starts at `offset`. The crate does not tell it with its error
/// about the content; but cut off before the string, the same body fails for want of just that
/// many bytes.
fn string_len_at<M: KafkaMessage>(
    body: &Bytes,
    version: i16,
    offset: usize,
) -> Result<usize, Malformed> {
    let Some(before) = body.get(..offset).map(|before| body.slice_ref(before)) else {
        return Err(Malformed::new(M::NAME, offset));
    };
    match M::decode_from_bytes(before, ApiVersion::new(version), request_limits()) {
        Err(DecodeError::UnexpectedEnd { offset: at, needed, remaining: 0 }) if at == offset => {
            Ok(needed)
        }
        _ => Err(Malformed::new(M::NAME, offset)),
    }
}

fn malformed<M: KafkaMessage>(error: &DecodeError) -> Malformed {
    let at = match error {
        DecodeError::UnexpectedEnd { offset, .. }
        | DecodeError::InvalidBoolean { offset, .. }
        | DecodeError::NegativeLength { offset, .. }
        | DecodeError::NullNotAllowed { offset, .. }
        | DecodeError::LimitExceeded { offset, .. }
        | DecodeError::CountExceedsFrame { offset, .. }
        | DecodeError::InvalidUtf8 { offset, .. }
        | DecodeError::MalformedVarint { offset }
        | DecodeError::TaggedFieldOrder { offset, .. }
        | DecodeError::TaggedFieldSize { offset, .. }
        | DecodeError::LengthOverflow { offset, .. } => *offset,
        _ => 0,
    };
    Malformed::new(M::NAME, at)
}
