//! The table of what this broker speaks: every API, the versions it accepts, what it advertises.
//!
//! The ranges say what the handlers do, not what a codec could read.

use std::fmt;

/// An API that this broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
#[allow(missing_docs, reason = "Kafka's own names")]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    FindCoordinator = 10,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeConfigs = 32,
    CreatePartitions = 37,
    IncrementalAlterConfigs = 44,
    DescribeCluster = 60,
    DescribeTopicPartitions = 75,
}

/// One line of the table. Versions are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Api {
    key: ApiKey,
    min: i16,
    max: i16,
    /// First version of KIP-482's compact encodings and tagged fields.
    flexible_from: i16,
    advertised: Advertised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advertised {
    /// With the versions that are accepted.
    AsAccepted,
    /// From this version on, although older ones than `min` close the connection.
    From(i16),
    /// Not at all: clients should behave as if the feature was absent. Who asks still gets an
    /// answer.
    No,
}

const fn api(key: ApiKey, min: i16, max: i16, flexible_from: i16) -> Api {
    Api { key, min, max, flexible_from, advertised: Advertised::AsAccepted }
}

/// In ascending order of keys. Ranges: Kafka 4.0 and later (KIP-896), less what is not built:
/// Fetch 18 is for replicas, ListOffsets 11 for tiered storage, InitProducerId 6 for two-phase
/// commit, ApiVersions 5 comes with Kafka 4.4.
const TABLE: &[Api] = &[
    // librdkafka before 2.0 takes a broker whose Produce starts above 0 for one that it cannot
    // talk to (KAFKA-18659); Kafka, too, advertises 0 and accepts 3.
    Api { advertised: Advertised::From(0), ..api(ApiKey::Produce, 3, 13, 9) },
    api(ApiKey::Fetch, 4, 17, 12),
    api(ApiKey::ListOffsets, 1, 10, 6),
    api(ApiKey::Metadata, 0, 13, 9),
    // Groups and transactions are not built, so no client may find a coordinator. Those that ask
    // without looking at what is advertised get a final error instead of a closed connection,
    // which they would take for a network fault and retry.
    Api { advertised: Advertised::No, ..api(ApiKey::FindCoordinator, 0, 6, 3) },
    api(ApiKey::ApiVersions, 0, 4, 3),
    api(ApiKey::CreateTopics, 2, 7, 5),
    api(ApiKey::DeleteTopics, 1, 6, 4),
    api(ApiKey::DeleteRecords, 0, 2, 2),
    api(ApiKey::InitProducerId, 0, 5, 2),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4, 4),
    api(ApiKey::DescribeConfigs, 1, 4, 4),
    api(ApiKey::CreatePartitions, 0, 3, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1, 1),
    api(ApiKey::DescribeCluster, 0, 2, 0),
    api(ApiKey::DescribeTopicPartitions, 0, 0, 0),
];

/// What ApiVersions says of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertisedApi {
    key: ApiKey,
    min: i16,
    max: i16,
}

impl AdvertisedApi {
    /// The API.
    #[must_use]
    pub const fn key(&self) -> ApiKey {
        self.key
    }

    /// Lowest version, inclusive.
    #[must_use]
    pub const fn min(&self) -> i16 {
        self.min
    }

    /// Highest version, inclusive.
    #[must_use]
    pub const fn max(&self) -> i16 {
        self.max
    }
}

/// What ApiVersions lists, in ascending order of keys.
pub fn advertised() -> impl Iterator<Item = AdvertisedApi> + Clone {
    TABLE.iter().filter_map(|api| {
        let min = match api.advertised {
            Advertised::AsAccepted => api.min,
            Advertised::From(min) => min,
            Advertised::No => return None,
        };
        Some(AdvertisedApi { key: api.key, min, max: api.max })
    })
}

impl ApiKey {
    /// The API with this number, if this broker answers it.
    #[must_use]
    pub fn from_code(code: i16) -> Option<ApiKey> {
        TABLE.iter().map(|api| api.key).find(|key| key.code() == code)
    }

    /// Every API that this broker answers, in ascending order.
    pub fn all() -> impl Iterator<Item = ApiKey> + Clone {
        TABLE.iter().map(|api| api.key)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The versions that are accepted, inclusive.
    #[must_use]
    pub fn versions(self) -> std::ops::RangeInclusive<i16> {
        let api = self.api();
        api.min..=api.max
    }

    /// Whether `version` is accepted.
    #[must_use]
    pub fn accepts(self, version: i16) -> bool {
        self.versions().contains(&version)
    }

    /// Whether `version` uses KIP-482's compact encodings and tagged fields.
    #[must_use]
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.api().flexible_from
    }

    /// Version of the request header: 2 has tagged fields.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the response header: 1 has tagged fields. ApiVersions always answers with 0, so
    /// that a client can read the answer to a version that the broker does not know (KIP-511).
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::ApiVersions && self.is_flexible(version))
    }

    fn api(self) -> Api {
        // A test shows that every key has its line; the fallback accepts nothing.
        let nothing = Api { advertised: Advertised::No, ..api(self, i16::MAX, i16::MIN, 0) };
        TABLE.iter().find(|api| api.key == self).copied().unwrap_or(nothing)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiKey as Oracle;

    #[test]
    fn the_table_is_that_of_issue_3_and_protocol_md() {
        let listed: Vec<_> = advertised().map(|api| (api.key.code(), api.min, api.max)).collect();
        assert_eq!(
            listed,
            [
                (0, 0, 13),
                (1, 4, 17),
                (2, 1, 10),
                (3, 0, 13),
                (18, 0, 4),
                (19, 2, 7),
                (20, 1, 6),
                (21, 0, 2),
                (22, 0, 5),
                (23, 2, 4),
                (32, 1, 4),
                (37, 0, 3),
                (44, 0, 1),
                (60, 0, 2),
                (75, 0, 0),
            ]
        );
        assert!(!ApiKey::Produce.accepts(2) && ApiKey::Produce.accepts(3));
        assert!(ApiKey::FindCoordinator.accepts(0) && ApiKey::FindCoordinator.accepts(6));
    }

    #[test]
    fn every_key_has_one_line_and_headers_agree_with_an_independent_codec() {
        let codes: Vec<_> = ApiKey::all().map(ApiKey::code).collect();
        assert!(codes.is_sorted_by(|a, b| a < b));
        for key in ApiKey::all() {
            assert_eq!(ApiKey::from_code(key.code()), Some(key));
            assert!(!key.versions().is_empty());
            let oracle = Oracle::try_from(key.code()).unwrap();
            for version in key.versions() {
                assert_eq!(
                    key.request_header_version(version),
                    oracle.request_header_version(version),
                    "{key} {version}"
                );
                assert_eq!(
                    key.response_header_version(version),
                    oracle.response_header_version(version),
                    "{key} {version}"
                );
            }
        }
        assert_eq!(ApiKey::from_code(9999), None);
        assert_eq!(ApiKey::from_code(-1), None);
    }
}
