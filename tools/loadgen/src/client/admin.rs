//! Before and after the load: which versions the broker speaks, who leads what, the run's own
//! topic, offsets to start from, producer ids.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
};
use serde::Serialize;
use thalweg::io::tcp::TcpStream;
use thalweg::protocol::ErrorCode;
use thalweg::protocol::codec::messages;

use super::call::{CLIENT_ID, call};
use super::error_name;
use super::frames::{Broken, FrameReader};
use super::group::{self, GroupVersions};
use crate::wire::produce::ProducerIdentity;

/// What stops a run before it starts.
#[derive(Debug)]
pub enum AdminError {
    /// The connection failed.
    Broken(&'static str, Broken),
    /// The broker lacks an API, or every version of it that this tool speaks.
    Lacks(&'static str),
    /// The broker refused.
    Refused(&'static str, String),
    /// The broker lacks these APIs, without which there are no consumer groups.
    LacksGroups(Vec<&'static str>),
    /// A broker's address does not resolve.
    Address(String, io::Error),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Broken(what, broken) => write!(f, "{what}: {broken}"),
            AdminError::Lacks(api) => write!(f, "the broker does not offer a usable {api}"),
            AdminError::LacksGroups(apis) => write!(
                f,
                "rebalances need consumer groups, and the broker does not offer a usable {}",
                apis.join(", ")
            ),
            AdminError::Refused(what, why) => write!(f, "{what}: the broker says {why}"),
            AdminError::Address(host, error) => write!(f, "cannot resolve {host}: {error}"),
        }
    }
}

impl std::error::Error for AdminError {}

/// An API that this tool uses: its key, name, and the versions that it can speak.
struct Api {
    key: i16,
    name: &'static str,
    min: i16,
    max: i16,
}

/// The ApiVersions version that is tried first: the first that names the client.
const GREETING: i16 = 3;

/// Topics in one request.
const TOPICS_MAX: usize = 500;

const PRODUCE: Api = Api { key: 0, name: "Produce", min: 9, max: 12 };
const FETCH: Api = Api { key: 1, name: "Fetch", min: 12, max: 12 };
const LIST_OFFSETS: Api = Api { key: 2, name: "ListOffsets", min: 1, max: 7 };
const METADATA: Api = Api { key: 3, name: "Metadata", min: 4, max: 12 };
const CREATE_TOPICS: Api = Api { key: 19, name: "CreateTopics", min: 2, max: 7 };
const DELETE_TOPICS: Api = Api { key: 20, name: "DeleteTopics", min: 1, max: 5 };
// Group APIs below their flexible versions: see `group`.
const FIND_COORDINATOR: Api = Api { key: 10, name: "FindCoordinator", min: 1, max: 2 };
const JOIN_GROUP: Api = Api { key: 11, name: "JoinGroup", min: 2, max: 5 };
const HEARTBEAT: Api = Api { key: 12, name: "Heartbeat", min: 0, max: 3 };
const LEAVE_GROUP: Api = Api { key: 13, name: "LeaveGroup", min: 0, max: 2 };
const SYNC_GROUP: Api = Api { key: 14, name: "SyncGroup", min: 0, max: 3 };
const INIT_PRODUCER_ID: Api = Api { key: 22, name: "InitProducerId", min: 0, max: 4 };
const DESCRIBE_CONFIGS: Api = Api { key: 32, name: "DescribeConfigs", min: 1, max: 4 };

/// The versions of the hot path that both sides speak.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HotVersions {
    /// Produce.
    pub produce: i16,
    /// Fetch.
    pub fetch: i16,
    /// InitProducerId, where the broker has it.
    pub init_producer_id: Option<i16>,
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
    stream: TcpStream,
    reader: FrameReader,
    offered: BTreeMap<i16, (i16, i16)>,
    greeting: i16,
}

impl Admin {
    /// Connects and asks which versions the broker speaks.
    pub async fn connect(addr: SocketAddr) -> Result<Admin, AdminError> {
        let broken = |broken| AdminError::Broken("connecting to the broker", broken);
        let stream = TcpStream::connect(addr).await.map_err(|error| broken(error.into()))?;
        let mut reader = FrameReader::new(stream.clone());
        if let Ok(answer) = greet(&stream, &mut reader, GREETING).await
            && answer.error_code != ErrorCode::UnsupportedVersion.code()
        {
            return Admin::with(stream, reader, &answer, GREETING);
        }
        // An old broker answers in version 0 (KIP-511), which does not read as 3, or closes.
        let stream = TcpStream::connect(addr).await.map_err(|error| broken(error.into()))?;
        let mut reader = FrameReader::new(stream.clone());
        let answer = greet(&stream, &mut reader, 0).await.map_err(broken)?;
        Admin::with(stream, reader, &answer, 0)
    }

    fn with(
        stream: TcpStream,
        reader: FrameReader,
        answer: &messages::ApiVersionsResponse,
        greeting: i16,
    ) -> Result<Admin, AdminError> {
        check("ApiVersions", answer.error_code, None)?;
        let offered =
            answer.api_keys.iter().map(|it| (it.api_key, (it.min_version, it.max_version)));
        Ok(Admin { stream, reader, offered: offered.collect(), greeting })
    }

    /// The best version that both sides speak.
    fn version(&self, api: &Api) -> Result<i16, AdminError> {
        let &(min, max) = self.offered.get(&api.key).ok_or(AdminError::Lacks(api.name))?;
        let best = api.max.min(max);
        if best >= api.min.max(min) { Ok(best) } else { Err(AdminError::Lacks(api.name)) }
    }

    /// Versions for the load itself.
    pub fn hot_versions(&self) -> Result<HotVersions, AdminError> {
        Ok(HotVersions {
            produce: self.version(&PRODUCE)?,
            fetch: self.version(&FETCH)?,
            init_producer_id: self.version(&INIT_PRODUCER_ID).ok(),
            api_versions: self.greeting,
        })
    }

    /// Versions for consumer groups.
    ///
    /// # Errors
    /// All that the broker lacks for them.
    pub fn group_versions(&self) -> Result<GroupVersions, AdminError> {
        let apis = [FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP, HEARTBEAT, LEAVE_GROUP];
        let found = apis.each_ref().map(|api| self.version(api).ok());
        if let [Some(find_coordinator), Some(join), Some(sync), Some(heartbeat), Some(leave)] =
            found
        {
            return Ok(GroupVersions { find_coordinator, join, sync, heartbeat, leave });
        }
        let lacking = apis.iter().zip(found).filter(|(_, found)| found.is_none());
        Err(AdminError::LacksGroups(lacking.map(|(api, _)| api.name).collect()))
    }

    /// The address of the group's coordinator; `None` while there is none yet.
    pub async fn coordinator(&mut self, group: &str) -> Result<Option<SocketAddr>, AdminError> {
        let what = "asking for the group's coordinator";
        let version = self.group_versions()?.find_coordinator;
        let found = group::find_coordinator(&self.stream, &mut self.reader, version, group).await;
        match found.map_err(|broken| AdminError::Broken(what, broken))? {
            Ok((host, port)) => resolve(&host, port).map(Some),
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
                addrs.insert(broker.node_id, resolve(broker.host.as_str(), port)?);
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

    /// The topic's configuration as the broker reports it: what its acknowledgements mean.
    pub async fn topic_configs(
        &mut self,
        topic: &str,
        names: &[&str],
    ) -> Result<BTreeMap<String, String>, AdminError> {
        let version = self.version(&DESCRIBE_CONFIGS)?;
        let mut wanted = messages::describe_configs_request::DescribeConfigsResource::default();
        wanted.resource_type = 2;
        wanted.resource_name = topic.into();
        wanted.configuration_keys = Some(names.iter().map(|&name| name.into()).collect());
        let mut request = DescribeConfigsRequest::default();
        request.resources = vec![wanted];
        let answer = self.call("asking for the topic's configuration", version, &request).await?;
        let result = answer.results.first();
        let configs = result.into_iter().flat_map(|it| &it.configs).filter_map(|it| {
            Some((it.name.as_str().to_owned(), it.value.as_ref()?.as_str().to_owned()))
        });
        Ok(configs.collect())
    }

    async fn call<R: messages::RequestResponsePair>(
        &mut self,
        what: &'static str,
        version: i16,
        request: &R,
    ) -> Result<R::Response, AdminError> {
        call(&self.stream, &mut self.reader, version, request)
            .await
            .map_err(|broken| AdminError::Broken(what, broken))
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

/// Begins a connection as Kafka's clients do; a broker may bound its first frame tightly.
pub async fn greet(
    stream: &TcpStream,
    reader: &mut FrameReader,
    version: i16,
) -> Result<messages::ApiVersionsResponse, Broken> {
    let mut request = ApiVersionsRequest::default();
    if version >= GREETING {
        request.client_software_name = CLIENT_ID.into();
        request.client_software_version = env!("CARGO_PKG_VERSION").into();
    }
    call(stream, reader, version, &request).await
}

/// A producer id of its own for this connection.
pub async fn init_producer(
    stream: &TcpStream,
    reader: &mut FrameReader,
    version: i16,
) -> Result<ProducerIdentity, Broken> {
    let mut request = InitProducerIdRequest::default();
    request.transactional_id = None;
    request.transaction_timeout_ms = 60_000;
    let answer = call(stream, reader, version, &request).await?;
    if answer.error_code != 0 {
        return Err(Broken::Nonsense("no producer id was given"));
    }
    Ok(ProducerIdentity { id: answer.producer_id, epoch: answer.producer_epoch })
}

/// Resolves a broker's address. Blocking, so only before a run.
pub fn resolve(host: &str, port: u16) -> Result<SocketAddr, AdminError> {
    let address = |error| AdminError::Address(host.to_owned(), error);
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(address)?.collect();
    // Brokers mostly listen on IPv4; a name with both is tried there first.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.into_iter().next().ok_or_else(|| address(io::Error::from(io::ErrorKind::NotFound)))
}

fn check(what: &'static str, code: i16, message: Option<&str>) -> Result<(), AdminError> {
    if code == 0 {
        return Ok(());
    }
    let detail = message.map(|text| format!(" ({text})")).unwrap_or_default();
    Err(AdminError::Refused(what, format!("{}{detail}", error_name(code))))
}
