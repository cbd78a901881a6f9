//! What the machine must be able to do, and the namespace in which it does it.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::shell;
use crate::tools::file_system::FileSystem;

impl FileSystem {
    /// The program that makes one.
    pub fn mkfs(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "mkfs.ext4",
            FileSystem::Xfs => "mkfs.xfs",
        }
    }
}

/// Whether power can be cut here; an error says what is missing.
pub fn can_do_it(fs: FileSystem) -> Result<(), String> {
    let me = std::fs::metadata("/proc/self").map_err(shell::during("reading /proc/self"))?;
    if me.uid() != 0 {
        return Err("not root".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        let opened = OpenOptions::new().read(true).write(true).open(device);
        opened.map_err(|error| format!("{device} cannot be opened: {error}"))?;
    }
    for (program, words) in [(fs.mkfs(), &["-V"][..]), ("losetup", &["-V"]), ("setpriv", &["-V"])] {
        shell::run(program, words)?;
    }
    // The kernel loads what it can by itself at a mount; here it is enough that it may.
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.trim_start_matches("nodev").trim() == fs.name()) {
        shell::run("modprobe", &[fs.name()])
            .map_err(|_| format!("this kernel has no {}", fs.name()))?;
    }
    shell::run("unshare", &["--mount", "--propagation", "private", "true"])?;
    Ok(())
}

/// Starts this program again in a mount namespace of its own, in place of itself. Comes back only
/// with an error.
pub fn go_inside() -> Result<(), String> {
    let me = std::env::current_exe().map_err(shell::during("looking for myself"))?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(me)
        .arg("--inside")
        .args(std::env::args_os().skip(1))
        .exec();
    Err(format!("unshare: {error}"))
}
