//! IncrementalAlterConfigs, key 44, versions 0-1 (KIP-339): set, delete, append, subtract.

use std::rc::Rc;

use super::respond;
use crate::cluster::controller::{
    AlterConfigs, AlterConfigsError, ConfigChange, ConfigOperation, ConfigResource,
};
use crate::protocol::codec::messages::incremental_alter_configs_request::AlterConfigsResource;
use crate::protocol::codec::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::codec::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// Kafka's numbers for resource types.
pub const RESOURCE_TOPIC: i8 = 2;
/// See [`RESOURCE_TOPIC`].
pub const RESOURCE_BROKER: i8 = 4;

type Refusal = (ErrorCode, String);

/// Changes configurations; the answer comes when every core follows them.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let asked: IncrementalAlterConfigsRequest =
        codec::decode(request.body, request.header.version())?;
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in &asked.resources {
        let repeats = |other: &&AlterConfigsResource| {
            other.resource_type == resource.resource_type
                && other.resource_name == resource.resource_name
        };
        let outcome = if asked.resources.iter().filter(repeats).count() > 1 {
            Err((ErrorCode::InvalidRequest, "Each resource must appear at most once.".to_owned()))
        } else {
            alter(core, resource, asked.validate_only).await
        };
        let mut answer = AlterConfigsResourceResponse::default();
        answer.resource_type = resource.resource_type;
        answer.resource_name = resource.resource_name.clone();
        answer.error_message = None; // The codec's default is an empty text.
        if let Err((error, text)) = outcome {
            answer.error_code = error.code();
            answer.error_message = Some(StrBytes::from(text));
        }
        response.responses.push(answer);
    }
    Ok(respond(&request.header, &response))
}

async fn alter(
    core: &Core,
    asked: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let resource = resource_of(core, asked)?;
    let changes = asked
        .configs
        .iter()
        .map(|config| {
            let operation = match config.config_operation {
                0 => ConfigOperation::Set,
                1 => ConfigOperation::Delete,
                2 => ConfigOperation::Append,
                3 => ConfigOperation::Subtract,
                other => {
                    let text = format!("Unknown config operation {other}");
                    return Err((ErrorCode::InvalidRequest, text));
                }
            };
            let value = config.value.as_ref().map(|value| value.as_str().to_owned());
            Ok(ConfigChange { name: config.name.as_str().to_owned(), operation, value })
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    let answers = core
        .controller()
        .alter_configs(vec![AlterConfigs { resource, changes }], validate_only)
        .await
        .map_err(|unavailable| (ErrorCode::NotController, unavailable.to_string()))?;
    match answers.into_iter().next() {
        Some(Err(problem)) => Err((code_of(&problem), problem.to_string())),
        _ => Ok(()),
    }
}

fn resource_of(core: &Core, asked: &AlterConfigsResource) -> Result<ConfigResource, Refusal> {
    let name = asked.resource_name.as_str();
    match asked.resource_type {
        RESOURCE_TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        RESOURCE_BROKER if name.is_empty() => Ok(ConfigResource::AllBrokers),
        RESOURCE_BROKER => match name.parse::<i32>() {
            Ok(id) if id == core.broker().id.0 => Ok(ConfigResource::Broker(id)),
            _ => {
                let text = format!(
                    "Unexpected broker id, expected {} or empty string, but received {name}",
                    core.broker().id
                );
                Err((ErrorCode::InvalidRequest, text))
            }
        },
        other => Err((ErrorCode::InvalidRequest, format!("Unexpected resource type {other}."))),
    }
}

fn code_of(problem: &AlterConfigsError) -> ErrorCode {
    match problem {
        AlterConfigsError::InvalidName(_) => ErrorCode::InvalidTopicException,
        AlterConfigsError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        AlterConfigsError::InvalidConfig(_) | AlterConfigsError::NotAList { .. } => {
            ErrorCode::InvalidConfig
        }
        AlterConfigsError::InvalidRequest(_) => ErrorCode::InvalidRequest,
    }
}
