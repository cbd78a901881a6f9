//! A file: positioned reads and writes of whole buffers.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

use super::buf::IoBuf;
use super::disk::{OpenOptions, of_sync};
use super::ring_file::RingFile;
use super::sim_file::SimFile;

/// An open file. Cheap to clone: clones share the descriptor.
#[derive(Clone)]
pub enum File {
    /// Plain blocking calls.
    Blocking(BlockingFile),
    /// Through this core's reactor.
    Ring(RingFile),
    /// In memory.
    Sim(SimFile),
}

impl File {
    /// Writes all of `bytes` at `pos`; with `durable` the call returns only when the bytes have
    /// reached stable storage (RWF_DSYNC; valid as such only inside the file's size). A short
    /// write is continued, any other failure is returned.
    pub async fn write_at(&self, bytes: Bytes, pos: u64, durable: bool) -> io::Result<()> {
        match self {
            File::Blocking(file) => file.write_at(&bytes, pos, durable),
            File::Ring(file) => file.write_at(bytes, pos, durable).await,
            File::Sim(file) => file.paced(|| file.write_at(&bytes, pos, durable)).await,
        }
    }

    /// As [`File::write_at`] of the slices one behind the other. Each is aligned and a multiple of
    /// the block size long, as if it were written alone.
    pub async fn write_slices_at(
        &self,
        slices: Vec<Bytes>,
        pos: u64,
        durable: bool,
    ) -> io::Result<()> {
        match self {
            File::Blocking(file) => file.write_slices_at(&slices, pos, durable),
            File::Ring(file) => file.write_slices_at(slices, pos, durable).await,
            File::Sim(file) => file.paced(|| file.write_slices_at(&slices, pos, durable)).await,
        }
    }

    /// Reads up to `len` bytes at `pos`; fewer only at the end of the file.
    pub async fn read_at(&self, pos: u64, len: usize) -> io::Result<Bytes> {
        match self {
            File::Blocking(file) => file.read_at(pos, len),
            File::Ring(file) => file.read_at(pos, len).await,
            File::Sim(file) => file.paced(|| file.read_at(pos, len)).await,
        }
    }

    /// Reads into this part of a buffer, from `pos` + its start on, and gives the buffer back with how
    /// much came: less than the part at the end of the file, or where the device gave less.
    pub async fn read_part(
        &self,
        mut buf: IoBuf,
        part: Range<usize>,
        pos: u64,
    ) -> io::Result<(IoBuf, usize)> {
        let from = pos + part.start as u64;
        match self {
            File::Blocking(file) => {
                let count = file.file.read_at(&mut buf[part], from)?;
                Ok((buf, count))
            }
            File::Ring(file) => file.read_part(buf, part, from).await,
            File::Sim(file) => {
                let read = file.paced(|| file.read_at(from, part.len())).await?;
                buf[part.start..part.start + read.len()].copy_from_slice(&read);
                Ok((buf, read.len()))
            }
        }
    }

    /// Whether it bypasses the page cache: a completed write has then reached the device.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        match self {
            File::Blocking(file) => file.direct,
            File::Ring(file) => file.is_direct(),
            File::Sim(_) => true,
        }
    }

    /// Makes all completed writes durable, with the metadata needed to read them.
    pub async fn datasync(&self) -> io::Result<()> {
        let synced = match self {
            File::Blocking(file) => file.file.sync_data(),
            File::Ring(file) => file.datasync().await,
            File::Sim(file) => file.paced(|| file.datasync()).await,
        };
        synced.map_err(of_sync)
    }

    /// Reserves space up to `len` bytes and sets the size; the range reads as zeros.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        match self {
            File::Blocking(file) => file.allocate(len),
            File::Ring(file) => file.allocate(len).await,
            File::Sim(file) => file.paced(|| file.allocate(len)).await,
        }
    }

    /// Sets the length.
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        match self {
            File::Blocking(file) => file.file.set_len(len),
            File::Ring(file) => file.truncate(len).await,
            File::Sim(file) => file.paced(|| file.truncate(len)).await,
        }
    }

    /// The length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        match self {
            File::Blocking(file) => Ok(file.file.metadata()?.len()),
            File::Ring(file) => file.len(),
            File::Sim(file) => Ok(file.len()),
        }
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file driven by plain blocking calls.
#[derive(Clone)]
pub struct BlockingFile {
    file: Rc<fs::File>,
    direct: bool,
}

impl BlockingFile {
    pub(super) fn open(path: &Path, options: OpenOptions) -> io::Result<BlockingFile> {
        let mut open = fs::OpenOptions::new();
        open.read(true).write(options.write).create(options.create && options.write);
        if options.direct {
            open.custom_flags(libc::O_DIRECT);
        }
        let (file, direct) = match open.open(path) {
            Err(error) if options.direct && error.raw_os_error() == Some(libc::EINVAL) => {
                (open.custom_flags(0).open(path)?, false)
            }
            other => (other?, options.direct),
        };
        Ok(BlockingFile { file: Rc::new(file), direct })
    }

    fn write_at(&self, bytes: &[u8], pos: u64, durable: bool) -> io::Result<()> {
        self.file.write_all_at(bytes, pos)?;
        if durable { self.file.sync_data().map_err(of_sync) } else { Ok(()) }
    }

    fn write_slices_at(&self, slices: &[Bytes], mut pos: u64, durable: bool) -> io::Result<()> {
        for slice in slices {
            self.file.write_all_at(slice, pos)?;
            pos += slice.len() as u64;
        }
        if durable { self.file.sync_data().map_err(of_sync) } else { Ok(()) }
    }

    fn read_at(&self, pos: u64, len: usize) -> io::Result<Bytes> {
        let mut buf = IoBuf::alloc(len);
        let mut filled = 0;
        while filled < len {
            match self.file.read_at(&mut buf[filled..len], pos + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(buf.freeze(filled))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match fallocate(&self.file, len) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                // This file system cannot reserve; the size is all that there is to set.
                if self.file.metadata()?.len() < len { self.file.set_len(len) } else { Ok(()) }
            }
            other => other,
        }
    }
}

#[allow(unsafe_code)]
fn fallocate(file: &fs::File, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let len = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: plain system call on an open descriptor.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
