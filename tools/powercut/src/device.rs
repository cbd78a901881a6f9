//! The pile of devices: our file, a loop device on it, a file system on that. Each layer is taken
//! away when it goes out of scope, the upper ones first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::BackgroundSession;

use crate::block_log::BlockLog;
use crate::fuse::{self, Blocks, DISK};
use crate::shell::{self, during};
use crate::tools::file_system::FileSystem;

/// Bytes of the device: XFS wants 300 MB at least.
pub const DEVICE_BYTES: u64 = 640 << 20;

const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where an attached loop device is written down until the kernel frees it by itself.
const LOOPS: &str = "loops";

impl Blocks for BlockLog {
    fn read(&self, pos: u64, into: &mut [u8]) -> std::io::Result<()> {
        BlockLog::read(self, pos, into)
    }

    fn write(&self, pos: u64, bytes: &[u8]) -> std::io::Result<()> {
        BlockLog::write(self, pos, bytes)
    }

    fn flush(&self) -> std::io::Result<()> {
        BlockLog::flush(self);
        Ok(())
    }
}

/// The folder of a run and the device that is recorded.
pub struct Rig {
    dir: PathBuf,
    fs: FileSystem,
    log: Arc<BlockLog>,
}

impl Rig {
    /// Removes what an earlier run left in `dir` and makes an empty device.
    pub fn new(dir: &Path, fs: FileSystem) -> Result<Rig, String> {
        remove_left_overs(dir)?;
        for name in ["", "recorded", "cut", "data", LOOPS] {
            fs::create_dir_all(dir.join(name)).map_err(during(dir.display()))?;
        }
        let log = Arc::new(BlockLog::new(dir, DEVICE_BYTES)?);
        Ok(Rig { dir: dir.to_owned(), fs, log })
    }

    pub fn log(&self) -> &Arc<BlockLog> {
        &self.log
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The recorded device with a new file system, mounted.
    pub fn format_and_mount(&self) -> Result<Mounted, String> {
        let disk = Disk::new(self.log.clone(), &self.dir.join("recorded"), &self.dir)?;
        let device = disk.device.as_str();
        match self.fs {
            FileSystem::Ext4 => {
                let words =
                    ["-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device];
                shell::run(self.fs.mkfs(), &words)?
            }
            FileSystem::Xfs => shell::run(self.fs.mkfs(), &["-q", "-K", device])?,
        };
        disk.mount(self.fs, &self.dir.join("data"))
    }

    /// Another disk, with the file system that is on it, mounted.
    pub fn mount<B: Blocks>(&self, blocks: Arc<B>) -> Result<Mounted, String> {
        let disk = Disk::new(blocks, &self.dir.join("cut"), &self.dir)?;
        disk.mount(self.fs, &self.dir.join("data"))
    }

    /// Deletes the run's files.
    pub fn remove(self) -> Result<(), String> {
        fs::remove_dir_all(&self.dir).map_err(during(self.dir.display()))
    }
}

/// A disk as a block device. Fields go in their order: the loop device before what it sits on.
struct Disk {
    _looped: Loop,
    device: String,
    _session: BackgroundSession,
}

impl Disk {
    fn new<B: Blocks>(blocks: Arc<B>, at: &Path, dir: &Path) -> Result<Disk, String> {
        let session = fuse::mount(blocks, DEVICE_BYTES, at)?;
        let looped = Loop::attach(&at.join(DISK), dir)?;
        Ok(Disk { device: looped.device.clone(), _looped: looped, _session: session })
    }

    fn mount(self, fs: FileSystem, at: &Path) -> Result<Mounted, String> {
        let at_text = at.to_string_lossy();
        shell::run("mount", &["-t", fs.name(), &self.device, &at_text])?;
        let mounted = Mounted { at: at.to_owned(), disk: Some(self) };
        if let Some(disk) = &mounted.disk {
            // From now on the kernel frees it when nothing is mounted on it any more.
            shell::run("losetup", &["--detach", &disk.device])?;
        }
        Ok(mounted)
    }
}

/// A mounted file system.
pub struct Mounted {
    at: PathBuf,
    disk: Option<Disk>,
}

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Unmounts; an error if the file system could not be.
    pub fn unmount(mut self) -> Result<(), String> {
        let deadline = Instant::now() + UNMOUNT_TIMEOUT;
        // The rings of a killed broker hold its files a little longer than it lives.
        while let Err(what) = shell::run("umount", &[&self.at]) {
            if Instant::now() > deadline {
                return Err(what);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.disk = None;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(disk) = self.disk.take() {
            // Lazily, for whatever may still hold it: the namespace goes with the process.
            let _ = shell::run("umount", &["--lazy".as_ref(), self.at.as_os_str()]);
            drop(disk);
        }
    }
}

/// An attached loop device.
struct Loop {
    device: String,
    file: String,
    record: PathBuf,
}

impl Loop {
    fn attach(file: &Path, dir: &Path) -> Result<Loop, String> {
        let file = file.to_string_lossy();
        let device = shell::run("losetup", &["--find", "--show", "--direct-io=on", &file])?;
        let name = device.rsplit('/').next().unwrap_or_default();
        let record = dir.join(LOOPS).join(name);
        fs::write(&record, file.as_bytes()).map_err(during(record.display()))?;
        Ok(Loop { device, file: file.into_owned(), record })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        detach(&self.device, &self.file);
        let _ = fs::remove_file(&self.record);
    }
}

/// Detaches a loop device if it is still on `file`: the kernel may have freed it, and somebody else
/// may have it by now. From another namespace only the file's name is to be seen.
fn detach(device: &str, file: &str) {
    let backing = shell::run("losetup", &["--noheadings", "--output", "BACK-FILE", device]);
    let found = backing.unwrap_or_default();
    if found.starts_with(file) || found == format!("/{DISK}") {
        let _ = shell::run("losetup", &["--detach", device]);
    }
}

/// An earlier run that was killed between attaching and mounting leaves a loop device; files stay
/// after any failure. The mounts went with the process.
fn remove_left_overs(dir: &Path) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(dir.join(LOOPS)) else { return Ok(()) };
    for entry in entries.flatten() {
        let file = fs::read_to_string(entry.path()).unwrap_or_default();
        if !file.is_empty() {
            detach(&format!("/dev/{}", entry.file_name().to_string_lossy()), &file);
        }
    }
    fs::remove_dir_all(dir).map_err(during(dir.display()))
}
