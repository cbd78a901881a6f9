//! CreateTopics, key 19, versions 2-7.
//!
//! v4 broker defaults for -1 (KIP-464); v5 flexible, answers with the configuration (KIP-525); v7
//! topic ids (KIP-516).

use std::rc::Rc;

use super::respond;
use super::topics::{config_source, shown_value};
use crate::cluster::controller::{CreateTopicError, CreatedTopic, ManualAssignment, NewTopic};
use crate::cluster::topic_config::DescribedConfig;
use crate::protocol::codec::messages::create_topics_request::CreatableTopic;
use crate::protocol::codec::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use crate::protocol::codec::messages::{CreateTopicsRequest, CreateTopicsResponse};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// First version that describes what was created.
const DESCRIBES: i16 = 5;

/// Creates topics; the answer comes when every core serves them.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let asked: CreateTopicsRequest = codec::decode(request.body, version)?;
    let names: Vec<StrBytes> = asked.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = asked.topics.iter().map(new_topic).collect();
    let answers = core.controller().create_topics(topics, asked.validate_only).await;
    let mut response = CreateTopicsResponse::default();
    response.topics = match answers {
        Ok(answers) => {
            let shown = |(name, answer)| shown(name, answer, version);
            names.into_iter().zip(answers).map(shown).collect()
        }
        Err(unavailable) => {
            let failed = |name| failed(name, ErrorCode::NotController, unavailable.to_string());
            names.into_iter().map(failed).collect()
        }
    };
    // A name that stands twice in the request is answered once, as Kafka does.
    let mut seen: Vec<StrBytes> = Vec::new();
    response.topics.retain(|topic| {
        let is_first = !seen.contains(&topic.name);
        if topic.error_code == ErrorCode::InvalidRequest.code() {
            seen.push(topic.name.clone());
        }
        is_first
    });
    Ok(respond(&request.header, &response))
}

fn new_topic(asked: &CreatableTopic) -> NewTopic {
    let assignments = asked.assignments.iter().map(|assignment| ManualAssignment {
        partition: assignment.partition_index,
        brokers: assignment.broker_ids.clone(),
    });
    let configs = asked.configs.iter().map(|config| {
        let value = config.value.as_ref().map(|value| value.as_str().to_owned());
        (config.name.as_str().to_owned(), value)
    });
    NewTopic {
        name: asked.name.as_str().to_owned(),
        partition_count: asked.num_partitions,
        replication_factor: asked.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

fn shown(
    name: StrBytes,
    answer: Result<CreatedTopic, CreateTopicError>,
    version: i16,
) -> CreatableTopicResult {
    let created = match answer {
        Err(problem) => return failed(name, code_of(&problem), problem.to_string()),
        Ok(created) => created,
    };
    let mut result = CreatableTopicResult::default();
    result.name = name;
    result.error_message = None; // The codec's default is an empty text.
    result.topic_id = created.id.into();
    if version >= DESCRIBES {
        result.num_partitions = created.partition_count;
        result.replication_factor = created.replication_factor;
        result.configs = Some(created.configs.iter().map(shown_config).collect());
    }
    result
}

fn shown_config(config: &DescribedConfig) -> CreatableTopicConfigs {
    let mut shown = CreatableTopicConfigs::default();
    shown.name = StrBytes::from(config.name);
    shown.value = shown_value(config).map(StrBytes::from);
    shown.read_only = config.is_read_only;
    shown.config_source = config_source(config.source);
    shown.is_sensitive = config.is_sensitive;
    shown
}

fn failed(name: StrBytes, error: ErrorCode, message: String) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default();
    result.name = name;
    result.error_code = error.code();
    result.error_message = Some(StrBytes::from(message));
    result
}

fn code_of(problem: &CreateTopicError) -> ErrorCode {
    match problem {
        CreateTopicError::InvalidName(_) => ErrorCode::InvalidTopicException,
        CreateTopicError::Exists(_) => ErrorCode::TopicAlreadyExists,
        CreateTopicError::DuplicateInRequest
        | CreateTopicError::MetadataTopic(_)
        | CreateTopicError::AssignmentWithNumbers(_) => ErrorCode::InvalidRequest,
        CreateTopicError::InvalidPartitionCount => ErrorCode::InvalidPartitions,
        CreateTopicError::TooManyPartitions => ErrorCode::PolicyViolation,
        CreateTopicError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        CreateTopicError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        CreateTopicError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        CreateTopicError::NoDirectory => ErrorCode::KafkaStorageError,
    }
}
