//! A connection that speaks frames, and requests in the encoding of the `kafka-protocol` crate,
//! which nobody here wrote. It decodes answers of brokers that this program started, not bytes
//! from a network.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};

/// Longest answer that is read, in bytes.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What came back for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A frame without its length.
    Frame(Bytes),
    /// The broker closed or reset the connection.
    Closed,
    /// Nothing within the time.
    Silent,
}

/// A connection to a broker.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub fn open(address: &str) -> Result<Connection, String> {
        let mut addresses = address.to_socket_addrs().map_err(|error| error.to_string())?;
        let address = addresses.next().ok_or("no address")?;
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))
            .map_err(|error| format!("connecting to {address}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Connection { stream })
    }

    /// Sends the bytes as they are; an error shows in the next [`Connection::read`].
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends one frame: a length and the bytes.
    pub fn send(&mut self, frame: &[u8]) {
        let mut bytes = Vec::with_capacity(frame.len() + 4);
        bytes.extend((frame.len() as u32).to_be_bytes());
        bytes.extend(frame);
        self.send_bytes(&bytes);
    }

    /// Reads one frame, waiting at most `wait` for each of its parts.
    pub fn read(&mut self, wait: Duration) -> Reply {
        if self.stream.set_read_timeout(Some(wait)).is_err() {
            return Reply::Closed;
        }
        let mut prefix = [0; 4];
        if let Err(reply) = self.fill(&mut prefix) {
            return reply;
        }
        let len = u32::from_be_bytes(prefix) as usize;
        if len > FRAME_BYTES_MAX {
            return Reply::Closed;
        }
        let mut frame = vec![0; len];
        match self.fill(&mut frame) {
            Ok(()) => Reply::Frame(Bytes::from(frame)),
            Err(reply) => reply,
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Reply> {
        self.stream.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Reply::Silent,
            _ => Reply::Closed,
        })
    }
}

/// A request header: v2 (with an empty set of tags) if `flexible`, else v1.
pub fn header(key: i16, version: i16, correlation: i32, flexible: bool) -> Vec<u8> {
    const CLIENT_ID: &[u8] = b"thalweg-compare";
    let mut header = Vec::new();
    header.extend(key.to_be_bytes());
    header.extend(version.to_be_bytes());
    header.extend(correlation.to_be_bytes());
    header.extend((CLIENT_ID.len() as i16).to_be_bytes());
    header.extend(CLIENT_ID);
    if flexible {
        header.push(0);
    }
    header
}

/// The body of a request.
pub fn body<R: Request>(version: i16, request: &R) -> Result<Vec<u8>, String> {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).map_err(|error| format!("encoding: {error:#}"))?;
    Ok(body.to_vec())
}

/// A whole frame: header and body.
pub fn frame<R: Request>(version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = header(R::KEY, version, correlation, R::header_version(version) >= 2);
    frame.extend(body);
    frame
}

/// The answer in a frame; all of it must be used up.
pub fn decode<R: Request>(
    version: i16,
    correlation: i32,
    frame: &Bytes,
) -> Result<R::Response, String> {
    let mut rest = frame.clone();
    if rest.len() < 4 || rest.get_i32() != correlation {
        return Err("another correlation id".to_owned());
    }
    if <R::Response as HeaderVersion>::header_version(version) >= 1
        && (rest.is_empty() || rest.get_u8() != 0)
    {
        return Err("tags in the header".to_owned());
    }
    let response = R::Response::decode(&mut rest, version)
        .map_err(|error| format!("undecodable: {error:#}"))?;
    if rest.is_empty() { Ok(response) } else { Err(format!("{} bytes too many", rest.len())) }
}
