//! Kafka's wire by hand: bytes in, bytes out, legal or not. Independent of the broker's own codec,
//! so that both cannot share a misunderstanding.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for an answer; what takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// A frame, without its length.
    Frame(Vec<u8>),
    /// The broker closed the connection.
    Closed,
    /// Neither, within the patience.
    Nothing,
}

/// A connection for arbitrary bytes.
pub struct Wire {
    stream: TcpStream,
    correlation: i32,
}

impl Wire {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Wire { stream, correlation: 0 }
    }

    /// Shortens or lengthens the patience.
    pub fn with_patience(self, patience: Duration) -> Wire {
        self.stream.set_read_timeout(Some(patience)).expect("a time-out can be set");
        self
    }

    /// Waits until an answer has begun to arrive, and leaves it where it is.
    pub fn wait_for_answer(&self) {
        let arrived = self.stream.peek(&mut [0]).expect("an answer begins in time");
        assert_eq!(arrived, 1, "the broker does not close");
    }

    /// Sends bytes as they are. A broker that has closed already is not an error here.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame with this content.
    pub fn send_frame(&mut self, content: &[u8]) {
        let len = i32::try_from(content.len()).expect("test frames are small");
        let mut frame = len.to_be_bytes().to_vec();
        frame.extend_from_slice(content);
        self.send_raw(&frame);
    }

    /// Sends a request with a legal header; returns its correlation id.
    pub fn send(&mut self, api: i16, version: i16, flexible: bool, body: &[u8]) -> i32 {
        self.correlation += 1;
        let header = header(api, version, flexible, self.correlation);
        self.send_frame(&[header, body.to_vec()].concat());
        self.correlation
    }

    /// Waits for a frame.
    pub fn receive(&mut self) -> Got {
        let mut prefix = [0; 4];
        match self.stream.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(problem) if is_timeout(&problem) => return Got::Nothing,
            Err(_) => return Got::Closed,
        }
        let len = usize::try_from(i32::from_be_bytes(prefix)).expect("a length is not negative");
        let mut frame = vec![0; len];
        match self.stream.read_exact(&mut frame) {
            Ok(()) => Got::Frame(frame),
            Err(problem) => panic!("a frame was cut: {problem}"),
        }
    }

    /// Sends a request and returns the body of its answer, after the response header.
    pub fn call(&mut self, api: i16, version: i16, flexible: bool, body: &[u8]) -> Answer {
        let correlation = self.send(api, version, flexible, body);
        let Got::Frame(frame) = self.receive() else {
            panic!("no answer to api {api} version {version}")
        };
        let mut answer = Answer::new(frame);
        assert_eq!(answer.i32(), correlation, "answers come in order");
        if flexible && api != 18 {
            assert_eq!(answer.u8(), 0, "no tagged fields in the header");
        }
        answer
    }

    /// As [`Wire::call`], but says what came if it is no answer.
    pub fn try_call(&mut self, api: i16, version: i16, flexible: bool, body: &[u8]) -> Got {
        self.send(api, version, flexible, body);
        self.receive()
    }
}

fn is_timeout(problem: &std::io::Error) -> bool {
    matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A request header, version 1 or 2, with client id "test".
pub fn header(api: i16, version: i16, flexible: bool, correlation: i32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&api.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&correlation.to_be_bytes());
    out.extend_from_slice(&4_i16.to_be_bytes());
    out.extend_from_slice(b"test");
    if flexible {
        out.push(0);
    }
    out
}

/// Writes bodies.
#[derive(Clone, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// Nothing yet.
    pub fn new() -> Body {
        Body::default()
    }
    /// One byte.
    pub fn i8(mut self, value: i8) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    /// Two bytes.
    pub fn i16(mut self, value: i16) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    /// Four bytes.
    pub fn i32(mut self, value: i32) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    /// Eight bytes.
    pub fn i64(mut self, value: i64) -> Body {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    /// A string with a two-byte length.
    pub fn string(self, text: impl AsRef<[u8]>) -> Body {
        let text = text.as_ref();
        let len = i16::try_from(text.len()).expect("test strings are short");
        self.i16(len).raw(text)
    }
    /// A null string.
    pub fn null_string(self) -> Body {
        self.i16(-1)
    }
    /// Bytes with a four-byte length.
    pub fn bytes(self, bytes: &[u8]) -> Body {
        let len = i32::try_from(bytes.len()).expect("test bytes are few");
        self.i32(len).raw(bytes)
    }
    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Body {
        self.0.extend_from_slice(bytes);
        self
    }
    /// A compact string, shorter than 127 bytes.
    pub fn compact(self, text: &str) -> Body {
        let len = u8::try_from(text.len() + 1).expect("test strings are short");
        self.raw(&[len]).raw(text.as_bytes())
    }
    /// A tagged-field section without fields.
    pub fn no_tags(self) -> Body {
        self.raw(&[0])
    }
}

/// Reads answers.
pub struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    /// Reads a frame from its correlation id on.
    pub fn new(frame: Vec<u8>) -> Answer {
        Answer { bytes: frame, at: 0 }
    }
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let part = self.bytes[self.at..self.at + N].try_into().expect("the answer is long enough");
        self.at += N;
        part
    }
    /// Skips bytes.
    pub fn skip(&mut self, count: usize) -> &mut Answer {
        self.at += count;
        self
    }
    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    /// Two bytes.
    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }
    /// Four bytes.
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }
    /// Eight bytes.
    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }
    /// A string with a two-byte length.
    pub fn string(&mut self) -> String {
        let len = usize::try_from(self.i16()).expect("not null");
        let text = String::from_utf8(self.bytes[self.at..self.at + len].to_vec()).expect("UTF-8");
        self.at += len;
        text
    }
    /// A string with a two-byte length, or null.
    pub fn nullable_string(&mut self) -> Option<String> {
        if self.bytes[self.at..].starts_with(&(-1_i16).to_be_bytes()) {
            self.at += 2;
            return None;
        }
        Some(self.string())
    }
    /// What has not been read.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}
