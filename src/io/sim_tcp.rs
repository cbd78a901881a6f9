//! Sockets in memory: what a test connects client and server with, in one thread, without a
//! runtime.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::buf::IoBuf;
use super::tcp::{TcpListener, TcpStream};
use crate::base::signal::Event;

/// One direction of a simulated connection. `bytes` never exceeds `capacity_bytes`.
struct Pipe {
    chunks: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    capacity_bytes: usize,
    closed: Cell<bool>,
    changed: Event,
}

impl Pipe {
    fn new(capacity_bytes: usize) -> Rc<Pipe> {
        Rc::new(Pipe {
            chunks: RefCell::new(VecDeque::new()),
            bytes: Cell::new(0),
            capacity_bytes: capacity_bytes.max(1),
            closed: Cell::new(false),
            changed: Event::new(),
        })
    }

    async fn write(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.closed.get() {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            let room = self.capacity_bytes - self.bytes.get();
            if room == 0 {
                self.changed.wait().await;
                continue;
            }
            let part = bytes.split_to(room.min(bytes.len()));
            self.bytes.set(self.bytes.get() + part.len());
            self.chunks.borrow_mut().push_back(part);
            self.changed.notify();
        }
        Ok(())
    }

    /// What has arrived, at most `len_max` bytes of it; empty at the end of the stream.
    async fn read(&self, len_max: usize) -> Bytes {
        loop {
            if let Some(part) = self.take(len_max) {
                self.changed.notify();
                return part;
            }
            if self.closed.get() {
                return Bytes::new();
            }
            self.changed.wait().await;
        }
    }

    fn take(&self, len_max: usize) -> Option<Bytes> {
        let mut chunks = self.chunks.borrow_mut();
        let front = chunks.front_mut()?;
        let part = front.split_to(front.len().min(len_max));
        if !front.has_remaining() {
            chunks.pop_front();
        }
        self.bytes.set(self.bytes.get() - part.len());
        Some(part)
    }

    fn close(&self) {
        self.closed.set(true);
        self.changed.notify();
    }
}

/// One end of a simulated connection.
#[derive(Clone)]
pub struct SimStream {
    end: Rc<End>,
}

struct End {
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
    peer: SocketAddr,
}

impl Drop for End {
    fn drop(&mut self) {
        self.incoming.close();
        self.outgoing.close();
    }
}

impl SimStream {
    pub(super) fn pair(capacity_bytes: usize) -> (SimStream, SimStream) {
        let left: SocketAddr = (Ipv4Addr::LOCALHOST, 1).into();
        let right: SocketAddr = (Ipv4Addr::LOCALHOST, 2).into();
        SimStream::pair_between(capacity_bytes, left, right)
    }

    fn pair_between(
        capacity_bytes: usize,
        left: SocketAddr,
        right: SocketAddr,
    ) -> (SimStream, SimStream) {
        let (to_left, to_right) = (Pipe::new(capacity_bytes), Pipe::new(capacity_bytes));
        let at_left = End { incoming: to_left.clone(), outgoing: to_right.clone(), peer: right };
        let at_right = End { incoming: to_right, outgoing: to_left, peer: left };
        (SimStream { end: Rc::new(at_left) }, SimStream { end: Rc::new(at_right) })
    }

    pub(super) async fn recv(
        &self,
        mut buf: BytesMut,
        len_max: usize,
    ) -> (io::Result<usize>, BytesMut) {
        let room = (buf.capacity() - buf.len()).min(len_max);
        if room == 0 {
            return (Err(io::Error::from(io::ErrorKind::InvalidInput)), buf);
        }
        let part = self.end.incoming.read(room).await;
        buf.put_slice(&part);
        (Ok(part.len()), buf)
    }

    pub(super) async fn recv_aligned(
        &self,
        mut buf: IoBuf,
        start: usize,
        end: usize,
    ) -> (io::Result<usize>, IoBuf) {
        let part = self.end.incoming.read(end - start).await;
        buf[start..start + part.len()].copy_from_slice(&part);
        (Ok(part.len()), buf)
    }

    pub(super) async fn send_slices(&self, slices: Vec<Bytes>) -> io::Result<()> {
        for slice in slices {
            self.end.outgoing.write(slice).await?;
        }
        Ok(())
    }

    pub(super) fn shutdown(&self) {
        self.end.incoming.close();
        self.end.outgoing.close();
    }

    pub(super) fn peer_addr(&self) -> SocketAddr {
        self.end.peer
    }
}

/// A network in memory: addresses and who listens there. Cheap to clone.
#[derive(Clone, Default)]
pub struct SimNet {
    state: Rc<NetState>,
}

#[derive(Default)]
struct NetState {
    listeners: RefCell<HashMap<SocketAddr, Weak<Queue>>>,
    ports: Cell<u16>,
}

/// Connections that wait to be accepted.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<(SimStream, SocketAddr)>>,
    arrived: Event,
}

/// Connections that may wait to be accepted; the next one is refused.
const ACCEPT_QUEUE_MAX: usize = 1024;

/// A simulated listener. The address is free again when it is dropped.
pub struct SimListener {
    addr: SocketAddr,
    queue: Rc<Queue>,
}

impl SimNet {
    /// A network in which nobody listens.
    #[must_use]
    pub fn new() -> SimNet {
        SimNet::default()
    }

    /// Listens on `addr`.
    ///
    /// # Errors
    /// `AddrInUse` if somebody does already.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        let mut listeners = self.state.listeners.borrow_mut();
        if listeners.get(&addr).is_some_and(|queue| queue.strong_count() > 0) {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        let queue = Rc::new(Queue::default());
        listeners.insert(addr, Rc::downgrade(&queue));
        Ok(TcpListener::Sim(SimListener { addr, queue }))
    }

    /// Connects to `addr`; each direction holds `capacity_bytes`.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody listens there or too many wait already.
    pub fn connect(&self, addr: SocketAddr, capacity_bytes: usize) -> io::Result<TcpStream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let queue = self.state.listeners.borrow().get(&addr).and_then(Weak::upgrade);
        let queue = queue.ok_or_else(refused)?;
        if queue.waiting.borrow().len() >= ACCEPT_QUEUE_MAX {
            return Err(refused());
        }
        let port = self.state.ports.get().wrapping_add(1).max(1024);
        self.state.ports.set(port);
        let from: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        let (client, server) = SimStream::pair_between(capacity_bytes, from, addr);
        queue.waiting.borrow_mut().push_back((server, from));
        queue.arrived.notify();
        Ok(TcpStream::Sim(client))
    }
}

impl SimListener {
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        loop {
            if let Some(next) = self.queue.waiting.borrow_mut().pop_front() {
                return Ok(next);
            }
            self.queue.arrived.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};

    async fn receive_all(stream: &TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (count, buf) = stream.recv(BytesMut::with_capacity(5), 3).await;
            if count.expect("a simulated stream does not fail") == 0 {
                return all;
            }
            all.extend_from_slice(&buf);
        }
    }

    #[test]
    fn a_pair_carries_bytes_in_order_through_a_pipe_that_is_smaller() {
        let (left, right) = TcpStream::pair(4);
        let content: Vec<u8> = (0..100).collect();
        let slices = vec![Bytes::from(content[..30].to_vec()), Bytes::from(content[30..].to_vec())];
        let got = block_on(async {
            let send = async {
                left.send_slices(slices).await.expect("the peer receives");
                left.shutdown();
            };
            zip(send, receive_all(&right)).await.1
        });
        assert_eq!(got, content);
    }

    #[test]
    fn a_sender_waits_for_room_and_shutdown_releases_it() {
        let (left, right) = TcpStream::pair(4);
        block_on(async {
            let mut send = Box::pin(left.send_slices(vec![Bytes::from_static(b"12345678")]));
            assert!(poll_once(&mut send).await.is_none());
            right.shutdown();
            let error = send.await.expect_err("nobody will receive");
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn dropping_one_end_ends_the_stream_after_what_was_sent() {
        let (left, right) = TcpStream::pair(16);
        block_on(async {
            left.send_slices(vec![Bytes::from_static(b"bye")]).await.expect("there is room");
            drop(left);
            assert_eq!(receive_all(&right).await, b"bye");
        });
    }

    #[test]
    fn a_simulated_listener_hands_out_who_connected() {
        let net = SimNet::new();
        let addr: SocketAddr = (Ipv4Addr::LOCALHOST, 9092).into();
        assert!(net.connect(addr, 8).is_err());
        let listener = net.listen(addr).expect("the address is free");
        assert!(net.listen(addr).is_err());
        let client = net.connect(addr, 8).expect("somebody listens");
        block_on(async {
            let (server, from) = listener.accept().await.expect("one connection waits");
            assert_eq!(server.peer_addr().expect("known"), from);
            assert_eq!(client.peer_addr().expect("known"), addr);
        });
        drop(listener);
        assert!(net.connect(addr, 8).is_err());
    }
}
