//! ApiVersions, key 18, versions 0-4; any other version is answered in the form of version 0
//! (KIP-511).

use std::rc::Rc;

use crate::protocol::Malformed;
use crate::protocol::api_versions::{ApiVersionsRequest, Features, SupportedFeature};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// What this broker can finalize. Groups and transactions follow when they are built.
const SUPPORTED: &[SupportedFeature] = &[];

/// Says which APIs are served.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let parsed = ApiVersionsRequest::parse(&request.header, &request.body)?;
    let finalized_epoch = i64::from(core.image().start_count());
    let features = Features { supported: SUPPORTED, finalized_epoch, finalized: &[] };
    match parsed.encode_response(request.header.correlation_id(), 0, &features) {
        Ok(frame) => Ok(Answer::Send(vec![frame])),
        Err(problem) => Ok(Answer::Close(format!("ApiVersions: {problem}"))),
    }
}
