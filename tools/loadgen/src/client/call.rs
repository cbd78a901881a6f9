//! One request and its answer on a connection that does nothing else meanwhile: everything that is
//! not Produce or Fetch.

use bytes::Bytes;
use thalweg::protocol::ClientHeader;
use thalweg::protocol::codec::messages::RequestResponsePair;
use thalweg::protocol::codec::{decode_response_frame, encode_request};

use super::frames::{Broken, FrameReader};
use super::stream::Stream;

/// The client id of every request.
pub const CLIENT_ID: &str = "thalweg-bench";

const CORRELATION_ID: i32 = 0x7A1;

/// Sends `request` in `version` and waits for its answer.
///
/// # Errors
/// When the connection is of no more use. The answer's own error code is the caller's to read.
pub async fn call<R: RequestResponsePair>(
    stream: &Stream,
    reader: &mut FrameReader,
    version: i16,
    request: &R,
) -> Result<R::Response, Broken> {
    let header =
        ClientHeader { version, correlation_id: CORRELATION_ID, client_id: Some(CLIENT_ID) };
    let frame = encode_request(&header, request)
        .map_err(|_| Broken::Nonsense("a request that cannot be written in this version"))?;
    stream.send_slices(vec![frame]).await?;
    let place = reader.frame().await?;
    let frame = Bytes::copy_from_slice(&reader.bytes()[place.clone()]);
    reader.consume(&place);
    let (correlation_id, answer) = decode_response_frame(&frame, version)
        .map_err(|_| Broken::Nonsense("an answer that cannot be read"))?;
    if correlation_id != CORRELATION_ID {
        return Err(Broken::Nonsense("an answer to another request"));
    }
    Ok(answer)
}
