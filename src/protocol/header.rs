//! What stands before the body of a request and of a response.

use std::borrow::Cow;

use bytes::Bytes;
use zerocopy::big_endian::{I16, I32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::reader::Reader;
use super::writer::Writer;
use super::{ApiKey, Malformed};

/// The part of a request header that all versions share.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FixedHeader {
    api_key: I16,
    api_version: I16,
    correlation_id: I32,
}

/// A request's header, versions 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: Option<ClientId>,
}

/// The name that a client gives itself. It holds the frame's memory: copy it to keep it. It may be
/// 32 KiB long and not be UTF-8, so it is no label of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientId(Bytes);

impl ClientId {
    /// The text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn to_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// Why a frame is no request that can be answered. The connection closes; the text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a header.
    #[error("request header: {0}")]
    Malformed(#[from] Malformed),
    /// No API of ours: unknown to Kafka, not built, or between brokers.
    #[error("unknown api key {0}")]
    UnknownApi(i16),
    /// An API of ours in a version that is not accepted. Never ApiVersions, which answers every
    /// version.
    #[error("{api} version {version} is not accepted")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version asked for.
        version: i16,
    },
}

impl RequestHeader {
    /// Reads the header of `frame` (without its length prefix); returns it with the body.
    ///
    /// # Errors
    /// [`HeaderError`]: close the connection.
    pub fn parse(frame: &Bytes) -> Result<(RequestHeader, Bytes), HeaderError> {
        let mut reader = Reader::new(frame, false);
        let fixed: &FixedHeader = reader.fixed("request header")?;
        let api = ApiKey::from_code(fixed.api_key.get())
            .ok_or(HeaderError::UnknownApi(fixed.api_key.get()))?;
        let version = fixed.api_version.get();
        if !api.accepts(version) && api != ApiKey::ApiVersions {
            return Err(HeaderError::UnsupportedVersion { api, version });
        }
        // Not compact in any version, so that old brokers can read the header of a new client.
        let client_id = reader.nullable_string("client id")?;
        let flexible = api.is_flexible(version);
        let mut tags = reader.with_flexible(flexible);
        tags.skip_tagged_fields()?;
        let header = RequestHeader {
            api,
            version,
            correlation_id: fixed.correlation_id.get(),
            client_id: client_id.map(|id| ClientId(frame.slice_ref(id))),
        };
        Ok((header, frame.slice(tags.at()..)))
    }

    /// The API asked for.
    #[must_use]
    pub const fn api(&self) -> ApiKey {
        self.api
    }

    /// The version asked for: accepted, unless the API is ApiVersions.
    #[must_use]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// The number that the answer must carry; any value.
    #[must_use]
    pub const fn correlation_id(&self) -> i32 {
        self.correlation_id
    }

    /// The name that the client gives itself; null is legal.
    #[must_use]
    pub const fn client_id(&self) -> Option<&ClientId> {
        self.client_id.as_ref()
    }
}

/// What a client puts before a request.
#[derive(Clone, Copy, Debug)]
pub struct ClientHeader<'a> {
    /// The version to speak.
    pub version: i16,
    /// The number that the answer will carry.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<&'a str>,
}

impl ClientHeader<'_> {
    /// Starts a request's frame; the body follows.
    pub(super) fn write(&self, api: ApiKey, bytes_expected: usize) -> Writer {
        let client_id = self.client_id.map(str::as_bytes);
        let header_bytes = 16 + client_id.map_or(0, <[u8]>::len);
        let mut writer =
            Writer::frame(api.is_flexible(self.version), header_bytes + bytes_expected);
        writer.i16(api.code());
        writer.i16(self.version);
        writer.i32(self.correlation_id);
        writer.legacy_nullable_string(client_id);
        writer.no_tagged_fields();
        writer
    }
}

/// Starts a response's frame; the body, in `version`, follows.
pub(super) fn write_response_header(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    bytes_expected: usize,
) -> Writer {
    let mut writer = Writer::frame(api.is_flexible(version), 8 + bytes_expected);
    writer.i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        writer.no_tagged_fields();
    }
    writer
}

/// Reads the header of a response to `api` in `version` (the frame without its length prefix), as
/// a client does; returns the correlation id and the body.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn parse_response_header(
    frame: &Bytes,
    api: ApiKey,
    version: i16,
) -> Result<(i32, Bytes), Malformed> {
    let mut reader = Reader::new(frame, api.response_header_version(version) >= 1);
    let correlation_id = reader.i32("correlation id")?;
    reader.skip_tagged_fields()?;
    Ok((correlation_id, frame.slice(reader.at()..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(api: i16, version: i16, rest: &[u8]) -> Result<(RequestHeader, Bytes), HeaderError> {
        let mut frame = Vec::new();
        frame.extend(api.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend((-7_i32).to_be_bytes());
        frame.extend(rest);
        RequestHeader::parse(&Bytes::from(frame))
    }

    #[test]
    fn cases_13_to_16_unknown_apis_and_versions_are_refused_but_api_versions_never() {
        assert_eq!(header(9999, 0, &[]), Err(HeaderError::UnknownApi(9999)));
        assert_eq!(header(-1, 0, &[]), Err(HeaderError::UnknownApi(-1)));
        for version in [2, 14, i16::MAX, -1] {
            let error = HeaderError::UnsupportedVersion { api: ApiKey::Produce, version };
            assert_eq!(header(0, version, &[0xff, 0xff, 0]), Err(error));
        }
        assert_eq!(header(18, i16::MAX, &[0xff, 0xff, 0]).unwrap().0.version(), i16::MAX);
        assert_eq!(header(18, -1, &[0xff, 0xff]).unwrap().0.version(), -1);
        for between_brokers in [4, 27, 52, 56, 58, 63] {
            let error = HeaderError::UnknownApi(between_brokers);
            assert_eq!(header(between_brokers, 0, &[]), Err(error), "case 25");
        }
    }

    #[test]
    fn case_18_a_null_or_long_client_id_is_accepted_and_one_beyond_the_frame_is_not() {
        let (parsed, body) = header(3, 1, &[0xff, 0xff, 9]).unwrap();
        assert_eq!((parsed.client_id(), &body[..]), (None, &[9][..]));
        assert!(header(3, 1, &[0, 5, b'a']).is_err());
        let mut long = 32767_i16.to_be_bytes().to_vec();
        long.resize(2 + 32767, 0xfe);
        let (parsed, body) = header(3, 1, &long).unwrap();
        assert_eq!(parsed.client_id().unwrap().to_lossy().chars().count(), 32767);
        assert!(body.is_empty());
    }

    #[test]
    fn cases_19_to_22_tagged_fields_of_the_header_are_checked_and_skipped() {
        let flexible = |tags: &[u8]| header(3, 9, &[&[0xff, 0xff], tags].concat());
        assert_eq!(&flexible(&[1, 5, 2, 0, 0, 7]).unwrap().1[..], [7]);
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(), "19");
        assert!(flexible(&[1, 0, 9, 0]).is_err(), "20");
        assert!(flexible(&[2, 1, 0, 1, 0]).is_err(), "21: twice");
        assert!(flexible(&[2, 1, 0, 0, 0]).is_err(), "21: descending");
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err(), "22: overflow");
        assert!(flexible(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]).is_err(), "22: six bytes");
        assert!(flexible(&[]).is_err());
    }

    #[test]
    fn case_24_any_correlation_id_is_kept() {
        assert_eq!(header(3, 0, &[0xff, 0xff]).unwrap().0.correlation_id(), -7);
    }

    #[test]
    fn a_header_that_a_client_writes_is_read_back() {
        for version in 0..=13 {
            let client = ClientHeader { version, correlation_id: 42, client_id: Some("bench") };
            let mut writer = client.write(ApiKey::Metadata, 0);
            writer.i8(5);
            let frame = writer.finish().unwrap().slice(4..);
            let (parsed, body) = RequestHeader::parse(&frame).unwrap();
            assert_eq!((parsed.api(), parsed.version()), (ApiKey::Metadata, version));
            assert_eq!(parsed.correlation_id(), 42);
            assert_eq!(parsed.client_id().unwrap().to_lossy(), "bench");
            assert_eq!(&body[..], [5]);
        }
    }
}
