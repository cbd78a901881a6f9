//! A file system with one file, which is a disk: a loop device sits on it. Requests are served one
//! after the other, so their order is the order.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::shell::during;

/// Name of the file.
pub const DISK: &str = "disk";

const TTL: Duration = Duration::from_secs(3600);
const DISK_INODE: INodeNo = INodeNo(2);

/// What lies behind the file.
pub trait Blocks: Send + Sync + 'static {
    fn read(&self, pos: u64, into: &mut [u8]) -> std::io::Result<()>;
    fn write(&self, pos: u64, bytes: &[u8]) -> std::io::Result<()>;
    fn flush(&self) -> std::io::Result<()>;
}

struct OneFile<B> {
    blocks: Arc<B>,
    bytes: u64,
}

/// Mounts the disk at `at`; unmounts when dropped.
pub fn mount<B: Blocks>(
    blocks: Arc<B>,
    bytes: u64,
    at: &Path,
) -> Result<BackgroundSession, String> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("thalweg-powercut".to_owned())];
    let files = OneFile { blocks, bytes };
    fuser::spawn_mount(files, at, &config).map_err(during("mounting the disk's file"))
}

impl<B> OneFile<B> {
    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match ino {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK_INODE => (FileType::RegularFile, 0o600, self.bytes),
            _ => return None,
        };
        Some(FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl<B: Blocks> Filesystem for OneFile<B> {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attr(DISK_INODE).filter(|_| name == DISK) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Nothing of it stays in the kernel's memory.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size).min(self.bytes.saturating_sub(offset));
        let mut bytes = vec![0; len as usize];
        match self.blocks.read(offset, &mut bytes) {
            Ok(()) => reply.data(&bytes),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.blocks.write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        match self.blocks.flush() {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
