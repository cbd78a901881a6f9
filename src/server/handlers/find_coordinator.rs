//! FindCoordinator, key 10: not advertised, because neither groups nor transactions are built. A
//! client that asks all the same gets a final error, never a retriable one, so that it stops with a
//! message instead of asking for ever.

use super::respond;
use crate::protocol::codec::messages::find_coordinator_response::Coordinator;
use crate::protocol::codec::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// First version that asks for several keys (KIP-699).
const BATCHED: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Refuses for good.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub fn handle(request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let asked: FindCoordinatorRequest = codec::decode(request.body, version)?;
    let (error, text) = match asked.key_type {
        GROUP => (ErrorCode::GroupAuthorizationFailed, "this broker serves no groups yet"),
        TRANSACTION => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            "this broker serves no transactions yet",
        ),
        _ => (ErrorCode::InvalidRequest, "unknown coordinator type"),
    };
    let mut response = FindCoordinatorResponse::default();
    if version < BATCHED {
        response.error_code = error.code();
        response.node_id = -1;
        response.port = -1;
        if version >= 1 {
            response.error_message = Some(StrBytes::from(text));
        }
    } else {
        for key in asked.coordinator_keys {
            let mut coordinator = Coordinator::default();
            coordinator.key = key;
            coordinator.node_id = -1;
            coordinator.port = -1;
            coordinator.error_code = error.code();
            coordinator.error_message = Some(StrBytes::from(text));
            response.coordinators.push(coordinator);
        }
    }
    Ok(respond(&request.header, &response))
}
