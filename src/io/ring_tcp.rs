//! Sockets driven by this core's reactor.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use io_uring::{cqueue, opcode, types};

use super::buf::IoBuf;
use super::reactor::{Completion, Memory, Message, Reactor, progress};
use super::sockaddr::SockAddr;

/// Connections that the kernel completes while we are busy.
const BACKLOG: i32 = 1024;

/// The kernel's IOV_MAX.
const VECTORS_PER_SEND_MAX: usize = 1024;

/// The largest count of one request; the kernel itself stops at 2 GiB - 4 KiB.
const REQUEST_BYTES_MAX: usize = 1 << 30;

/// `MSG_WAITALL`: the kernel itself continues a short send, which saves a turn for each.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// `IORING_RECVSEND_POLL_FIRST`: wait for readiness before the first attempt.
const POLL_FIRST: u16 = 1;

/// A listening socket of one core.
pub struct RingListener {
    socket: Rc<OwnedFd>,
}

impl RingListener {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<RingListener> {
        let socket = tcp_socket(addr)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        // Accepted sockets inherit it: no system call for each connection.
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        let addr = SockAddr::new(addr);
        // SAFETY: plain system call with a live address of the given length.
        check(unsafe { libc::bind(socket.as_raw_fd(), addr.as_ptr(), addr.len()) })?;
        // SAFETY: plain system call.
        check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        Ok(RingListener { socket: Rc::new(socket) })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        let mut addr = SockAddr::room();
        let (out, len) = (addr.as_mut_ptr(), addr.len_mut());
        // SAFETY: plain system call; the room is as large as the length says.
        check(unsafe { libc::getsockname(self.socket.as_raw_fd(), out, len) })?;
        addr.get()
    }

    pub(super) async fn accept(&self) -> io::Result<(RingStream, SocketAddr)> {
        let mut addr = Box::new(SockAddr::room());
        let (out, len) = (addr.as_mut_ptr(), addr.len_mut());
        let request = opcode::Accept::new(types::Fd(self.socket.as_raw_fd()), out, len)
            .flags(libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: the pointers lead into the boxed address, which the operation keeps.
        let op = unsafe {
            Reactor::current().submit(request, Memory::Accepted(addr), Some(self.socket.clone()))
        };
        let (socket, memory) = op.await.descriptor()?;
        let Memory::Accepted(addr) = memory else { unreachable!("memory comes back as it went") };
        Ok((RingStream::new(socket), addr.get()?))
    }
}

/// A connection of one core.
#[derive(Clone)]
pub struct RingStream {
    inner: Rc<Stream>,
}

struct Stream {
    socket: Rc<OwnedFd>,
    /// Whether the last receive left bytes behind: if not, the next one waits for readiness first
    /// instead of trying in vain.
    maybe_readable: Cell<bool>,
}

impl RingStream {
    fn new(socket: OwnedFd) -> RingStream {
        let maybe_readable = Cell::new(true);
        RingStream { inner: Rc::new(Stream { socket: Rc::new(socket), maybe_readable }) }
    }

    pub(super) async fn connect(addr: SocketAddr) -> io::Result<RingStream> {
        let socket = Rc::new(tcp_socket(addr)?);
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        let addr = Box::new(SockAddr::new(addr));
        let request =
            opcode::Connect::new(types::Fd(socket.as_raw_fd()), addr.as_ptr(), addr.len()).build();
        // SAFETY: the pointer leads into the boxed address, which the operation keeps.
        let op = unsafe {
            Reactor::current().submit(request, Memory::Address(addr), Some(socket.clone()))
        };
        op.await.result()?;
        let maybe_readable = Cell::new(true);
        Ok(RingStream { inner: Rc::new(Stream { socket, maybe_readable }) })
    }

    pub(super) async fn recv(
        &self,
        mut buf: BytesMut,
        len_max: usize,
    ) -> (io::Result<usize>, BytesMut) {
        let spare = buf.spare_capacity_mut();
        let len = spare.len().min(len_max);
        if len == 0 {
            return (Err(io::Error::from(io::ErrorKind::InvalidInput)), buf);
        }
        let start = spare.as_mut_ptr().cast::<u8>();
        // SAFETY: `start` leads to `len` bytes of the buffer's heap memory, which does not move
        // when the buffer does and which nobody else may touch.
        let completion = unsafe { self.recv_raw(start, len, Memory::Growing(buf)) }.await;
        let (result, memory) = completion.split();
        let Memory::Growing(mut buf) = memory else { unreachable!("memory comes back as it went") };
        let result = result.map(|count| count as usize);
        if let Ok(count) = result {
            assert!(count <= len, "the kernel wrote no more than it was offered");
            // SAFETY: the kernel has initialised `count` bytes after the old length.
            unsafe { buf.set_len(buf.len() + count) };
        }
        (result, buf)
    }

    pub(super) async fn recv_aligned(
        &self,
        mut buf: IoBuf,
        start: usize,
        end: usize,
    ) -> (io::Result<usize>, IoBuf) {
        let place = &mut buf[start..end];
        let (ptr, len) = (place.as_mut_ptr(), place.len());
        // SAFETY: `ptr` leads to `len` bytes of the buffer, which does not move and which nobody
        // else may touch.
        let completion = unsafe { self.recv_raw(ptr, len, Memory::Aligned(buf)) }.await;
        let (result, memory) = completion.split();
        let Memory::Aligned(buf) = memory else { unreachable!("memory comes back as it went") };
        (result.map(|count| count as usize), buf)
    }

    /// # Safety
    /// `memory` owns `len` bytes at `start`, for as long as it lives and wherever it is moved.
    async unsafe fn recv_raw(&self, start: *mut u8, len: usize, memory: Memory) -> Completion {
        let len = u32::try_from(len.min(REQUEST_BYTES_MAX)).expect("clamped");
        let priority = if self.inner.maybe_readable.get() { 0 } else { POLL_FIRST };
        let request = opcode::Recv::new(self.fd(), start, len).ioprio(priority).build();
        // SAFETY: the caller's promise.
        let op = unsafe { Reactor::current().submit(request, memory, Some(self.socket())) };
        let completion = op.await;
        self.inner.maybe_readable.set(cqueue::sock_nonempty(completion.flags()));
        completion
    }

    pub(super) async fn send_slices(&self, mut slices: Vec<Bytes>) -> io::Result<()> {
        if slices.len() == 1 {
            return self.send_one(slices.remove(0)).await;
        }
        let mut message = Message::new(slices);
        let count = message.vector_count();
        let mut first = 0;
        while first < count {
            let header = message.aim(first, VECTORS_PER_SEND_MAX);
            let flags = SEND_FLAGS.cast_unsigned();
            let request = opcode::SendMsg::new(self.fd(), header).flags(flags).build();
            // SAFETY: the header is in the box, the vectors on the heap, the bytes in the slices;
            // the operation keeps all of them.
            let op = unsafe {
                Reactor::current().submit(request, Memory::Message(message), Some(self.socket()))
            };
            let (result, memory) = op.await.split();
            let Memory::Message(back) = memory else {
                unreachable!("memory comes back as it went")
            };
            message = back;
            first = message.advance(first, progress(result)?);
        }
        Ok(())
    }

    async fn send_one(&self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let len = u32::try_from(bytes.len().min(REQUEST_BYTES_MAX)).expect("clamped");
            let request =
                opcode::Send::new(self.fd(), bytes.as_ptr(), len).flags(SEND_FLAGS).build();
            // SAFETY: the pointer leads to the bytes, which the operation keeps.
            let op = unsafe {
                Reactor::current().submit(request, Memory::Shared(bytes), Some(self.socket()))
            };
            let (result, memory) = op.await.split();
            let Memory::Shared(back) = memory else { unreachable!("memory comes back as it went") };
            bytes = back;
            let sent = progress(result)?;
            bytes = bytes.split_off(sent.min(bytes.len()));
        }
        Ok(())
    }

    pub(super) fn shutdown(&self) {
        // SAFETY: plain system call. It fails only if the peer has gone already.
        unsafe { libc::shutdown(self.inner.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        let mut addr = SockAddr::room();
        let (out, len) = (addr.as_mut_ptr(), addr.len_mut());
        // SAFETY: plain system call; the room is as large as the length says.
        check(unsafe { libc::getpeername(self.inner.socket.as_raw_fd(), out, len) })?;
        addr.get()
    }

    /// The descriptor, for socket options.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.socket.as_fd()
    }

    pub(super) fn set_send_buffer_bytes(&self, bytes: i32) -> io::Result<()> {
        set_option(&self.inner.socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
    }

    /// Whether TCP_NODELAY is set.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_nodelay(&self) -> io::Result<bool> {
        let mut value: i32 = 0;
        let mut len = size_of::<i32>() as libc::socklen_t;
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let fd = self.inner.socket.as_raw_fd();
        let out = (&raw mut value).cast();
        // SAFETY: plain system call with room for its result.
        check(unsafe { libc::getsockopt(fd, level, name, out, &raw mut len) })?;
        Ok(value != 0)
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.inner.socket.as_raw_fd())
    }

    fn socket(&self) -> Rc<OwnedFd> {
        self.inner.socket.clone()
    }
}

/// A blocking socket on purpose: the ring waits for it; a non-blocking one would fail with EAGAIN.
fn tcp_socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let domain = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain system call.
    let raw = check(unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn set_option(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: plain system call with a live value of the given length.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    check(result).map(|_| ())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
