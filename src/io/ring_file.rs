//! Files driven by this core's reactor.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use bytes::Bytes;
use io_uring::{opcode, types};

use super::buf::IoBuf;
use super::reactor::{Memory, Message, Reactor, progress};
use crate::base::limits::BLOCK_ALIGN;

/// The largest count of one request; the kernel itself stops at 2 GiB - 4 KiB.
const REQUEST_BYTES_MAX: usize = 1 << 30;

/// Slices that one request writes; the kernel takes 1,024.
const VECTORS_PER_WRITE_MAX: usize = 256;

/// A file of this core's ring. Clones share the descriptor.
#[derive(Clone)]
pub struct RingFile {
    file: Rc<OwnedFd>,
    direct: bool,
}

impl RingFile {
    /// Wraps an open descriptor; `direct` says whether it bypasses the page cache.
    pub(super) fn new(file: OwnedFd, direct: bool) -> RingFile {
        RingFile { file: Rc::new(file), direct }
    }

    /// Whether it really bypasses the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    pub(super) async fn write_at(
        &self,
        mut bytes: Bytes,
        mut pos: u64,
        durable: bool,
    ) -> io::Result<()> {
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        while !bytes.is_empty() {
            let len = u32::try_from(bytes.len().min(REQUEST_BYTES_MAX)).expect("clamped");
            let request = opcode::Write::new(self.fd(), bytes.as_ptr(), len)
                .offset(pos)
                .rw_flags(flags)
                .build();
            // SAFETY: the pointer leads to the bytes, which the operation keeps.
            let op = unsafe {
                Reactor::current().submit(request, Memory::Shared(bytes), Some(self.file.clone()))
            };
            let (result, memory) = op.await.split();
            let Memory::Shared(back) = memory else { unreachable!("memory comes back as it went") };
            bytes = back;
            let written = progress(result)?;
            bytes = bytes.split_off(written.min(bytes.len()));
            pos += written as u64;
        }
        Ok(())
    }

    /// Writes the slices one behind the other, with as few requests as they need.
    pub(super) async fn write_slices_at(
        &self,
        slices: Vec<Bytes>,
        mut pos: u64,
        durable: bool,
    ) -> io::Result<()> {
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let mut message = Message::new(slices);
        let mut first = 0;
        while first < message.vector_count() {
            let vectors = message.vectors(first, VECTORS_PER_WRITE_MAX);
            let count = u32::try_from(vectors.len()).expect("few");
            let request = opcode::Writev::new(self.fd(), vectors.as_ptr(), count)
                .offset(pos)
                .rw_flags(flags)
                .build();
            // SAFETY: the pointer leads to vectors of the message, and they to its slices; the
            // operation keeps it.
            let op = unsafe {
                let memory = Memory::Message(message);
                Reactor::current().submit(request, memory, Some(self.file.clone()))
            };
            let (result, memory) = op.await.split();
            let Memory::Message(back) = memory else {
                unreachable!("memory comes back as it went")
            };
            message = back;
            let written = progress(result)?;
            first = message.advance(first, written);
            pos += written as u64;
        }
        Ok(())
    }

    pub(super) async fn read_at(&self, pos: u64, len: usize) -> io::Result<Bytes> {
        let mut buf = IoBuf::alloc(len);
        let mut filled = 0;
        while filled < len {
            let part = filled..len.min(filled + REQUEST_BYTES_MAX);
            let (back, count) = self.read_part(buf, part, pos + filled as u64).await?;
            buf = back;
            filled += count;
            if count == 0 || self.direct && !filled.is_multiple_of(BLOCK_ALIGN) {
                // Direct reads end inside a block only at the end of the file.
                break;
            }
        }
        Ok(buf.freeze(filled))
    }

    /// Reads what one request gives into this part of a buffer, from `pos` on.
    pub(super) async fn read_part(
        &self,
        mut buf: IoBuf,
        part: Range<usize>,
        pos: u64,
    ) -> io::Result<(IoBuf, usize)> {
        loop {
            let memory = &mut buf[part.clone()];
            let count = u32::try_from(memory.len()).expect("clamped");
            let request =
                opcode::Read::new(self.fd(), memory.as_mut_ptr(), count).offset(pos).build();
            // SAFETY: the pointer leads to `count` bytes of the buffer, which the operation keeps.
            let op = unsafe {
                Reactor::current().submit(request, Memory::Aligned(buf), Some(self.file.clone()))
            };
            let (result, memory) = op.await.split();
            let Memory::Aligned(back) = memory else {
                unreachable!("memory comes back as it went")
            };
            buf = back;
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Ok((buf, result? as usize)),
            }
        }
    }

    pub(super) async fn datasync(&self) -> io::Result<()> {
        let request = opcode::Fsync::new(self.fd()).flags(types::FsyncFlags::DATASYNC).build();
        self.run(request).await
    }

    pub(super) async fn sync_all(&self) -> io::Result<()> {
        self.run(opcode::Fsync::new(self.fd()).build()).await
    }

    pub(super) async fn allocate(&self, len: u64) -> io::Result<()> {
        match self.run(opcode::Fallocate::new(self.fd(), len).build()).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                // This file system cannot reserve; the size is all that there is to set.
                if self.len()? < len { self.truncate(len).await } else { Ok(()) }
            }
            other => other,
        }
    }

    pub(super) async fn truncate(&self, len: u64) -> io::Result<()> {
        if Reactor::current().can_truncate() {
            return self.run(opcode::Ftruncate::new(self.fd(), len).build()).await;
        }
        let len = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: plain system call on an open descriptor.
        let result = unsafe { libc::ftruncate(self.file.as_raw_fd(), len) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        // SAFETY: stat is plain data for which zero is valid.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: plain system call with room for its result.
        let result = unsafe { libc::fstat(self.file.as_raw_fd(), &raw mut stat) };
        if result == 0 { Ok(stat.st_size.cast_unsigned()) } else { Err(io::Error::last_os_error()) }
    }

    /// Runs a request without memory.
    async fn run(&self, request: io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: the callers' requests hold no pointer; the descriptor is this file's.
        let op =
            unsafe { Reactor::current().submit(request, Memory::None, Some(self.file.clone())) };
        op.await.result().map(|_| ())
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.file.as_raw_fd())
    }
}
