//! Apache Kafka: one node, broker and controller in one process, from a release or its jars, with
//! the JVM flags of its own start script and its shipped broker settings.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::process::{Keeper, Process};
use crate::run::RunError;

/// Heap of `kafka-server-start.sh`.
pub const HEAP_FLAGS: &str = "-Xmx1G -Xms1G";
/// KAFKA_JVM_PERFORMANCE_OPTS of `kafka-run-class.sh`.
pub const PERFORMANCE_FLAGS: &str = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
     -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent \
     -XX:MaxInlineLevel=15 -Djava.awt.headless=true";

/// Any id will do, as long as it is one: 16 bytes in base 64.
const CLUSTER_ID: &str = "dGhhbHdlZy1jb21wYXJlMQ";
/// What is shown of its log when it does not start.
const LOG_TAIL_BYTES: u64 = 2_000;

/// A Kafka that can be started.
#[derive(Clone, Debug)]
pub struct Kafka {
    libs: PathBuf,
    java: PathBuf,
    jvm_flags: Vec<String>,
    settings: Vec<(String, String)>,
    version: String,
}

impl Kafka {
    /// Finds the jars behind `given`; a .tgz is unpacked into `scratch`. `jvm_flags` are words with
    /// spaces between them, `settings` lines of server.properties.
    ///
    /// # Errors
    /// When there is no Kafka, or no Java.
    pub fn find(
        given: &Path,
        scratch: &Path,
        java: &Path,
        jvm_flags: &[&str],
        settings: &[(String, String)],
    ) -> Result<Kafka, RunError> {
        let given = fs::canonicalize(given).map_err(|error| {
            let text = format!("{}: {error}", given.display());
            RunError::Io("--kafka", io::Error::new(error.kind(), text))
        })?;
        let libs = if given.is_file() { unpack(&given, scratch)? } else { given.clone() };
        let libs = if libs.join("libs").is_dir() { libs.join("libs") } else { libs };
        let version = version_of(&libs).ok_or_else(|| {
            RunError::Flags(format!(
                "--kafka {}: there is no kafka_2.*.jar in it nor in its libs/; it is to be an \
                 unpacked release, its .tgz, or a folder of its jars",
                given.display()
            ))
        })?;
        let java_version = java_version(java)?;
        Ok(Kafka {
            libs,
            java: java.to_owned(),
            jvm_flags: jvm_flags
                .iter()
                .flat_map(|words| words.split_whitespace())
                .map(str::to_owned)
                .collect(),
            settings: settings.to_vec(),
            version: format!("Apache Kafka {version} on {java_version}"),
        })
    }

    /// Version of Kafka and of Java.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The JVM's flags.
    #[must_use]
    pub fn jvm_flags(&self) -> String {
        self.jvm_flags.join(" ")
    }

    /// Starts it on the data in `home`, or on a fresh log if there is none, free on all CPUs; its
    /// address. It takes a while until it answers there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, keeper: &Arc<Keeper>, home: &Path) -> Result<(Process, String), RunError> {
        let failed = |error| RunError::Io("preparing Kafka", error);
        let address_file = home.join("address");
        if !home.join("data").exists() {
            fs::create_dir_all(home.join("data")).map_err(failed)?;
            let (port, controller) = free_ports().map_err(failed)?;
            let text = self.properties(port, controller, &home.join("data"));
            fs::write(home.join("server.properties"), text).map_err(failed)?;
            fs::write(&address_file, format!("127.0.0.1:{port}")).map_err(failed)?;
            self.format(keeper, home)?;
        }
        let address = fs::read_to_string(&address_file).map_err(failed)?;
        let mut command = self.command(home)?;
        command.args(&self.jvm_flags).arg("-cp").arg(self.class_path());
        command.args(["kafka.Kafka", "server.properties"]);
        Ok((Process::spawn(keeper, "Kafka", &mut command, None)?, address))
    }

    fn format(&self, keeper: &Arc<Keeper>, home: &Path) -> Result<(), RunError> {
        let mut command = self.command(home)?;
        command.arg("-cp").arg(self.class_path()).args(["kafka.tools.StorageTool", "format"]);
        command.args(["-t", CLUSTER_ID, "-c", "server.properties"]);
        let mut process = Process::spawn(keeper, "Kafka", &mut command, None)?;
        loop {
            match process.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let said = last_words(home);
                    let text = format!("its format tool ended with {status}{said}");
                    return Err(RunError::Io("preparing Kafka", io::Error::other(text)));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Java in `home`. Without a configuration for log4j it tells errors only, as far as it is
    /// heard at all.
    fn command(&self, home: &Path) -> Result<Command, RunError> {
        let log = fs::File::options().create(true).append(true).open(home.join("kafka.out"));
        let both = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = both.map_err(|error| RunError::Io("Kafka's output", error))?;
        let mut command = Command::new(&self.java);
        command.current_dir(home).stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(command)
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.libs.display())
    }

    /// Beside what one node needs, only the delay of deletions is not as shipped: a minute of files
    /// of earlier runs would fill the disk.
    fn properties(&self, port: u16, controller: u16, data: &Path) -> String {
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\nlog.segment.delete.delay.ms=5000\n",
            data.display()
        );
        for (key, value) in &self.settings {
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }
}

/// Unpacks the jars of a release.
fn unpack(archive: &Path, scratch: &Path) -> Result<PathBuf, RunError> {
    let failed = |error: io::Error| RunError::Io("unpacking --kafka", error);
    let folder = scratch.join("kafka-release");
    fs::create_dir_all(&folder).map_err(failed)?;
    let output = Command::new("tar")
        .arg("-xzf")
        .arg(archive)
        .arg("-C")
        .arg(&folder)
        .args(["--strip-components=1", "--wildcards", "*/libs/*"])
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(io::Error::other(format!("{}: {text}", archive.display()))));
    }
    Ok(folder)
}

/// From the name of the broker's jar, `kafka_<Scala>-<version>.jar`.
fn version_of(libs: &Path) -> Option<String> {
    let names = fs::read_dir(libs).ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| jar_version(name.to_str()?)).min()
}

fn jar_version(name: &str) -> Option<String> {
    let (scala, version) = name.strip_prefix("kafka_")?.strip_suffix(".jar")?.split_once('-')?;
    // A release holds tests and sources under longer names.
    let plain = |text: &str| text.chars().all(|it| it.is_ascii_digit() || it == '.');
    (plain(scala) && version.starts_with(|it: char| it.is_ascii_digit()))
        .then(|| version.to_owned())
        .filter(|version| !version.ends_with("-test") && !version.ends_with("-sources"))
}

/// The first line of `java -version`, like `openjdk version "17.0.13" 2024-10-15`.
fn java_version(java: &Path) -> Result<String, RunError> {
    let failed = |error: io::Error| {
        let text = format!("{}: {error}", java.display());
        RunError::Io("Java, which Kafka needs", io::Error::new(error.kind(), text))
    };
    let output = Command::new(java).arg("-version").output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.replace(['"'], "")),
        _ => Err(failed(io::Error::other(format!("-version says `{}`", text.trim())))),
    }
}

/// Two ports that were free a moment ago. Not ephemeral ones: a client that looks there for a
/// broker which is not up yet may get one as its own port, and then talks to itself.
fn free_ports() -> io::Result<(u16, u16)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = now.subsec_nanos() % 20_000;
    let mut free = (0..20_000)
        .map(|step| 10_000 + ((start + step) % 20_000) as u16)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next()
        .zip(free.next())
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port in 10000-30000"))
}

/// The end of what a Kafka in `home` said; empty if it said nothing.
#[must_use]
pub fn last_words(home: &Path) -> String {
    let Ok(mut file) = fs::File::open(home.join("kafka.out")) else { return String::new() };
    let len = file.metadata().map_or(0, |it| it.len());
    let mut bytes = Vec::new();
    // Only for people: what cannot be read is left out.
    let _ = file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_BYTES)));
    let _ = file.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() { String::new() } else { format!("; its output ends:\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jars_are_found_in_a_release_in_its_archive_and_as_they_are() {
        let dir = tempfile::tempdir().expect("a folder");
        let libs = dir.path().join("kafka_2.13-4.3.0/libs");
        fs::create_dir_all(&libs).expect("makes it");
        fs::write(libs.join("kafka_2.13-4.3.0.jar"), "").expect("writes");
        fs::write(libs.join("kafka_2.13-4.3.0-sources.jar"), "").expect("writes");
        let archive = dir.path().join("kafka.tgz");
        let tar = Command::new("tar")
            .arg("-czf")
            .arg(&archive)
            .arg("-C")
            .arg(dir.path())
            .arg("kafka_2.13-4.3.0")
            .status();
        assert!(tar.expect("tar").success());
        let java = dir.path().join("java");
        fs::write(&java, "#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n").expect("writes");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&java, executable).expect("chmod");
        for given in [libs.as_path(), libs.parent().expect("a release"), archive.as_path()] {
            let kafka = Kafka::find(given, dir.path(), &java, &["-Xmx1G  -Xms1G", "-server"], &[]);
            let kafka = kafka.expect("is found");
            assert_eq!(kafka.version(), "Apache Kafka 4.3.0 on openjdk version 17.0.1");
            assert_eq!(kafka.jvm_flags(), "-Xmx1G -Xms1G -server");
        }
        for missing in [dir.path().to_owned(), dir.path().join("nowhere")] {
            let error = Kafka::find(&missing, dir.path(), &java, &[], &[]).expect_err("no Kafka");
            assert!(error.to_string().contains(&*missing.to_string_lossy()), "{error}");
        }
        let error = Kafka::find(&libs, dir.path(), Path::new("/nowhere/java"), &[], &[]);
        assert!(error.expect_err("no Java").to_string().contains("/nowhere/java"));
    }

    #[test]
    fn settings_come_after_the_fixed_ones_which_they_replace() {
        let kafka = Kafka {
            libs: PathBuf::new(),
            java: PathBuf::new(),
            jvm_flags: Vec::new(),
            settings: vec![("num.io.threads".to_owned(), "2".to_owned())],
            version: String::new(),
        };
        let text = kafka.properties(1, 2, Path::new("/data"));
        assert!(text.contains("\nlog.dirs=/data\n") && text.ends_with("num.io.threads=2\n"));
    }
}
