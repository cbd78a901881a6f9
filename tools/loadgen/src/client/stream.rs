//! A connection, plain or under TLS. Cheap to clone: clones share it, so that one task can receive
//! while another sends.

use std::io;

use bytes::{Bytes, BytesMut};
use thalweg::io::tcp::TcpStream;

use super::tls::TlsStream;

/// A connection to a broker.
#[derive(Clone)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Under TLS.
    Tls(TlsStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream::Plain(stream)
    }
}

impl Stream {
    /// Receives at most `len_max` bytes and appends them to `buf`; `Ok(0)` is the end. One task
    /// receives at a time; if the future is dropped, the connection is of no more use.
    ///
    /// # Errors
    /// What the kernel says, or what is wrong with the peer's TLS.
    pub async fn recv(&self, buf: BytesMut, len_max: usize) -> (io::Result<usize>, BytesMut) {
        match self {
            Stream::Plain(stream) => stream.recv(buf, len_max).await,
            Stream::Tls(stream) => stream.recv(buf, len_max).await,
        }
    }

    /// Sends all of `slices` in order. One task sends at a time; if the future is dropped, the
    /// connection is of no more use.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send_slices(&self, slices: Vec<Bytes>) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.send_slices(slices).await,
            Stream::Tls(stream) => stream.send_slices(&slices).await,
        }
    }
}
