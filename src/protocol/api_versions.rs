//! ApiVersions (key 18): the first exchange of a connection, by hand, because of its odd rules
//! (KIP-511, KIP-584, KAFKA-17011). They follow Apache Kafka's `RequestContext`,
//! `ApiVersionsRequest` and `ApiVersionsResponse`.

use bytes::Bytes;

use super::api_key::{AdvertisedApi, advertised};
use super::header::write_response_header;
use super::reader::Reader;
use super::writer::Writer;
use super::{ApiKey, EncodeError, ErrorCode, Malformed, RequestHeader, WireStr};

/// A feature that this broker can run (KIP-584).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Kafka's name of it, as in `transaction.version`.
    pub name: &'static str,
    /// Lowest level, inclusive.
    pub min: i16,
    /// Highest level, inclusive.
    pub max: i16,
}

/// The features that this broker can run, and the levels that the cluster has settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features<'a> {
    /// What this broker can run.
    pub supported: &'a [SupportedFeature],
    /// Number of the change that made `finalized` what it is. Clients ignore `finalized` where
    /// this is negative.
    pub finalized_epoch: i64,
    /// Names and levels settled on. Level 0 means: not in use.
    pub finalized: &'a [(&'a str, i16)],
}

/// A request for the table of versions, as it is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsRequest {
    answer: Answer,
    software: Option<(Bytes, Bytes)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The table, in this version.
    Table(i16),
    /// The client's name for itself is not one (42), in this version.
    InvalidRequest(i16),
    /// We do not know the client's version. The answer is version 0, whatever that was: a client
    /// tries its own version first and falls back to 0 only if that fails to parse.
    UnsupportedVersion,
}

impl ApiVersionsRequest {
    /// Reads the body of a request with this header. The body of a version that is not known is
    /// not looked at.
    ///
    /// # Errors
    /// [`Malformed`] if the body is not one of a known version.
    pub fn parse(header: &RequestHeader, body: &Bytes) -> Result<ApiVersionsRequest, Malformed> {
        let version = header.version();
        if !ApiKey::ApiVersions.accepts(version) {
            return Ok(ApiVersionsRequest { answer: Answer::UnsupportedVersion, software: None });
        }
        let flexible = ApiKey::ApiVersions.is_flexible(version);
        let mut reader = Reader::new(body, flexible);
        let mut software = None;
        let mut valid = true;
        if version >= 3 {
            let name = reader.string("client software name")?;
            let release = reader.string("client software version")?;
            valid = is_software_word(name) && is_software_word(release);
            software = Some((body.slice_ref(name), body.slice_ref(release)));
        }
        reader.skip_tagged_fields()?;
        let answer = if valid { Answer::Table(version) } else { Answer::InvalidRequest(version) };
        Ok(ApiVersionsRequest { answer, software })
    }

    /// The client's software and its version, as it says (v3 and later): for logs and metrics,
    /// once the request is known to be valid.
    #[must_use]
    pub fn software(&self) -> Option<(WireStr<'_>, WireStr<'_>)> {
        let (name, release) = self.software.as_ref()?;
        Some((WireStr::new(name), WireStr::new(release)))
    }

    /// The error that the answer will carry.
    #[must_use]
    pub const fn error(&self) -> ErrorCode {
        match self.answer {
            Answer::Table(_) => ErrorCode::None,
            Answer::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Answer::UnsupportedVersion => ErrorCode::UnsupportedVersion,
        }
    }

    /// The whole answer, as a frame.
    ///
    /// # Errors
    /// [`EncodeError`] only if the features do not fit into a frame.
    pub fn encode_response(
        &self,
        correlation_id: i32,
        throttle_time_ms: i32,
        features: &Features<'_>,
    ) -> Result<Bytes, EncodeError> {
        let version = match self.answer {
            Answer::Table(version) | Answer::InvalidRequest(version) => version,
            Answer::UnsupportedVersion => 0,
        };
        let mut writer = write_response_header(ApiKey::ApiVersions, version, correlation_id, 512);
        writer.i16(self.error().code());
        match self.answer {
            Answer::Table(_) => write_apis(&mut writer, advertised()),
            Answer::InvalidRequest(_) => writer.array_len(0),
            // One entry, so that the client asks again in a version that we know (KIP-511).
            Answer::UnsupportedVersion => {
                write_apis(
                    &mut writer,
                    advertised().filter(|api| api.key() == ApiKey::ApiVersions),
                );
            }
        }
        if version >= 1 {
            writer.i32(throttle_time_ms);
        }
        if let Answer::Table(_) = self.answer {
            write_features(&mut writer, version, features);
        } else {
            writer.no_tagged_fields();
        }
        writer.finish()
    }
}

fn write_apis(writer: &mut Writer, apis: impl Iterator<Item = AdvertisedApi> + Clone) {
    writer.array_len(apis.clone().count());
    for api in apis {
        writer.i16(api.key().code());
        writer.i16(api.min());
        writer.i16(api.max());
        writer.no_tagged_fields();
    }
}

/// The tagged fields 0 to 2 of version 3 and later; absent where they hold their defaults, as
/// Kafka writes them.
fn write_features(writer: &mut Writer, version: i16, features: &Features<'_>) {
    if version < 3 {
        return;
    }
    // Clients of version 3 fail on a lowest level of 0 (KAFKA-17011).
    let supported = || features.supported.iter().filter(|f| version >= 4 || f.min > 0);
    let finalized = || features.finalized.iter().filter(|(_, level)| *level != 0);
    let (supported_count, finalized_count) = (supported().count(), finalized().count());
    let has_epoch = features.finalized_epoch != -1;
    let fields = [supported_count > 0, has_epoch, finalized_count > 0];
    writer.tagged_field_count(fields.iter().map(|present| u32::from(*present)).sum());
    if supported_count > 0 {
        writer.tagged_field(0, |field| {
            field.array_len(supported_count);
            for feature in supported() {
                field.string(feature.name.as_bytes());
                field.i16(feature.min);
                field.i16(feature.max);
                field.no_tagged_fields();
            }
        });
    }
    if has_epoch {
        writer.tagged_field(1, |field| field.i64(features.finalized_epoch));
    }
    if finalized_count > 0 {
        writer.tagged_field(2, |field| {
            field.array_len(finalized_count);
            for (name, level) in finalized() {
                field.string(name.as_bytes());
                field.i16(*level);
                field.i16(*level);
                field.no_tagged_fields();
            }
        });
    }
}

/// KIP-511: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_word(bytes: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiVersionsResponse;
    use kafka_protocol::protocol::Decodable;

    const FEATURES: Features<'static> = Features {
        supported: &[
            SupportedFeature { name: "transaction.version", min: 0, max: 2 },
            SupportedFeature { name: "metadata.version", min: 7, max: 29 },
        ],
        finalized_epoch: 3,
        finalized: &[("metadata.version", 29), ("transaction.version", 0)],
    };

    fn request(version: i16, body: &[u8]) -> Result<ApiVersionsRequest, Malformed> {
        let mut frame = 18_i16.to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 9, 0xff, 0xff]);
        if version >= 3 {
            frame.push(0);
        }
        frame.extend(body);
        let (header, body) = RequestHeader::parse(&Bytes::from(frame)).unwrap();
        ApiVersionsRequest::parse(&header, &body)
    }

    fn software(name: &str, release: &str) -> Vec<u8> {
        let mut body = Vec::new();
        for word in [name, release] {
            body.push(word.len() as u8 + 1);
            body.extend(word.as_bytes());
        }
        body.push(0);
        body
    }

    fn decode(version: i16, answer: &Bytes) -> ApiVersionsResponse {
        let mut body = answer.slice(8..);
        let decoded = ApiVersionsResponse::decode(&mut body, version).unwrap();
        assert!(body.is_empty());
        decoded
    }

    #[test]
    fn case_15_an_unknown_version_is_answered_in_exact_v0_with_35_and_our_range() {
        for (version, body) in [(5, &b"\0whatever"[..]), (i16::MAX, &[]), (-1, &[])] {
            let request = request(version, body).unwrap();
            let answer = request.encode_response(9, 77, &FEATURES).unwrap();
            let expected = [
                0, 0, 0, 16, // length
                0, 0, 0, 9, // correlation id
                0, 35, // UNSUPPORTED_VERSION
                0, 0, 0, 1, // one entry, counted in 32 bits
                0, 18, 0, 0, 0, 4,
            ];
            // Kafka 4.3's own `RequestContext` writes the same bytes for these three versions.
            assert_eq!(&answer[..], expected, "version {version}");
        }
    }

    #[test]
    fn case_17_a_bad_software_name_is_answered_with_42() {
        for (name, release) in
            [("", "1"), ("a", ""), ("a b", "1"), ("-a", "1"), ("a-", "1"), ("a", "1."), ("é", "1")]
        {
            for version in [3, 4] {
                let request = request(version, &software(name, release)).unwrap();
                assert_eq!(request.error(), ErrorCode::InvalidRequest, "{name:?} {release:?}");
                let answer = request.encode_response(9, 0, &FEATURES).unwrap();
                let decoded = decode(version, &answer);
                assert_eq!(decoded.error_code, 42);
                assert!(decoded.api_keys.is_empty());
            }
        }
        let request = request(4, &software("apache-kafka-java", "4.3.0")).unwrap();
        assert_eq!(request.error(), ErrorCode::None);
        assert_eq!(request.software().unwrap().0.as_str(), Some("apache-kafka-java"));
    }

    #[test]
    fn bodies_that_are_none_are_malformed() {
        assert!(request(3, &[]).is_err());
        assert!(request(3, &[0, 0, 0]).is_err(), "null names");
    }

    #[test]
    fn bytes_behind_a_body_are_ignored() {
        assert!(request(3, &[&software("a", "1")[..], &[9]].concat()).is_ok());
        assert!(request(0, &[9]).is_ok());
    }

    #[test]
    fn every_version_lists_the_table_and_reads_back_with_an_independent_codec() {
        for version in 0..=4 {
            let body = if version >= 3 { software("a", "1") } else { Vec::new() };
            let answer =
                request(version, &body).unwrap().encode_response(9, 77, &FEATURES).unwrap();
            assert_eq!(
                answer.len() - 4,
                i32::from_be_bytes(answer[..4].try_into().unwrap()) as usize
            );
            let decoded = decode(version, &answer);
            assert_eq!(decoded.error_code, 0);
            assert_eq!(decoded.throttle_time_ms, if version >= 1 { 77 } else { 0 });
            let listed: Vec<_> = decoded
                .api_keys
                .iter()
                .map(|api| (api.api_key, api.min_version, api.max_version))
                .collect();
            let expected: Vec<_> =
                advertised().map(|api| (api.key().code(), api.min(), api.max())).collect();
            assert_eq!(listed, expected);
            let names: Vec<_> = decoded
                .supported_features
                .iter()
                .map(|f| (f.name.as_str(), f.min_version))
                .collect();
            match version {
                // KAFKA-17011: v3 hides features that start at 0.
                3 => assert_eq!(names, [("metadata.version", 7)]),
                4 => assert_eq!(names, [("transaction.version", 0), ("metadata.version", 7)]),
                _ => assert!(names.is_empty()),
            }
            if version >= 3 {
                assert_eq!(decoded.finalized_features_epoch, 3);
                assert_eq!(decoded.finalized_features.len(), 1);
                assert_eq!(decoded.finalized_features[0].max_version_level, 29);
            }
        }
    }
}
