//! TCP: listeners and streams, real through the ring or simulated in memory.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use super::buf::IoBuf;
use super::ring_tcp::{RingListener, RingStream};
use super::sim_tcp::{SimListener, SimStream};

/// A socket that accepts connections.
pub enum TcpListener {
    /// Through this core's reactor.
    Ring(RingListener),
    /// In memory; made by [`super::sim_tcp::SimNet::listen`].
    Sim(SimListener),
}

impl TcpListener {
    /// Listens on `addr`. Several cores may listen on the same address (SO_REUSEPORT): the kernel
    /// spreads connections over them. Port 0 takes a free one.
    ///
    /// # Errors
    /// What the kernel says, for instance `AddrInUse`.
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        RingListener::bind(addr).map(TcpListener::Ring)
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpListener::Ring(listener) => listener.local_addr(),
            TcpListener::Sim(listener) => Ok(listener.local_addr()),
        }
    }

    /// The next connection and its peer; TCP_NODELAY is set.
    ///
    /// # Errors
    /// `ECONNABORTED` and the like concern one connection; `EMFILE`, `ENFILE`, `ENOMEM` last:
    /// wait a little before the next call.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            TcpListener::Ring(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TcpStream::Ring(stream), peer))
            }
            TcpListener::Sim(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TcpStream::Sim(stream), peer))
            }
        }
    }
}

/// A connection. Cheap to clone: clones share it, so that one task can receive while another
/// sends. It closes when the last clone is dropped and no operation is in flight.
#[derive(Clone)]
pub enum TcpStream {
    /// Through this core's reactor.
    Ring(RingStream),
    /// In memory.
    Sim(SimStream),
}

impl TcpStream {
    /// Connects to `addr`; TCP_NODELAY is set.
    ///
    /// # Errors
    /// What the kernel says, for instance `ConnectionRefused`.
    pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        RingStream::connect(addr).await.map(TcpStream::Ring)
    }

    /// Two ends of one simulated connection, which holds `capacity_bytes` in each direction.
    #[must_use]
    pub fn pair(capacity_bytes: usize) -> (TcpStream, TcpStream) {
        let (left, right) = SimStream::pair(capacity_bytes);
        (TcpStream::Sim(left), TcpStream::Sim(right))
    }

    /// Receives into the spare capacity of `buf`, at most `len_max` bytes, and appends what came;
    /// `Ok(0)` is the end of the stream. The buffer belongs to the operation until it comes back;
    /// if the future is dropped it is lost, with whatever had arrived in it.
    ///
    /// One task receives at a time.
    ///
    /// # Errors
    /// `InvalidInput` if there is no room; what the kernel says otherwise.
    pub async fn recv(&self, buf: BytesMut, len_max: usize) -> (io::Result<usize>, BytesMut) {
        match self {
            TcpStream::Ring(stream) => stream.recv(buf, len_max).await,
            TcpStream::Sim(stream) => stream.recv(buf, len_max).await,
        }
    }

    /// Receives into `buf[start..end]`: for bytes that are written to disk from where they came.
    /// Otherwise like [`TcpStream::recv`].
    ///
    /// # Errors
    /// `InvalidInput` if the range is empty or outside the buffer; what the kernel says otherwise.
    pub async fn recv_aligned(
        &self,
        buf: IoBuf,
        start: usize,
        end: usize,
    ) -> (io::Result<usize>, IoBuf) {
        if start >= end || end > buf.len() {
            return (Err(io::Error::from(io::ErrorKind::InvalidInput)), buf);
        }
        match self {
            TcpStream::Ring(stream) => stream.recv_aligned(buf, start, end).await,
            TcpStream::Sim(stream) => stream.recv_aligned(buf, start, end).await,
        }
    }

    /// Sends all of `slices` in order; nothing is copied together. One task sends at a time. If
    /// the future is dropped an unknown part has been sent: close the connection.
    ///
    /// # Errors
    /// What the kernel says, for instance `BrokenPipe`, `ConnectionReset`.
    pub async fn send_slices(&self, slices: Vec<Bytes>) -> io::Result<()> {
        match self {
            TcpStream::Ring(stream) => stream.send_slices(slices).await,
            TcpStream::Sim(stream) => stream.send_slices(slices).await,
        }
    }

    /// Bounds what the kernel takes before the peer has it (SO_SNDBUF; Linux doubles the number for
    /// its own needs). Unset, it grows with the connection's speed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_send_buffer_bytes(&self, bytes: i32) -> io::Result<()> {
        match self {
            TcpStream::Ring(stream) => stream.set_send_buffer_bytes(bytes),
            TcpStream::Sim(_) => Ok(()),
        }
    }

    /// Ends both directions: whoever waits in `recv` or `send_slices` is released, the peer sees
    /// the end of the stream. Harmless when repeated.
    pub fn shutdown(&self) {
        match self {
            TcpStream::Ring(stream) => stream.shutdown(),
            TcpStream::Sim(stream) => stream.shutdown(),
        }
    }

    /// The other end's address.
    ///
    /// # Errors
    /// `NotConnected` after the peer has gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpStream::Ring(stream) => stream.peer_addr(),
            TcpStream::Sim(stream) => Ok(stream.peer_addr()),
        }
    }
}
