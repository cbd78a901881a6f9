//! Before and after the load: which versions the broker speaks, who leads what, the run's own
//! topic, offsets to start from, producer ids.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use messages::{
    CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest,
};
use serde::Serialize;
use thalweg::protocol::ErrorCode;
use thalweg::protocol::codec::messages;

use super::call::call;
use super::dial::{Connected, Dialer, GREETING};
use super::error_name;
use super::features::{
    Api, CREATE_TOPICS, DELETE_TOPICS, FETCH, GROUP_COORDINATOR, HEARTBEAT, INIT_PRODUCER_ID,
    JOIN_GROUP, LEAVE_GROUP, LIST_OFFSETS, METADATA, Needs, Offer, PRODUCE, SYNC_GROUP,
    TxnVersions,
};
use super::frames::{Broken, FrameReader};
use super::group::{self, GroupVersions};
use super::stream::Stream;
use crate::wire::produce::ProducerIdentity;

/// What stops a run before it starts.
#[derive(Debug)]
pub enum AdminError {
    /// The connection failed.
    Broken(&'static str, Broken),
    /// The broker lacks an API, or every version of it that this tool speaks.
    Lacks(String),
    /// The run asks for what the broker does not offer, or not for so long.
    Unfit(String),
    /// The broker refused.
    Refused(&'static str, String),
    /// A broker's address does not resolve.
    Address(String, io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Broken(what, broken) => write!(f, "{what}: {broken}"),
            AdminError::Lacks(api) => write!(f, "the broker does not offer {api}"),
            AdminError::Unfit(why) => f.write_str(why),
            AdminError::Refused(what, why) => write!(f, "{what}: the broker says {why}"),
            AdminError::Address(host, error) => write!(f, "cannot resolve {host}: {error}"),
        }
    }
}

impl std::error::Error for AdminError {}

/// Topics in one request.
const TOPICS_MAX: usize = 500;

/// The versions of the hot path that both sides speak.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HotVersions {
    /// Produce.
    pub produce: i16,
    /// Fetch.
    pub fetch: i16,
    /// InitProducerId, where the broker has it.
    pub init_producer_id: Option<i16>,
    /// Of a transaction's requests, where the broker has them.
    pub transactions: Option<TxnVersions>,
    /// ApiVersions, with which each connection begins.
    pub api_versions: i16,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    /// Which of the run's topics.
    pub topic: u32,
    /// Partition index.
    pub partition: i32,
    /// The leader's address.
    pub addr: SocketAddr,
}

/// Topics to create, all alike.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// The name, if there is one; else what their names begin with.
    pub name: String,
    /// How many.
    pub count: u32,
    /// Partitions.
    pub partitions: i32,
    /// Replicas; -1 is the broker's default.
    pub replication: i16,
    /// Configuration.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// The topics' names, all of one length.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self.count {
            1 => vec![self.name.clone()],
            count => (0..count).map(|idx| format!("{}-{idx:06}", self.name)).collect(),
        }
    }
}

/// A connection for administration.
pub struct Admin {
    addr: SocketAddr,
    dialer: Dialer,
    stream: Stream,
    reader: FrameReader,
    offer: Offer,
    greeting: i16,
    session_lifetime_ms: i64,
    /// Whether anything was answered after the greeting.
    admitted: bool,
}

impl Admin {
    /// Connects and asks which versions the broker speaks.
    pub async fn connect(dialer: &Dialer, addr: SocketAddr) -> Result<Admin, AdminError> {
        let broken = |broken| AdminError::Broken("connecting to the broker", broken);
        match dialer.connect(addr, GREETING).await {
            Ok(connected)
                if connected.answer.error_code != ErrorCode::UnsupportedVersion.code() =>
            {
                return Admin::with(dialer, addr, connected, GREETING);
            }
            Err(Broken::Refused(why)) => return Err(broken(Broken::Refused(why))),
            // An old broker answers in version 0 (KIP-511), which does not read as 3, or closes.
            Ok(_) | Err(_) => {}
        }
        let connected = dialer.connect(addr, 0).await.map_err(|error| match error {
            Broken::Closed if dialer.secures() == (false, false) => {
                broken(Broken::Refused(format!(
                    "{addr} closes the connection at once: does this listener speak TLS (--tls)?"
                )))
            }
            other => broken(other),
        })?;
        Admin::with(dialer, addr, connected, 0)
    }

    fn with(
        dialer: &Dialer,
        addr: SocketAddr,
        connected: Connected,
        greeting: i16,
    ) -> Result<Admin, AdminError> {
        let Connected { stream, reader, answer, session_lifetime_ms } = connected;
        check("ApiVersions", answer.error_code, None)?;
        Ok(Admin {
            addr,
            dialer: dialer.clone(),
            stream,
            reader,
            offer: Offer::from(&answer),
            greeting,
            session_lifetime_ms,
            admitted: false,
        })
    }

    /// The cluster's feature levels, like `metadata.version`; none before Kafka 2.7.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        self.offer.features()
    }

    /// Says whether the broker has all that a run needs that lasts `lasts_ms`.
    pub fn check(&self, needs: &Needs, lasts_ms: u64) -> Result<(), AdminError> {
        if let Some(sentence) = self.offer.missing(self.addr, needs) {
            return Err(AdminError::Unfit(sentence));
        }
        match u64::try_from(self.session_lifetime_ms) {
            Ok(lifetime_ms) if lifetime_ms > 0 && lifetime_ms <= lasts_ms => {
                Err(AdminError::Unfit(format!(
                    "SASL: {} ends sessions after {:.1} s (connections.max.reauth.ms), and this \
                     tool does not authenticate again: make the run shorter",
                    self.addr,
                    lifetime_ms as f64 / 1e3
                )))
            }
            _ => Ok(()),
        }
    }

    /// How the connection is encrypted, where it is.
    #[must_use]
    pub fn encryption(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.agreed(),
        }
    }

    /// The best version that both sides speak.
    pub(super) fn version(&self, api: &Api) -> Result<i16, AdminError> {
        self.offer.version(api).map_err(AdminError::Lacks)
    }

    pub(super) fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, AdminError> {
        let address = |error| AdminError::Address(host.to_owned(), error);
        self.dialer.resolve(host, port).map_err(address)
    }

    /// Versions for the load itself.
    pub fn hot_versions(&self) -> Result<HotVersions, AdminError> {
        Ok(HotVersions {
            produce: self.version(&PRODUCE)?,
            fetch: self.version(&FETCH)?,
            init_producer_id: self.version(&INIT_PRODUCER_ID).ok(),
            transactions: self.offer.transactions().ok(),
            api_versions: self.greeting,
        })
    }

    /// Versions for consumer groups.
    ///
    /// # Errors
    /// The first API that the broker lacks for them.
    pub fn group_versions(&self) -> Result<GroupVersions, AdminError> {
        Ok(GroupVersions {
            find_coordinator: self.version(&GROUP_COORDINATOR)?,
            join: self.version(&JOIN_GROUP)?,
            sync: self.version(&SYNC_GROUP)?,
            heartbeat: self.version(&HEARTBEAT)?,
            leave: self.version(&LEAVE_GROUP)?,
        })
    }

    /// The address of the group's coordinator; `None` while there is none yet.
    pub async fn coordinator(&mut self, group: &str) -> Result<Option<SocketAddr>, AdminError> {
        let what = "asking for the group's coordinator";
        let version = self.group_versions()?.find_coordinator;
        let found = group::find_coordinator(&self.stream, &mut self.reader, version, group).await;
        match found.map_err(|broken| AdminError::Broken(what, broken))? {
            Ok((host, port)) => self.resolve(&host, port).map(Some),
            Err(14..=16) => Ok(None), // loading, not available yet, or just moved
            Err(code) => check(what, code, None).map(|()| None),
        }
    }

    /// Creates `topic`, or all of them.
    pub async fn create_topic(&mut self, topic: &NewTopic) -> Result<(), AdminError> {
        let version = self.version(&CREATE_TOPICS)?;
        let mut wanted = messages::create_topics_request::CreatableTopic::default();
        wanted.num_partitions = topic.partitions;
        wanted.replication_factor = match topic.replication {
            -1 if version < 4 => 1, // "the default" came with version 4
            replicas => replicas,
        };
        wanted.configs = topic
            .configs
            .iter()
            .map(|(name, value)| {
                let mut config = messages::create_topics_request::CreatableTopicConfig::default();
                config.name = name.as_str().into();
                config.value = Some(value.as_str().into());
                config
            })
            .collect();
        for names in topic.names().chunks(TOPICS_MAX) {
            let mut request = CreateTopicsRequest::default();
            let named = names.iter().map(|name| {
                let mut topic = wanted.clone();
                topic.name = name.as_str().into();
                topic
            });
            request.topics = named.collect();
            request.timeout_ms = 30_000;
            let answer = self.call("creating the topic", version, &request).await?;
            if answer.topics.len() != names.len() {
                return Err(AdminError::Refused("creating the topic", "too little".to_owned()));
            }
            for result in &answer.topics {
                let message = result.error_message.as_ref().map(|text| text.as_str());
                check("creating the topic", result.error_code, message)?;
            }
        }
        Ok(())
    }

    /// Deletes the topics `names`.
    pub async fn delete_topics(&mut self, names: &[String]) -> Result<(), AdminError> {
        let version = self.version(&DELETE_TOPICS)?;
        for names in names.chunks(TOPICS_MAX) {
            let mut request = DeleteTopicsRequest::default();
            request.topic_names = names.iter().map(|name| name.as_str().into()).collect();
            request.timeout_ms = 30_000;
            let answer = self.call("deleting the topic", version, &request).await?;
            for result in &answer.responses {
                check("deleting the topic", result.error_code, None)?;
            }
        }
        Ok(())
    }

    /// The leaders of all partitions of `topics`, topic by topic and in order; `None` while some
    /// have none yet.
    pub async fn leaders(&mut self, topics: &[String]) -> Result<Option<Vec<Leader>>, AdminError> {
        let version = self.version(&METADATA)?;
        let mut leaders = Vec::new();
        for (chunk, names) in topics.chunks(TOPICS_MAX).enumerate() {
            let wanted = names.iter().map(|name| {
                let mut wanted = messages::metadata_request::MetadataRequestTopic::default();
                wanted.name = Some(name.as_str().into());
                wanted
            });
            let mut request = MetadataRequest::default();
            request.topics = Some(wanted.collect());
            request.allow_auto_topic_creation = false;
            let answer = self.call("asking for the leaders", version, &request).await?;
            let mut addrs = BTreeMap::new();
            for broker in &answer.brokers {
                let port = u16::try_from(broker.port).unwrap_or(0);
                addrs.insert(broker.node_id, self.resolve(broker.host.as_str(), port)?);
            }
            for (idx, name) in names.iter().enumerate() {
                let topic = (chunk * TOPICS_MAX + idx) as u32;
                let is_it = |it: &&messages::metadata_response::MetadataResponseTopic| {
                    it.name.as_ref().is_some_and(|it| it.as_str() == name)
                };
                let Some(found) = answer.topics.iter().find(is_it) else { return Ok(None) };
                match leaders_of(topic, found, &addrs)? {
                    Some(found) => leaders.extend(found),
                    None => return Ok(None),
                }
            }
        }
        Ok(if leaders.is_empty() { None } else { Some(leaders) })
    }

    /// Start (`earliest`) or end offsets of `partitions`, all led by the broker at the other end.
    pub async fn offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        earliest: bool,
    ) -> Result<Vec<(i32, i64)>, AdminError> {
        let version = self.version(&LIST_OFFSETS)?;
        let mut wanted = messages::list_offsets_request::ListOffsetsTopic::default();
        wanted.name = topic.into();
        wanted.partitions = partitions
            .iter()
            .map(|&index| {
                let mut it = messages::list_offsets_request::ListOffsetsPartition::default();
                it.partition_index = index;
                it.timestamp = if earliest { -2 } else { -1 };
                it
            })
            .collect();
        let mut request = ListOffsetsRequest::default();
        request.replica_id = -1;
        request.topics = vec![wanted];
        let answer = self.call("asking for offsets", version, &request).await?;
        let mut offsets = Vec::with_capacity(partitions.len());
        for partition in answer.topics.iter().flat_map(|it| &it.partitions) {
            check("asking for offsets", partition.error_code, None)?;
            offsets.push((partition.partition_index, partition.offset));
        }
        Ok(offsets)
    }

    pub(super) async fn call<R: messages::RequestResponsePair>(
        &mut self,
        what: &'static str,
        version: i16,
        request: &R,
    ) -> Result<R::Response, AdminError> {
        let answer = call(&self.stream, &mut self.reader, version, request).await;
        let answer = answer.map_err(|broken| match broken {
            Broken::Closed if !self.admitted && !self.dialer.secures().1 => Broken::Refused(
                "closed by the broker: does this listener want SASL (--sasl-mechanism)?".to_owned(),
            ),
            other => other,
        });
        let answer = answer.map_err(|broken| AdminError::Broken(what, broken))?;
        self.admitted = true;
        Ok(answer)
    }
}

/// The leaders of one topic's partitions, in order; `None` while some have none yet.
fn leaders_of(
    topic: u32,
    found: &messages::metadata_response::MetadataResponseTopic,
    addrs: &BTreeMap<i32, SocketAddr>,
) -> Result<Option<Vec<Leader>>, AdminError> {
    match found.error_code {
        0 => {}
        3 | 5 => return Ok(None), // not known here yet, or no leader yet
        code => check("asking for the leaders", code, None)?,
    }
    let mut leaders = Vec::with_capacity(found.partitions.len());
    for partition in &found.partitions {
        match addrs.get(&partition.leader_id) {
            Some(&addr) if partition.error_code == 0 => {
                leaders.push(Leader { topic, partition: partition.partition_index, addr });
            }
            _ => return Ok(None),
        }
    }
    leaders.sort_by_key(|leader| leader.partition);
    Ok(if leaders.is_empty() { None } else { Some(leaders) })
}

/// A producer id of its own for this connection.
pub async fn init_producer(
    stream: &Stream,
    reader: &mut FrameReader,
    version: i16,
) -> Result<ProducerIdentity, Broken> {
    let mut request = InitProducerIdRequest::default();
    request.transactional_id = None;
    request.transaction_timeout_ms = 60_000;
    let answer = call(stream, reader, version, &request).await?;
    if answer.error_code != 0 {
        let why = error_name(answer.error_code);
        return Err(Broken::Refused(format!("InitProducerId: the broker says {why}")));
    }
    Ok(ProducerIdentity { id: answer.producer_id, epoch: answer.producer_epoch })
}

pub(super) fn check(
    what: &'static str,
    code: i16,
    message: Option<&str>,
) -> Result<(), AdminError> {
    if code == 0 {
        return Ok(());
    }
    let detail = message.map(|text| format!(" ({text})")).unwrap_or_default();
    Err(AdminError::Refused(what, format!("{}{detail}", error_name(code))))
}
