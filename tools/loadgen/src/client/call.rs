//! One request and its answer on a connection that does nothing else meanwhile: everything that is
//! not Produce or Fetch.

use bytes::Bytes;
use thalweg::io::tcp::TcpStream;
use thalweg::protocol::codec::messages::{KafkaRequest, RequestResponsePair};
use thalweg::protocol::codec::{decode_response, encode_request};
use thalweg::protocol::{ApiKey, ClientHeader, parse_response_header};

use super::frames::{Broken, FrameReader};

/// The client id of every request.
pub const CLIENT_ID: &str = "thalweg-bench";

const CORRELATION_ID: i32 = 0x7A1;

/// Sends `request` in `version` and waits for its answer.
///
/// # Errors
/// When the connection is of no more use. The answer's own error code is the caller's to read.
pub async fn call<R: RequestResponsePair>(
    stream: &TcpStream,
    reader: &mut FrameReader,
    version: i16,
    request: &R,
) -> Result<R::Response, Broken> {
    let unwritable = Broken::Nonsense("a request that cannot be written in this version");
    let api = ApiKey::from_code(<R as KafkaRequest>::API_KEY.value());
    let header =
        ClientHeader { version, correlation_id: CORRELATION_ID, client_id: Some(CLIENT_ID) };
    let (Some(api), Ok(frame)) = (api, encode_request(&header, request)) else {
        return Err(unwritable);
    };
    stream.send_slices(vec![frame]).await?;
    let place = reader.frame().await?;
    let frame = Bytes::copy_from_slice(&reader.bytes()[place.clone()]);
    reader.consume(&place);
    let unreadable = |_| Broken::Nonsense("an answer that cannot be read");
    let (correlation_id, body) = parse_response_header(&frame, api, version).map_err(unreadable)?;
    if correlation_id != CORRELATION_ID {
        return Err(Broken::Nonsense("an answer to another request"));
    }
    decode_response(body, version).map_err(unreadable)
}
