//! InitProducerId, key 22, versions 0-5, without transactions.
//!
//! v3 lets a producer that lost its sequence ask for a higher epoch (KIP-360); without a
//! transactional id the answer is a fresh id with epoch 0, as in Kafka. A transactional id gets a
//! final error: there is no transaction coordinator.

use std::rc::Rc;

use super::respond;
use crate::protocol::codec::messages::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::{ErrorCode, Malformed, codec};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// Hands out a producer id.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let asked: InitProducerIdRequest = codec::decode(request.body, request.header.version())?;
    let mut response = InitProducerIdResponse::default();
    response.producer_id = -1;
    response.producer_epoch = -1;
    if let Some(error) = refusal(&asked) {
        response.error_code = error.code();
        return Ok(respond(&request.header, &response));
    }
    match core.producer_ids().allocate().await {
        Ok(id) => {
            response.producer_id = id.0;
            response.producer_epoch = 0;
        }
        Err(_) => response.error_code = ErrorCode::CoordinatorNotAvailable.code(),
    }
    Ok(respond(&request.header, &response))
}

fn refusal(asked: &InitProducerIdRequest) -> Option<ErrorCode> {
    match &asked.transactional_id {
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        Some(_) => Some(ErrorCode::TransactionalIdAuthorizationFailed),
        // One without the other makes no sense (Kafka's InitProducerIdRequest checks the same).
        None if (asked.producer_id < 0) != (asked.producer_epoch < 0) => {
            Some(ErrorCode::InvalidRequest)
        }
        None if asked.producer_id < -1 || asked.producer_epoch < -1 => {
            Some(ErrorCode::InvalidRequest)
        }
        None => None,
    }
}
