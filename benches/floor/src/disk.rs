//! The file that is written and read, past the page cache, and what its device says of that.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use clap::ValueEnum;
use rustix::fs::{FallocateFlags, OFlags, fallocate, major, minor};
use rustix::io::{Errno, ReadWriteFlags};
use serde::Serialize;
use tempfile::TempPath;

use crate::ring::Pool;

/// How the file is before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// All its blocks have been written before; written again from the beginning when it is full.
    Written,
    /// Room is reserved ahead, 32 MiB at a time; it takes as much of the disk as is written.
    Reserved,
    /// Every write makes it longer; as above.
    Growing,
}

const FILLING: usize = 1 << 20;
const RESERVED_STEP: u64 = 32 << 20;

/// An open file without a name, or with one as long as this lives.
#[derive(Debug)]
pub struct Disk {
    file: File,
    /// A file that grows is one more link and one more list for the file system when it has no name.
    _name: Option<TempPath>,
    state: FileState,
    bytes: u64,
    next: u64,
}

impl Disk {
    /// Creates a file of `bytes` (whole blocks) in the folder.
    pub fn create(folder: &Path, state: FileState, bytes: u64) -> io::Result<Disk> {
        let said = |what: &str, error: &io::Error| {
            io::Error::new(error.kind(), format!("{}: {what}: {error}", folder.display()))
        };
        let flags = OFlags::DIRECT.bits() as i32;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).custom_flags(flags);
        let made =
            tempfile::Builder::new().prefix("floor-").make_in(folder, |path| options.open(path));
        let named =
            made.map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::INVAL) => {
                    said("this file system refuses O_DIRECT; choose another with --dir", &error)
                }
                _ => said("no file can be made here", &error),
            })?;
        let (file, name) = named.into_parts();
        let name = (state != FileState::Written).then_some(name);
        let bytes = if state == FileState::Written { bytes } else { 0 };
        write_whole(&file, bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| said(&format!("preparing a file of {bytes} bytes"), &error))?;
        Ok(Disk { file, _name: name, state, bytes, next: 0 })
    }

    /// Where the next `bytes` go.
    ///
    /// # Errors
    /// No room can be reserved for them.
    pub fn place(&mut self, bytes: usize) -> io::Result<u64> {
        let end = self.next + bytes as u64;
        if end > self.bytes {
            match self.state {
                FileState::Written => self.next = 0,
                FileState::Reserved => {
                    let more = RESERVED_STEP.max(bytes as u64);
                    fallocate(&self.file, FallocateFlags::empty(), self.bytes, more)?;
                    self.bytes += more;
                }
                FileState::Growing => {}
            }
        }
        let at = self.next;
        self.next += bytes as u64;
        Ok(at)
    }

    /// Writes all of `data` (whole blocks, aligned) at once; the thread stands still meanwhile.
    pub fn write(&self, data: &[u8], at: u64, sync: bool) -> io::Result<()> {
        let flags = if sync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        let written = rustix::io::pwritev2(&self.file, &[io::IoSlice::new(data)], at, flags)?;
        if written != data.len() {
            return Err(io::Error::other("the disk took a part of a write"));
        }
        Ok(())
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn write_whole(file: &File, bytes: u64) -> io::Result<()> {
    let mut piece = Pool::new(1, FILLING)?.take().expect("a new pool has its piece");
    piece.fill(0x5A);
    let mut at = 0;
    while at < bytes {
        let now = (bytes - at).min(FILLING as u64);
        file.write_all_at(&piece[..now as usize], at)?;
        at += now;
    }
    Ok(())
}

/// What a block device has done since the machine started.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceCounts {
    pub written_bytes: u64,
    pub read_bytes: u64,
    pub flushes: u64,
}

impl DeviceCounts {
    /// Of the device behind the file; `None` where the file system has none.
    pub fn behind(file: &File) -> io::Result<Option<DeviceCounts>> {
        let device = file.metadata()?.dev();
        let wanted = (u64::from(major(device)), u64::from(minor(device)));
        let text = fs::read_to_string("/proc/diskstats")?;
        Ok(text.lines().find_map(|line| parse(line, wanted)))
    }

    pub fn since(self, before: DeviceCounts) -> DeviceCounts {
        DeviceCounts {
            written_bytes: self.written_bytes - before.written_bytes,
            read_bytes: self.read_bytes - before.read_bytes,
            flushes: self.flushes - before.flushes,
        }
    }
}

/// A line of diskstats, if it is the wanted device's (Documentation/admin-guide/iostats.rst).
fn parse(line: &str, wanted: (u64, u64)) -> Option<DeviceCounts> {
    const SECTOR: u64 = 512;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| words.get(index)?.parse::<u64>().ok();
    if (number(0)?, number(1)?) != wanted {
        return None;
    }
    Some(DeviceCounts {
        read_bytes: number(5)? * SECTOR,
        written_bytes: number(9)? * SECTOR,
        flushes: number(18).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_diskstats_is_understood() {
        let line = " 254  0 vda 7 0 80 3 11 0 160 5 0 9 9 0 0 0 0 42 6";
        let counts = parse(line, (254, 0)).expect("its line");
        assert_eq!(
            (counts.read_bytes, counts.written_bytes, counts.flushes),
            (80 * 512, 160 * 512, 42)
        );
        assert!(parse(line, (254, 1)).is_none());
    }

    #[test]
    fn a_file_begins_again_where_it_is_full_unless_it_grows() {
        let folder = tempfile::tempdir_in(crate::tests::folder()).expect("a folder");
        let places = |state, blocks: [usize; 4]| {
            let mut disk = Disk::create(folder.path(), state, 3 << 12).expect("a file");
            let places = blocks.map(|blocks| disk.place(blocks << 12).expect("room") >> 12);
            (places, disk.file().metadata().expect("its length").len())
        };
        assert_eq!(places(FileState::Written, [1, 2, 2, 1]), ([0, 1, 0, 2], 3 << 12));
        assert_eq!(places(FileState::Growing, [1, 2, 2, 1]), ([0, 1, 3, 5], 0));
        let (found, reserved) = places(FileState::Reserved, [1, 2, 2, 1 << 13]);
        assert_eq!((found, reserved), ([0, 1, 3, 5], 2 * RESERVED_STEP));
    }

    #[test]
    fn nothing_is_left_in_the_folder() {
        let folder = tempfile::tempdir_in(crate::tests::folder()).expect("a folder");
        for state in [FileState::Written, FileState::Reserved, FileState::Growing] {
            drop(Disk::create(folder.path(), state, 1 << 20).expect("a file"));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Disk::create(Path::new("/nowhere/at/all"), FileState::Growing, 0);
        let text = error.expect_err("no such folder").to_string();
        assert!(text.starts_with("/nowhere/at/all: no file can be made here"), "{text}");
    }
}
