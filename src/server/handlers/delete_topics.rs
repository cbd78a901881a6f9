//! DeleteTopics, key 20, versions 1-6.
//!
//! v5 error messages; v6 by name or by id (KIP-516).

use std::rc::Rc;

use super::respond;
use crate::base::ids::TopicId;
use crate::cluster::controller::{DeleteTopicError, DeletedTopic, TopicReference};
use crate::protocol::codec::messages::delete_topics_response::DeletableTopicResult;
use crate::protocol::codec::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// First version that names topics by id.
const BY_ID: i16 = 6;
/// First version with error messages.
const MESSAGES: i16 = 5;

/// Deletes topics; the answer comes when no core serves them any more.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let asked: DeleteTopicsRequest = codec::decode(request.body, version)?;
    let mut references = Vec::new();
    let mut refused = Vec::new();
    for topic in &asked.topics {
        let id = TopicId::from(topic.topic_id);
        let reference = match &topic.name {
            Some(name) => TopicReference::Name(name.as_str().to_owned()),
            None => TopicReference::Id(id),
        };
        // Whoever names a topic twice may mean two, and whoever names none means nothing.
        if topic.name.is_some() == (id != TopicId::ZERO) {
            let text = "Name or id, not both and not neither.";
            refused.push(failed(&reference, ErrorCode::InvalidRequest, text, version));
        } else {
            references.push(reference);
        }
    }
    let names = asked.topic_names.iter();
    references.extend(names.map(|name| TopicReference::Name(name.as_str().to_owned())));
    let mut response = DeleteTopicsResponse::default();
    response.responses = match core.controller().delete_topics(references.clone()).await {
        Ok(answers) => {
            let both = references.iter().zip(answers);
            both.map(|(reference, answer)| shown(reference, answer, version)).collect()
        }
        Err(unavailable) => {
            let text = unavailable.to_string();
            let failed = |reference| failed(reference, ErrorCode::NotController, &text, version);
            references.iter().map(failed).collect()
        }
    };
    response.responses.append(&mut refused);
    Ok(respond(&request.header, &response))
}

fn shown(
    reference: &TopicReference,
    answer: Result<DeletedTopic, DeleteTopicError>,
    version: i16,
) -> DeletableTopicResult {
    match answer {
        Err(problem) => failed(reference, code_of(problem), &problem.to_string(), version),
        Ok(deleted) => {
            let mut result = DeletableTopicResult::default();
            result.name = Some(StrBytes::from(deleted.name));
            if version >= BY_ID {
                result.topic_id = deleted.id.into();
            }
            result
        }
    }
}

fn failed(
    reference: &TopicReference,
    error: ErrorCode,
    message: &str,
    version: i16,
) -> DeletableTopicResult {
    let mut result = DeletableTopicResult::default();
    match reference {
        TopicReference::Name(name) => result.name = Some(StrBytes::from(name.as_str())),
        TopicReference::Id(id) => {
            result.name = None;
            result.topic_id = (*id).into();
        }
    }
    result.error_code = error.code();
    if version >= MESSAGES {
        result.error_message = Some(StrBytes::from(message));
    }
    result
}

fn code_of(problem: DeleteTopicError) -> ErrorCode {
    match problem {
        DeleteTopicError::UnknownName => ErrorCode::UnknownTopicOrPartition,
        DeleteTopicError::UnknownId => ErrorCode::UnknownTopicId,
        DeleteTopicError::DuplicateInRequest => ErrorCode::InvalidRequest,
        DeleteTopicError::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
    }
}
