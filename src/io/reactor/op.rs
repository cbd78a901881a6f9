//! One operation in flight: the memory it lends to the kernel, and the future of its result.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::Reactor;
use super::slab::Key;
use crate::io::buf::IoBuf;
use crate::io::sockaddr::SockAddr;

/// Memory that an operation lends to the kernel. Moving one of these never moves what it points
/// to, which is what makes it safe to keep them in a growing table.
#[expect(dead_code, reason = "held for the kernel, not for us")]
pub(in crate::io) enum Memory {
    /// The operation touches no memory of ours.
    None,
    /// Bytes that the kernel reads.
    Shared(Bytes),
    /// Aligned memory that the kernel writes.
    Aligned(IoBuf),
    /// Memory whose spare capacity the kernel writes.
    Growing(BytesMut),
    /// A gather list that the kernel reads.
    Message(Box<Message>),
    /// Paths that the kernel reads.
    Paths(CString, Option<CString>),
    /// An address that the kernel reads or writes.
    Address(Box<SockAddr>),
    /// The address of an accepted peer; a successful result is a new descriptor.
    Accepted(Box<SockAddr>),
    /// The path of a file to open; a successful result is a new descriptor.
    Opened(CString),
}

/// A gather list: headers and vectors that point into `slices`.
pub(in crate::io) struct Message {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
    /// Held, never touched, while the kernel reads through the vectors.
    _slices: Vec<Bytes>,
}

impl Message {
    /// A message over all of `slices`; [`Message::seek`] chooses what is sent next.
    pub(in crate::io) fn new(slices: Vec<Bytes>) -> Box<Message> {
        let vectors = slices
            .iter()
            .filter(|slice| !slice.is_empty())
            .map(|slice| libc::iovec {
                iov_base: slice.as_ptr().cast_mut().cast(),
                iov_len: slice.len(),
            })
            .collect();
        // SAFETY: msghdr is plain data for which zero is the empty message.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Message { header, vectors, _slices: slices })
    }

    /// Points the header at the vectors from `first` on, at most `run` of them.
    pub(in crate::io) fn aim(&mut self, first: usize, run: usize) -> *const libc::msghdr {
        let end = self.vectors.len().min(first + run);
        let window = &mut self.vectors[first..end];
        self.header.msg_iov = window.as_mut_ptr();
        self.header.msg_iovlen = window.len() as _;
        &raw const self.header
    }

    /// The vectors from `first` on, at most `run` of them, for a file.
    pub(in crate::io) fn vectors(&self, first: usize, run: usize) -> &[libc::iovec] {
        &self.vectors[first..self.vectors.len().min(first + run)]
    }

    /// Notes that `sent` bytes from vector `first` on are gone; returns the next vector to send.
    pub(in crate::io) fn advance(&mut self, mut first: usize, mut sent: usize) -> usize {
        while let Some(vector) = self.vectors.get_mut(first) {
            if sent < vector.iov_len {
                vector.iov_base = vector.iov_base.cast::<u8>().wrapping_add(sent).cast();
                vector.iov_len -= sent;
                break;
            }
            sent -= vector.iov_len;
            first += 1;
        }
        first
    }

    /// How many vectors there are.
    pub(in crate::io) fn vector_count(&self) -> usize {
        self.vectors.len()
    }
}

/// How much a send or a write moved; nothing at all would loop for ever.
pub(in crate::io) fn progress(result: io::Result<u32>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)),
        Ok(moved) => Ok(moved as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// What the kernel says about a finished operation.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    /// As of the system call: a count or descriptor, or a negative `errno`.
    pub(super) result: i32,
    /// `IORING_CQE_F_*`.
    pub(super) flags: u32,
}

/// What is left of an operation that the kernel is done with.
pub(in crate::io) struct Completion {
    pub(super) outcome: Outcome,
    pub(super) memory: Memory,
    pub(super) file: Option<Rc<OwnedFd>>,
}

impl Completion {
    /// The result as the system call would have given it, and the memory.
    pub(in crate::io) fn split(mut self) -> (io::Result<u32>, Memory) {
        let memory = std::mem::replace(&mut self.memory, Memory::None);
        self.file = None;
        (to_result(self.outcome.result), memory)
    }

    /// `IORING_CQE_F_*` of the completion.
    pub(in crate::io) fn flags(&self) -> u32 {
        self.outcome.flags
    }

    /// The result alone.
    pub(in crate::io) fn result(self) -> io::Result<u32> {
        self.split().0
    }

    /// The new descriptor of an accept or open, and the memory.
    pub(in crate::io) fn descriptor(self) -> io::Result<(OwnedFd, Memory)> {
        let yields = matches!(self.memory, Memory::Accepted(_) | Memory::Opened(_));
        let raw = self.outcome.result;
        let (result, memory) = self.split();
        result?;
        if !yields {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: the kernel has just made this descriptor for us; `split` disarmed our Drop, so
        // this is its only owner.
        Ok((unsafe { OwnedFd::from_raw_fd(raw) }, memory))
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        // An accept or open that nobody waited for must not leak its descriptor.
        let result = self.outcome.result;
        if result >= 0 && matches!(self.memory, Memory::Accepted(_) | Memory::Opened(_)) {
            // SAFETY: the kernel made it for this operation, and nobody has taken it.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }
}

fn to_result(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// The future of one operation. Dropping it cancels the operation; what it lent to the kernel
/// stays with the reactor until the kernel has let go.
pub(in crate::io) struct Op {
    reactor: Rc<Reactor>,
    state: OpState,
}

enum OpState {
    InFlight(Key),
    Refused(Option<Completion>),
    Finished,
}

impl Op {
    pub(super) fn in_flight(reactor: Rc<Reactor>, key: Key) -> Op {
        Op { reactor, state: OpState::InFlight(key) }
    }

    /// An operation that was never given to the kernel.
    pub(super) fn refused(reactor: Rc<Reactor>, memory: Memory, errno: i32) -> Op {
        let completion =
            Completion { outcome: Outcome { result: -errno, flags: 0 }, memory, file: None };
        Op { reactor, state: OpState::Refused(Some(completion)) }
    }
}

impl Future for Op {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        let completion = match &mut self.state {
            OpState::InFlight(key) => {
                let key = *key;
                match self.reactor.poll_op(key, cx.waker()) {
                    Some(completion) => completion,
                    None => return Poll::Pending,
                }
            }
            OpState::Refused(completion) => {
                completion.take().expect("a finished operation is not polled")
            }
            OpState::Finished => unreachable!("a finished operation is not polled"),
        };
        self.state = OpState::Finished;
        Poll::Ready(completion)
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let OpState::InFlight(key) = self.state {
            self.reactor.abandon_op(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_advances_over_whole_and_partial_slices() {
        let slices = vec![
            Bytes::from_static(b"abc"),
            Bytes::new(),
            Bytes::from_static(b"defg"),
            Bytes::from_static(b"h"),
        ];
        let mut message = Message::new(slices);
        assert_eq!(message.vector_count(), 3);
        let next = message.advance(0, 5);
        assert_eq!(next, 1);
        assert_eq!(message.vectors[1].iov_len, 2);
        let next = message.advance(next, 3);
        assert_eq!(next, 3);
    }
}
