//! DescribeCluster, key 60, versions 0-2.
//!
//! v1 endpoint type (KIP-919): only brokers are described; v2 fenced brokers: there is none.

use std::rc::Rc;

use super::respond;
use super::topics::CLUSTER_OPERATIONS;
use crate::protocol::codec::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::codec::messages::{DescribeClusterRequest, DescribeClusterResponse};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// Kafka's number for "describe the brokers".
const ENDPOINT_BROKERS: i8 = 1;
/// Kafka's number for "describe the controllers".
const ENDPOINT_CONTROLLERS: i8 = 2;

/// Describes the one broker.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let asked: DescribeClusterRequest = codec::decode(request.body, version)?;
    let broker = core.broker();
    let mut response = DescribeClusterResponse::default();
    if version >= 1 && asked.endpoint_type != ENDPOINT_BROKERS {
        let (error, text) = if asked.endpoint_type == ENDPOINT_CONTROLLERS {
            (
                ErrorCode::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER",
            )
        } else {
            (ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type")
        };
        response.error_code = error.code();
        response.error_message = Some(StrBytes::from(text));
        return Ok(respond(&request.header, &response));
    }
    let mut shown = DescribeClusterBroker::default();
    shown.broker_id = broker.id.0;
    shown.host = StrBytes::from(&*broker.host);
    shown.port = i32::from(broker.port);
    response.cluster_id = StrBytes::from(&*broker.cluster_id);
    response.controller_id = broker.id.0;
    response.brokers = vec![shown];
    if asked.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    Ok(respond(&request.header, &response))
}
