//! CreatePartitions, key 37, versions 0-3 (KIP-195).

use std::rc::Rc;

use super::respond;
use crate::cluster::controller::{CreatePartitionsError, MorePartitions};
use crate::protocol::codec::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::codec::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// Adds partitions; the answer comes when every core serves them.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let asked: CreatePartitionsRequest = codec::decode(request.body, request.header.version())?;
    let growths = asked.topics.iter().map(|topic| MorePartitions {
        name: topic.name.as_str().to_owned(),
        partition_count: topic.count,
        assignments: topic
            .assignments
            .as_ref()
            .map(|all| all.iter().map(|one| one.broker_ids.clone()).collect()),
    });
    let answers = core.controller().create_partitions(growths.collect(), asked.validate_only).await;
    let mut response = CreatePartitionsResponse::default();
    for (idx, topic) in asked.topics.iter().enumerate() {
        let problem = match &answers {
            Ok(answers) => match answers.get(idx) {
                Some(Err(problem)) => Some((code_of(problem), problem.to_string())),
                _ => None,
            },
            Err(unavailable) => Some((ErrorCode::NotController, unavailable.to_string())),
        };
        let mut result = CreatePartitionsTopicResult::default();
        result.name = topic.name.clone();
        if let Some((error, message)) = problem {
            result.error_code = error.code();
            result.error_message = Some(StrBytes::from(message));
        }
        response.results.push(result);
    }
    Ok(respond(&request.header, &response))
}

fn code_of(problem: &CreatePartitionsError) -> ErrorCode {
    match problem {
        CreatePartitionsError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        CreatePartitionsError::DuplicateInRequest => ErrorCode::InvalidRequest,
        CreatePartitionsError::InvalidPartitionCount(_) => ErrorCode::InvalidPartitions,
        CreatePartitionsError::TooManyPartitions => ErrorCode::PolicyViolation,
        CreatePartitionsError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        CreatePartitionsError::NoDirectory => ErrorCode::KafkaStorageError,
    }
}
