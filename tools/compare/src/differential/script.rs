//! What the scripts use: ask one broker, and keep what it answered under the case's name.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::MetadataResponse;
use kafka_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use kafka_protocol::messages::produce_response::ProduceResponse;
use kafka_protocol::messages::{BrokerId, InitProducerIdRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use uuid::Uuid;

use super::normalize::{Fields, Names};
use crate::batch::Batch;
use crate::wire::{self, Connection, Reply};

/// What a broker did with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Fields),
    /// It closed the connection.
    Closed,
    /// It neither answered nor closed.
    Silent,
    /// The answer is none of this API and version.
    Undecodable(String),
}

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(5);

/// One run of the script against one broker.
pub struct Script {
    /// The time that the requests speak of, the same for both brokers.
    pub now_ms: i64,
    address: String,
    prefix: String,
    connection: Option<Connection>,
    correlation: i32,
    names: Names,
    pub outcomes: Vec<(String, Outcome)>,
    /// What could not be done, though it is no case.
    pub troubles: Vec<String>,
}

impl Script {
    pub fn new(address: &str, prefix: &str, now_ms: i64) -> Script {
        Script {
            now_ms,
            address: address.to_owned(),
            prefix: prefix.to_owned(),
            connection: None,
            correlation: 0,
            names: Names::default(),
            outcomes: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// The full name of a topic of this run.
    pub fn topic(&self, name: &str) -> TopicName {
        TopicName(text(&format!("{}-{name}", self.prefix)))
    }

    pub fn next_correlation(&mut self) -> i32 {
        self.correlation += 1;
        self.correlation
    }

    /// A new connection; the old one is closed.
    pub fn reconnect(&mut self) -> Option<&mut Connection> {
        self.connection = match Connection::open(&self.address) {
            Ok(connection) => Some(connection),
            Err(error) => {
                self.troubles.push(error);
                None
            }
        };
        self.connection.as_mut()
    }

    /// Sends a request and keeps the outcome; returns the answer, if there is one.
    pub fn ask<R: Request>(&mut self, case: &str, version: i16, request: &R) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let body = match wire::body(version, request) {
            Ok(body) => body,
            Err(error) => {
                self.troubles.push(format!("{case}: {error}"));
                return None;
            }
        };
        self.ask_body::<R>(case, version, &body)
    }

    /// The same with a body that is made by hand.
    pub fn ask_body<R: Request>(
        &mut self,
        case: &str,
        version: i16,
        body: &[u8],
    ) -> Option<R::Response>
    where
        R::Response: std::fmt::Debug,
    {
        let (outcome, response) = match self.exchange::<R>(version, body) {
            Ok(Ok(response)) => (Outcome::Answer(self.names.fields(&response)), Some(response)),
            Ok(Err(error)) => (Outcome::Undecodable(error), None),
            Err(Reply::Silent) => (Outcome::Silent, None),
            Err(_) => (Outcome::Closed, None),
        };
        self.outcomes.push((case.to_owned(), outcome));
        response
    }

    /// Sends a request that is no case; its answer, if there is one.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        let body = wire::body(version, request).ok()?;
        self.exchange::<R>(version, &body).ok()?.ok()
    }

    fn exchange<R: Request>(
        &mut self,
        version: i16,
        body: &[u8],
    ) -> Result<Result<R::Response, String>, Reply> {
        let correlation = self.next_correlation();
        let frame = wire::frame::<R>(version, correlation, body);
        match self.exchange_frame(&frame, WAIT) {
            Reply::Frame(reply) => Ok(wire::decode::<R>(version, correlation, &reply)),
            other => Err(other),
        }
    }

    /// Sends a frame on the open connection, or on a new one if there is none; anything but an
    /// answer ends the connection.
    pub fn exchange_frame(&mut self, frame: &[u8], wait: Duration) -> Reply {
        if self.connection.is_none() {
            self.reconnect();
        }
        let Some(connection) = &mut self.connection else { return Reply::Closed };
        connection.send(frame);
        let reply = connection.read(wait);
        if !matches!(reply, Reply::Frame(_)) {
            self.connection = None;
        }
        reply
    }

    /// Sends raw bytes on a connection of their own, and keeps whether an answer came; `show` says
    /// which of its bytes are worth comparing.
    pub fn ask_bytes(&mut self, case: &str, bytes: &[u8], show: impl Fn(&Bytes) -> String) {
        let outcome = match self.reconnect() {
            None => Outcome::Closed,
            Some(connection) => {
                connection.send_bytes(bytes);
                match connection.read(Duration::from_secs(2)) {
                    Reply::Frame(frame) => {
                        Outcome::Answer(Fields::from([("frame".to_owned(), show(&frame))]))
                    }
                    Reply::Closed => Outcome::Closed,
                    Reply::Silent => Outcome::Silent,
                }
            }
        };
        self.connection = None;
        self.outcomes.push((case.to_owned(), outcome));
    }

    /// Asks for more than can be compared; keeps what is said of one topic.
    pub fn ask_about<R: Request>(&mut self, case: &str, version: i16, request: &R, name: &str)
    where
        R::Response: std::fmt::Debug,
    {
        self.ask(case, version, request);
        let kept = format!("[{}]", self.topic(name).as_str());
        if let Some((_, Outcome::Answer(fields))) = self.outcomes.last_mut() {
            fields.retain(|path, _| !path.starts_with("topics") || path.contains(&kept));
        }
    }

    /// Asks for a producer id; a broker that is still fetching a block of ids is asked again.
    pub fn ask_producer_id(&mut self, case: &str, version: i16, request: &InitProducerIdRequest) {
        const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
        for _ in 0..50 {
            let answer = self.ask(case, version, request);
            if answer.is_none_or(|answer| answer.error_code != COORDINATOR_LOAD_IN_PROGRESS) {
                return;
            }
            self.outcomes.pop();
            std::thread::sleep(Duration::from_millis(100));
        }
        self.troubles.push(format!("{case}: no producer id after five seconds"));
    }

    /// Lists offsets; where the broker gave the timestamps, they differ from broker to broker.
    pub fn ask_offset(&mut self, case: &str, version: i16, request: &ListOffsetsRequest) {
        self.ask(case, version, request);
        if let Some((_, Outcome::Answer(fields))) = self.outcomes.last_mut() {
            for (path, value) in fields.iter_mut() {
                if path.ends_with(".timestamp") && value != "-1" {
                    *value = "<time>".to_owned();
                }
            }
        }
    }

    /// The broker's node id.
    pub fn node(&mut self) -> i32 {
        let metadata = self.metadata("none");
        metadata.and_then(|metadata| Some(metadata.brokers.first()?.node_id.0)).unwrap_or(-1)
    }

    /// Creates a topic and waits until every partition answers; returns its id and the leader
    /// epoch of partition 0.
    pub fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> (Uuid, i32) {
        // The records' timestamps are years old: they would be deleted while they are looked at.
        let kept = ("retention.ms", "-1");
        let kept = (!configs.iter().any(|(name, _)| *name == kept.0)).then_some(&kept);
        let configs = configs
            .iter()
            .chain(kept)
            .map(|(name, value)| {
                CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
            })
            .collect();
        let topic = CreatableTopic::default()
            .with_name(self.topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs);
        let request =
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let created = self.call(7, &request);
        let code = created.and_then(|created| created.topics.first().map(|topic| topic.error_code));
        if code != Some(0) {
            self.troubles.push(format!("creating {name}: {code:?}"));
        }
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if let Some(found) = self.ready(name, partitions) {
                let full_name = self.topic(name).0.to_string();
                self.names.register(found.0.to_string(), full_name);
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.troubles.push(format!("{name} is not there after 15 s"));
        (Uuid::nil(), -1)
    }

    fn ready(&mut self, name: &str, partitions: i32) -> Option<(Uuid, i32)> {
        let topic = self.topic(name);
        let metadata = self.metadata(name)?;
        let found = metadata.topics.first().filter(|found| found.error_code == 0)?;
        let first = found.partitions.iter().find(|partition| partition.partition_index == 0)?;
        let led = found.partitions.iter().filter(|partition| partition.leader_id.0 >= 0).count();
        if led != usize::try_from(partitions).ok()? {
            return None;
        }
        let asked = (0..partitions)
            .map(|index| {
                ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1)
            })
            .collect();
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![ListOffsetsTopic::default().with_name(topic).with_partitions(asked)]);
        let offsets = self.call(7, &request)?;
        let answers = offsets.topics.iter().flat_map(|topic| &topic.partitions);
        let ready = answers.filter(|answer| answer.error_code == 0).count();
        (ready == led).then_some((found.topic_id, first.leader_epoch))
    }

    /// Metadata of one topic, without creating it.
    pub fn metadata(&mut self, name: &str) -> Option<MetadataResponse> {
        let topic = MetadataRequestTopic::default().with_name(Some(self.topic(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.call(12, &request)
    }

    /// Produces one batch to a partition, as a case.
    pub fn produce(
        &mut self,
        case: &str,
        version: i16,
        topic: &TopicName,
        partition: i32,
        records: Option<Bytes>,
    ) -> Option<ProduceResponse> {
        self.ask(case, version, &produce_request(-1, topic, &[(partition, records)]))
    }

    /// Produces one batch that is no case.
    pub fn seed(&mut self, name: &str, batch: &Batch) {
        let topic = self.topic(name);
        let request = produce_request(-1, &topic, &[(0, Some(batch.encode()))]);
        let answer: Option<ProduceResponse> = self.call(9, &request);
        let code = answer.and_then(|answer| {
            Some(answer.responses.first()?.partition_responses.first()?.error_code)
        });
        if code != Some(0) {
            self.troubles.push(format!("seeding {name}: {code:?}"));
        }
    }
}

/// A produce request for some partitions of one topic.
pub fn produce_request(
    acks: i16,
    topic: &TopicName,
    partitions: &[(i32, Option<Bytes>)],
) -> ProduceRequest {
    let data = partitions
        .iter()
        .map(|(index, records)| {
            PartitionProduceData::default().with_index(*index).with_records(records.clone())
        })
        .collect();
    let topic = TopicProduceData::default().with_name(topic.clone()).with_partition_data(data);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
