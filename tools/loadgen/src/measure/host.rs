//! The broker's side of the machine, found from its process id: program, version, where its data
//! lies, on which file system and device, and how that device is set.
//!
//! Not here: counters (`proc`, `device`). Read once for each run; nothing here is guessed: what
//! cannot be read is left out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

/// A broker's process and what it stands on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Host {
    /// Its program.
    pub executable: Option<PathBuf>,
    /// Its version, where the program or its jars tell.
    pub version: Option<String>,
    /// Its command line.
    pub command: Vec<String>,
    /// Where it writes: the folder that holds the files it has open for writing, else its current
    /// directory.
    pub data_dir: Option<PathBuf>,
    /// The file system of `data_dir`.
    pub file_system: Option<FileSystem>,
    /// The block device below that.
    pub device: Option<BlockDevice>,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSystem {
    /// `ext4`, `xfs`, ...
    pub kind: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// What is mounted, as the kernel names it.
    pub source: String,
    /// Mount options, the mount's own and the file system's.
    pub options: String,
    /// Major and minor number of its device; not in the report.
    #[serde(skip)]
    numbers: String,
}

/// A block device and the settings that decide how writes and flushes fare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockDevice {
    /// Name of the whole device, `nvme0n1`.
    pub name: String,
    /// Model, where it has one.
    pub model: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Settings as the kernel tells them: `scheduler`, `write_cache`, `nr_requests`, `fua`, ...
    pub settings: BTreeMap<String, String>,
}

/// Settings of a device's queue that are kept.
const QUEUE_SETTINGS: [&str; 10] = [
    "scheduler",
    "write_cache",
    "fua",
    "nr_requests",
    "rotational",
    "logical_block_size",
    "physical_block_size",
    "max_sectors_kb",
    "read_ahead_kb",
    "wbt_lat_usec",
];

/// Bits of an open file's flags: opened for writing, for reading and writing.
const WRITING: u32 = 0o3;

impl Host {
    /// Looks at process `pid`.
    #[must_use]
    pub fn of(pid: u32) -> Host {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let executable = fs::read_link(proc.join("exe")).ok();
        let command = fs::read(proc.join("cmdline")).unwrap_or_default();
        let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let files = open_files(&proc);
        let data_dir = data_dir(&files).or_else(|| fs::read_link(proc.join("cwd")).ok());
        let mounts = fs::read_to_string(proc.join("mountinfo")).unwrap_or_default();
        let file_system = data_dir.as_deref().and_then(|dir| mount_of(&mounts, dir));
        let device = file_system.as_ref().and_then(block_device);
        Host {
            version: jar_version(&files).or_else(|| own_version(&proc, executable.as_deref())),
            executable,
            command: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            data_dir,
            file_system,
            device,
        }
    }
}

/// An open file.
#[derive(Clone, Debug, PartialEq)]
struct OpenFile {
    path: PathBuf,
    writing: bool,
}

fn open_files(proc: &Path) -> Vec<OpenFile> {
    let entries = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        // Where somebody sent its standard output says nothing of its data.
        let descriptor: u32 = entry.file_name().to_str()?.parse().ok()?;
        let path = fs::read_link(entry.path()).ok().filter(|path| path.is_absolute())?;
        let info = fs::read_to_string(proc.join("fdinfo").join(entry.file_name())).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        Some(OpenFile { path, writing: descriptor > 2 && flags & WRITING != 0 })
    });
    files.collect()
}

/// The lowest folder that holds more than half of what is open for writing and is on a disk: the
/// program's own logs beside its data do not lift that up to their common parent.
fn data_dir(files: &[OpenFile]) -> Option<PathBuf> {
    let outside = ["/dev", "/proc", "/sys", "/run"];
    let folders: Vec<&Path> = files
        .iter()
        .filter(|file| file.writing && !outside.iter().any(|it| file.path.starts_with(it)))
        .filter_map(|file| file.path.parent())
        .collect();
    let mut holds: BTreeMap<&Path, usize> = BTreeMap::new();
    for folder in &folders {
        for ancestor in folder.ancestors().filter(|it| it.parent().is_some()) {
            *holds.entry(ancestor).or_default() += 1;
        }
    }
    let enough = holds.into_iter().filter(|(_, count)| count * 2 > folders.len());
    enough.map(|(folder, _)| folder).max_by_key(|it| it.components().count()).map(Path::to_owned)
}

/// The version in the name of Kafka's own jar.
fn jar_version(files: &[OpenFile]) -> Option<String> {
    files.iter().find_map(|file| {
        let name = file.path.file_name()?.to_str()?.strip_suffix(".jar")?;
        let (scala, version) = name.strip_prefix("kafka_")?.split_once('-')?;
        let is_number = |text: &str| text.starts_with(|it: char| it.is_ascii_digit());
        (is_number(scala) && is_number(version)).then(|| format!("Apache Kafka {version}"))
    })
}

/// What Thalweg says of itself; the program of the process, whatever lies at its path by now.
fn own_version(proc: &Path, executable: Option<&Path>) -> Option<String> {
    let name = executable?.file_name()?.to_str()?;
    if name.trim_end_matches(" (deleted)") != "thalweg" {
        return None;
    }
    let output = Command::new(proc.join("exe")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The mount that holds `dir`: the last of those with the longest mount point above it.
fn mount_of(mountinfo: &str, dir: &Path) -> Option<FileSystem> {
    let mounts = mountinfo.lines().filter_map(parse_mount);
    mounts
        .filter(|mount| dir.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count())
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &str) -> Option<FileSystem> {
    let (before, after) = line.split_once(" - ")?;
    let before: Vec<&str> = before.split(' ').collect();
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = after.next()?.to_owned();
    let own = before.get(5)?;
    let common = after.next().unwrap_or_default();
    let mut options: Vec<&str> = own.split(',').collect();
    options
        .extend(common.split(',').filter(|it| !it.is_empty() && !own.split(',').any(|o| o == *it)));
    Some(FileSystem {
        kind,
        source,
        mount_point: PathBuf::from(before.get(4)?.replace("\\040", " ")),
        options: options.join(","),
        numbers: (*before.get(2)?).to_owned(),
    })
}

/// The whole device below a file system. Some (btrfs, overlay) have numbers of their own; then the
/// mount's source leads to it.
fn block_device(mount: &FileSystem) -> Option<BlockDevice> {
    let by_numbers = |numbers: &str| fs::canonicalize(format!("/sys/dev/block/{numbers}")).ok();
    let folder = by_numbers(&mount.numbers).or_else(|| {
        let node = fs::metadata(&mount.source).ok()?;
        let (major, minor) = (rustix::fs::major(node.rdev()), rustix::fs::minor(node.rdev()));
        by_numbers(&format!("{major}:{minor}"))
    })?;
    // A partition's folder lies in its disk's.
    let is_partition = folder.join("partition").exists();
    let disk = if is_partition { folder.parent()?.to_owned() } else { folder };
    describe(&disk)
}

/// Reads a device's folder under `/sys`.
fn describe(disk: &Path) -> Option<BlockDevice> {
    let read = |path: &str| {
        let text = fs::read_to_string(disk.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let settings = QUEUE_SETTINGS
        .iter()
        .filter_map(|&name| Some((name.to_owned(), read(&format!("queue/{name}"))?)));
    let mut settings: BTreeMap<String, String> = settings.collect();
    let queues = fs::read_dir(disk.join("mq")).into_iter().flatten().count();
    if queues > 0 {
        settings.insert("hardware_queues".to_owned(), queues.to_string());
    }
    Some(BlockDevice {
        name: disk.file_name()?.to_str()?.to_owned(),
        model: read("device/model"),
        size_bytes: read("size").and_then(|it| it.parse::<u64>().ok()).unwrap_or(0) * 512,
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, writing: bool) -> OpenFile {
        OpenFile { path: PathBuf::from(path), writing }
    }

    #[test]
    fn the_data_directory_is_where_most_open_files_are_written() {
        let mut files: Vec<OpenFile> =
            (0..30).map(|idx| file(&format!("/data/kafka/logs/t-{idx}/0.log"), true)).collect();
        files.push(file("/data/kafka/logs/meta.properties", true));
        files.extend((0..9).map(|idx| file(&format!("/var/log/kafka/{idx}.log"), true)));
        files.push(file("/dev/null", true));
        files.extend((0..90).map(|idx| file(&format!("/opt/kafka/libs/{idx}.jar"), false)));
        assert_eq!(data_dir(&files), Some(PathBuf::from("/data/kafka/logs")));
        assert_eq!(data_dir(&[file("/opt/kafka/libs/1.jar", false)]), None);
        // The root is never an answer: it would be one to everything.
        assert_eq!(data_dir(&[file("/data/a", true), file("/var/b", true)]), None);
    }

    #[test]
    fn kafka_tells_its_version_in_its_jar() {
        let files = [
            file("/opt/kafka/libs/kafka-clients-4.3.0.jar", false),
            file("/opt/kafka/libs/kafka_2.13-4.3.0.jar", false),
        ];
        assert_eq!(jar_version(&files), Some("Apache Kafka 4.3.0".to_owned()));
        assert_eq!(jar_version(&files[..1]), None);
    }

    #[test]
    fn the_mount_with_the_longest_path_above_is_the_one() {
        let text = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
30 22 259:3 / /data rw,noatime shared:5 - xfs /dev/nvme0n1p3 rw,attr2,inode64
31 30 0:40 /sub /data/with\\040space rw shared:6 - btrfs /dev/sdb rw,ssd
40 22 0:22 / /proc rw,nosuid - proc proc rw
";
        let mount = mount_of(text, Path::new("/data/kafka/logs")).expect("mounted");
        assert_eq!((mount.kind.as_str(), mount.source.as_str()), ("xfs", "/dev/nvme0n1p3"));
        assert_eq!(mount.options, "rw,noatime,attr2,inode64");
        assert_eq!(mount.numbers, "259:3");
        let mount = mount_of(text, Path::new("/data/with space/x")).expect("mounted");
        assert_eq!(mount.kind, "btrfs");
        let mount = mount_of(text, Path::new("/database")).expect("mounted");
        assert_eq!(mount.mount_point, Path::new("/"));
    }

    #[test]
    fn a_device_is_described_by_what_its_folder_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = dir.path().join("nvme0n1");
        for folder in ["queue", "device", "mq/0", "mq/1"] {
            fs::create_dir_all(disk.join(folder)).expect("a folder");
        }
        for (path, text) in [
            ("size", "1953525168\n"),
            ("device/model", "Fast SSD 1TB   \n"),
            ("queue/scheduler", "[none] mq-deadline\n"),
            ("queue/write_cache", "write back\n"),
        ] {
            fs::write(disk.join(path), text).expect("written");
        }
        let device = describe(&disk).expect("a device");
        assert_eq!((device.name.as_str(), device.size_bytes), ("nvme0n1", 1_000_204_886_016));
        assert_eq!(device.model.as_deref(), Some("Fast SSD 1TB"));
        let settings: Vec<(&str, &str)> =
            device.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            settings,
            [
                ("hardware_queues", "2"),
                ("scheduler", "[none] mq-deadline"),
                ("write_cache", "write back")
            ]
        );
    }

    #[test]
    fn a_process_leads_to_its_data_directory_and_file_system() {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let open: Vec<fs::File> = (0..40)
            .map(|idx| fs::File::create(dir.path().join(idx.to_string())).expect("a file"))
            .collect();
        let host = Host::of(std::process::id());
        drop(open);
        assert!(host.executable.is_some() && !host.command.is_empty());
        assert!(host.data_dir.is_some());
        let file_system = host.file_system.expect("it is mounted somewhere");
        assert!(!file_system.kind.is_empty() && !file_system.options.is_empty());
    }
}
