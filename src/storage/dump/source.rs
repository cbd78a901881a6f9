//! Bytes that are looked at: a file, opened for reading only, or memory (tests and fuzzing). Read
//! in windows, so that a journal of 512 MiB takes as much memory as one of 4 KiB.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::base::crc::crc32c_append;
use crate::base::limits::BLOCK_ALIGN;

/// Bytes held of one file.
const WINDOW_BYTES: usize = 1 << 20;

/// Something of a fixed length that can be read anywhere.
pub trait Source {
    /// Its length when it was opened.
    fn len_bytes(&self) -> u64;

    /// Fills `into` from byte `pos` on, which ends before the length.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` if it has become shorter.
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A file, opened for reading.
#[derive(Debug)]
pub struct FileSource {
    file: fs::File,
    len: u64,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for what is no regular file (reading a pipe would wait).
    pub fn open(path: &Path) -> io::Result<FileSource> {
        let is_file = fs::metadata(path)?.is_file();
        if !is_file {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let file = fs::File::open(path)?;
        let len = file.metadata()?.len();
        Ok(FileSource { file, len })
    }
}

impl Source for FileSource {
    fn len_bytes(&self) -> u64 {
        self.len
    }

    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, pos)
    }
}

impl Source for &[u8] {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<()> {
        let begin = usize::try_from(pos).unwrap_or(usize::MAX);
        let end = begin.saturating_add(into.len());
        let bytes = self.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(pos, into)
    }
}

/// A source and the part of it that was read last.
pub(super) struct Window<'a> {
    source: &'a dyn Source,
    bytes_min: usize,
    start: u64,
    held: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Window<'a> {
        Window { source, bytes_min: WINDOW_BYTES, start: 0, held: Vec::new() }
    }

    /// A window for who hops: no more is read than is asked for, and its block.
    pub(super) fn narrow(source: &'a dyn Source) -> Window<'a> {
        Window { bytes_min: BLOCK_ALIGN, ..Window::new(source) }
    }

    pub(super) fn len(&self) -> u64 {
        self.source.len_bytes()
    }

    /// `len` bytes at `pos`, or as many as there are before the end. More than a window at once
    /// only for who has bounded `len` himself.
    pub(super) fn at(&mut self, pos: u64, len: usize) -> io::Result<&[u8]> {
        let end = pos.saturating_add(len as u64).min(self.len());
        if pos >= end {
            return Ok(&[]);
        }
        let wanted = usize::try_from(end - pos).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let held_end = self.start + self.held.len() as u64;
        if pos < self.start || end > held_end {
            let room = usize::try_from(self.len() - pos).unwrap_or(usize::MAX);
            self.held.resize(wanted.max(self.bytes_min).min(room), 0);
            self.start = pos;
            if let Err(error) = self.source.read_at(pos, &mut self.held) {
                self.held.clear();
                return Err(error);
            }
        }
        let begin = usize::try_from(pos - self.start).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(&self.held[begin..begin + wanted])
    }

    /// Continues `crc` over `range`, window by window; `None` if it ends behind the source.
    pub(super) fn crc(&mut self, mut crc: u32, range: Range<u64>) -> io::Result<Option<u32>> {
        if range.end > self.len() {
            return Ok(None);
        }
        let mut pos = range.start;
        while pos < range.end {
            let len = usize::try_from(range.end - pos).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
            let bytes = self.at(pos, len)?;
            crc = crc32c_append(crc, bytes);
            pos += bytes.len() as u64;
        }
        Ok(Some(crc))
    }

    /// Whether `range` holds nothing but zeros.
    pub(super) fn is_zero(&mut self, range: Range<u64>) -> io::Result<bool> {
        let mut pos = range.start;
        while pos < range.end.min(self.len()) {
            let len = usize::try_from(range.end - pos).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
            let bytes = self.at(pos, len)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            pos += bytes.len() as u64;
        }
        Ok(true)
    }
}
