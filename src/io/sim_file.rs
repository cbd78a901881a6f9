//! A file of a simulated disk.

use std::io;
use std::rc::Rc;

use bytes::Bytes;

use super::buf::IoBuf;
use super::disk::OpenOptions;
use super::sim_disk::{NodeRef, SimDisk};
use super::sim_fault::{SimFault, SimOp};
use super::sim_node::SECTOR_BYTES;
use crate::base::limits::BLOCK_ALIGN;

/// An open file of a [`SimDisk`]. It outlives its name.
#[derive(Clone)]
pub struct SimFile {
    disk: Rc<SimDisk>,
    node: NodeRef,
    options: OpenOptions,
}

impl SimFile {
    pub(super) fn new(disk: Rc<SimDisk>, node: NodeRef, options: OpenOptions) -> SimFile {
        SimFile { disk, node, options }
    }

    pub(super) async fn paced<T>(&self, work: impl FnOnce() -> T) -> T {
        self.disk.paced(work).await
    }

    pub(super) fn write_at(&self, bytes: &[u8], pos: u64, durable: bool) -> io::Result<()> {
        self.check_writable()?;
        self.check_alignment(pos, bytes.len(), bytes.as_ptr().addr())?;
        match self.strike(SimOp::Write) {
            Some(fault @ SimFault::Partial(_)) => {
                let half = (bytes.len() / 2).next_multiple_of(SECTOR_BYTES).min(bytes.len());
                self.node.borrow_mut().write(pos, &bytes[..half]);
                return Err(fault.error());
            }
            Some(fault) => return Err(fault.error()),
            None => {}
        }
        let end = pos + bytes.len() as u64;
        let allowed = self.disk.allowed_len(self.len(), end);
        let mut node = self.node.borrow_mut();
        if allowed < end {
            let fits = usize::try_from(allowed.saturating_sub(pos)).unwrap_or(0);
            node.write(pos, &bytes[..fits]);
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        node.write(pos, bytes);
        if durable {
            node.sync_range(pos, bytes.len());
        }
        Ok(())
    }

    pub(super) fn write_slices_at(
        &self,
        slices: &[Bytes],
        pos: u64,
        durable: bool,
    ) -> io::Result<()> {
        let mut at = pos;
        for slice in slices {
            self.check_alignment(at, slice.len(), slice.as_ptr().addr())?;
            at += slice.len() as u64;
        }
        // One request: it is torn, or fails, as one.
        let len = slices.iter().map(Bytes::len).sum();
        let mut whole = IoBuf::alloc(len);
        let mut filled = 0;
        for slice in slices {
            whole[filled..filled + slice.len()].copy_from_slice(slice);
            filled += slice.len();
        }
        self.write_at(&whole[..len], pos, durable)
    }

    pub(super) fn read_at(&self, pos: u64, len: usize) -> io::Result<Bytes> {
        self.check_alignment(pos, len, 0)?;
        if let Some(fault) = self.strike(SimOp::Read) {
            return Err(fault.error());
        }
        let node = self.node.borrow();
        let available = node.len().saturating_sub(pos);
        let len = len.min(usize::try_from(available).unwrap_or(usize::MAX));
        let mut buf = IoBuf::alloc(len);
        let count = node.read(pos, &mut buf[..len]);
        Ok(buf.freeze(count))
    }

    pub(super) fn datasync(&self) -> io::Result<()> {
        match self.strike(SimOp::Sync) {
            Some(fault) => {
                self.node.borrow_mut().forget_dirty();
                Err(fault.error())
            }
            None => {
                self.node.borrow_mut().sync();
                Ok(())
            }
        }
    }

    pub(super) fn allocate(&self, len: u64) -> io::Result<()> {
        let longer = self.node.borrow().len().max(len);
        self.truncate(longer)
    }

    pub(super) fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if let Some(fault) = self.strike(SimOp::Resize) {
            return Err(fault.error());
        }
        if self.disk.allowed_len(self.len(), len) < len {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.node.borrow_mut().set_len(len);
        Ok(())
    }

    pub(super) fn len(&self) -> u64 {
        self.node.borrow().len()
    }

    fn strike(&self, op: SimOp) -> Option<SimFault> {
        self.disk.faults.borrow_mut().strike(op)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.options.write { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }

    /// Direct files refuse what a real disk would refuse.
    fn check_alignment(&self, pos: u64, len: usize, addr: usize) -> io::Result<()> {
        let fits = pos.is_multiple_of(BLOCK_ALIGN as u64)
            && len.is_multiple_of(BLOCK_ALIGN)
            && addr.is_multiple_of(BLOCK_ALIGN);
        if self.options.direct && !fits {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(())
    }
}
