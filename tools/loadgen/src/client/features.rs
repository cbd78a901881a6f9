//! What a broker offers, what a run needs of it, and what is missing, in one sentence.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;
use thalweg::protocol::codec::messages::ApiVersionsResponse;

/// An API that this tool uses: its key, name, and the versions that it can speak.
#[derive(Debug)]
pub struct Api {
    key: i16,
    name: &'static str,
    min: i16,
    max: i16,
}

const fn api(key: i16, name: &'static str, min: i16, max: i16) -> Api {
    Api { key, name, min, max }
}

/// From version 13 on topics go by id.
pub const PRODUCE: Api = api(0, "Produce", 9, 12);
/// The first flexible one, the last with topic names.
pub const FETCH: Api = api(1, "Fetch", 12, 12);
/// Offsets to start from.
pub const LIST_OFFSETS: Api = api(2, "ListOffsets", 1, 7);
/// Who leads what.
pub const METADATA: Api = api(3, "Metadata", 4, 12);
/// Version 0 knows groups only.
pub const FIND_COORDINATOR: Api = api(10, "FindCoordinator", 1, 6);
/// A group's coordinator, below the versions that ask for several.
pub const GROUP_COORDINATOR: Api = api(10, "FindCoordinator", 1, 2);
/// Version 2 is the first of a group that waits for its first members.
pub const JOIN_GROUP: Api = api(11, "JoinGroup", 2, 5);
/// A member is alive; and learns of rebalances.
pub const HEARTBEAT: Api = api(12, "Heartbeat", 0, 3);
/// From version 3 on members leave in lists.
pub const LEAVE_GROUP: Api = api(13, "LeaveGroup", 0, 2);
/// Assignments.
pub const SYNC_GROUP: Api = api(14, "SyncGroup", 0, 3);
/// Version 0 has no SaslAuthenticate after it.
pub const SASL_HANDSHAKE: Api = api(17, "SaslHandshake", 1, 1);
/// The run's own topic.
pub const CREATE_TOPICS: Api = api(19, "CreateTopics", 2, 7);
/// And its end.
pub const DELETE_TOPICS: Api = api(20, "DeleteTopics", 1, 5);
/// Version 6 adds two-phase commit.
pub const INIT_PRODUCER_ID: Api = api(22, "InitProducerId", 0, 5);
/// From version 4 on it is for brokers.
pub const ADD_PARTITIONS_TO_TXN: Api = api(24, "AddPartitionsToTxn", 0, 3);
/// Version 5 gives the next epoch (KIP-890).
pub const END_TXN: Api = api(26, "EndTxn", 0, 5);
/// What a topic's acknowledgements mean.
pub const DESCRIBE_CONFIGS: Api = api(32, "DescribeConfigs", 1, 4);
/// From version 1 on it tells for how long the proof holds.
pub const SASL_AUTHENTICATE: Api = api(36, "SaslAuthenticate", 0, 2);

/// Without these there are no consumer groups.
const GROUP_APIS: [&Api; 5] =
    [&GROUP_COORDINATOR, &JOIN_GROUP, &SYNC_GROUP, &HEARTBEAT, &LEAVE_GROUP];

/// The last versions before a transaction's partitions are added by Produce itself (KIP-890).
const PRODUCE_BEFORE_IMPLICIT: i16 = 11;
const END_TXN_BEFORE_EPOCHS: i16 = 4;
const IMPLICIT_FROM: i16 = 2;

/// What a broker says in ApiVersions.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    apis: BTreeMap<i16, (i16, i16)>,
    /// Levels of the cluster's features.
    features: BTreeMap<String, i16>,
}

/// Versions of the requests of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TxnVersions {
    /// FindCoordinator.
    pub find_coordinator: i16,
    /// InitProducerId.
    pub init_producer_id: i16,
    /// AddPartitionsToTxn; none where Produce adds them (KIP-890).
    pub add_partitions: Option<i16>,
    /// EndTxn.
    pub end_txn: i16,
    /// Produce.
    pub produce: i16,
}

/// The features that a run may need of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A topic of its own.
    pub topic: bool,
    /// Producers.
    pub produce: bool,
    /// Consumers.
    pub fetch: bool,
    /// Idempotent producers.
    pub idempotence: bool,
    /// Transactional producers.
    pub transactions: bool,
    /// A consumer group.
    pub groups: bool,
}

impl From<&ApiVersionsResponse> for Offer {
    fn from(answer: &ApiVersionsResponse) -> Offer {
        let apis = answer.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version)));
        let features = answer.finalized_features.iter();
        let features = features.map(|it| (it.name.as_str().to_owned(), it.max_version_level));
        Offer { apis: apis.collect(), features: features.collect() }
    }
}

impl Offer {
    /// The cluster's feature levels, like `metadata.version`; none before Kafka 2.7.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The best version that both sides speak.
    ///
    /// # Errors
    /// The API's name, with its versions where the broker has others only.
    pub fn version(&self, api: &Api) -> Result<i16, String> {
        let &(min, max) = self.apis.get(&api.key).ok_or_else(|| api.name.to_owned())?;
        let best = api.max.min(max);
        if best >= api.min.max(min) {
            return Ok(best);
        }
        let Api { name, min: ours, max: ours_max, .. } = api;
        Err(format!("{name} in version {ours} to {ours_max} (it offers {min} to {max})"))
    }

    /// The versions that a transaction is spoken in.
    ///
    /// # Errors
    /// The APIs that are missing.
    pub fn transactions(&self) -> Result<TxnVersions, Vec<String>> {
        let mut missing = Vec::new();
        let mut get = |api: &Api| self.version(api).map_err(|name| missing.push(name)).unwrap_or(0);
        let (produce, end_txn) = (get(&PRODUCE), get(&END_TXN));
        let level = self.features.get("transaction.version").copied().unwrap_or(0);
        let implicit = level >= IMPLICIT_FROM
            && produce > PRODUCE_BEFORE_IMPLICIT
            && end_txn > END_TXN_BEFORE_EPOCHS;
        let versions = TxnVersions {
            find_coordinator: get(&FIND_COORDINATOR),
            init_producer_id: get(&INIT_PRODUCER_ID),
            add_partitions: (!implicit).then(|| get(&ADD_PARTITIONS_TO_TXN)),
            end_txn: if implicit { end_txn } else { end_txn.min(END_TXN_BEFORE_EPOCHS) },
            produce: if implicit { produce } else { produce.min(PRODUCE_BEFORE_IMPLICIT) },
        };
        if missing.is_empty() { Ok(versions) } else { Err(missing) }
    }

    /// What is missing for `needs`: a sentence for each feature.
    #[must_use]
    pub fn missing(&self, addr: SocketAddr, needs: &Needs) -> Option<String> {
        let lacks = |apis: &[&Api]| -> Vec<String> {
            apis.iter().filter_map(|api| self.version(api).err()).collect()
        };
        let transactions =
            if needs.transactions { self.transactions().err() } else { None }.unwrap_or_default();
        let features = [
            ("a topic for the run", needs.topic, lacks(&[&CREATE_TOPICS, &DELETE_TOPICS])),
            ("partitions and offsets", true, lacks(&[&METADATA, &LIST_OFFSETS])),
            ("producers", needs.produce, lacks(&[&PRODUCE])),
            ("consumers", needs.fetch, lacks(&[&FETCH])),
            ("idempotent producers", needs.idempotence, lacks(&[&INIT_PRODUCER_ID])),
            ("transactions", needs.transactions, transactions),
            ("rebalances need consumer groups", needs.groups, lacks(&GROUP_APIS)),
        ];
        let sentences: Vec<String> = features
            .into_iter()
            .filter(|(_, needed, missing)| *needed && !missing.is_empty())
            .map(|(name, _, missing)| {
                format!("{name}: {addr} does not offer {}", missing.join(", "))
            })
            .collect();
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Needs = Needs {
        topic: true,
        produce: true,
        fetch: true,
        idempotence: true,
        transactions: true,
        groups: true,
    };

    fn offer(apis: &[(i16, i16, i16)], transaction_level: i16) -> Offer {
        let apis = apis.iter().map(|&(key, min, max)| (key, (min, max))).collect();
        let features = BTreeMap::from([("transaction.version".to_owned(), transaction_level)]);
        Offer { apis, features }
    }

    fn kafka() -> Vec<(i16, i16, i16)> {
        let keys = [0, 1, 2, 3, 10, 11, 12, 13, 14, 17, 19, 20, 22, 24, 26, 32, 36];
        keys.into_iter().map(|key| (key, 0, 20)).collect()
    }

    fn addr() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 9092))
    }

    #[test]
    fn what_is_missing_is_named_feature_by_feature() {
        assert_eq!(offer(&kafka(), 0).missing(addr(), &ALL), None);
        let few: Vec<_> = kafka().into_iter().filter(|it| ![24, 10].contains(&it.0)).collect();
        assert_eq!(
            offer(&few, 0).missing(addr(), &ALL).as_deref(),
            Some(
                "transactions: 10.0.0.1:9092 does not offer FindCoordinator, AddPartitionsToTxn; \
                 rebalances need consumer groups: 10.0.0.1:9092 does not offer FindCoordinator"
            )
        );
        let without = Needs { transactions: false, groups: false, ..ALL };
        assert_eq!(offer(&few, 0).missing(addr(), &without), None);
        let old = [(0, 0, 8), (2, 0, 20), (3, 0, 20)];
        let needs = Needs { produce: true, ..Needs::default() };
        assert_eq!(
            offer(&old, 0).missing(addr(), &needs).as_deref(),
            Some(
                "producers: 10.0.0.1:9092 does not offer Produce in version 9 to 12 (it offers 0 to 8)"
            )
        );
    }

    #[test]
    fn partitions_are_added_by_produce_only_where_that_is_finalized() {
        let two = offer(&kafka(), 2).transactions().expect("all there");
        assert_eq!((two.add_partitions, two.end_txn, two.produce), (None, 5, 12));
        for (level, produce_max) in [(1, 20), (2, 11)] {
            let mut apis = kafka();
            apis[0].2 = produce_max;
            let one = offer(&apis, level).transactions().expect("all there");
            assert_eq!((one.add_partitions, one.end_txn, one.produce), (Some(3), 4, 11));
        }
        // Without the API, but with the feature.
        let few: Vec<_> = kafka().into_iter().filter(|it| it.0 != 24).collect();
        assert!(offer(&few, 2).transactions().is_ok());
        assert_eq!(offer(&few, 1).transactions(), Err(vec!["AddPartitionsToTxn".to_owned()]));
    }
}
