//! A single Apache Kafka, broker and controller in one process, from its jars.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker;
use crate::house::{During, Failure, House, step};
use crate::setup;

const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What is not as it always is.
#[derive(Default)]
pub struct Wishes {
    /// Listeners (`NAME://HOST:PORT`) beside `PLAINTEXT` on the port.
    pub listeners: Vec<String>,
    /// Settings (`key=value`) on top of the defaults.
    pub settings: Vec<String>,
    /// Words for the command that formats the storage.
    pub format: Vec<String>,
}

/// A running Kafka; stopped, and its data deleted, when it goes out of scope.
pub struct Kafka {
    child: Option<Child>,
    folder: PathBuf,
    address: String,
}

impl Kafka {
    /// Starts one on a free port.
    pub fn start(house: &House) -> Result<Kafka, Failure> {
        Kafka::start_with(house, broker::free_port()?, &Wishes::default())
    }

    /// Starts one on `port` as `wishes` say.
    pub fn start_with(house: &House, port: u16, wishes: &Wishes) -> Result<Kafka, Failure> {
        setup::for_kafka(house)?;
        step(&format!("Apache Kafka {} on port {port}", crate::versions::KAFKA));
        let folder = folder(house, port);
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Err(Failure(format!("something listens on port {port} already")));
        }
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).during("creating Kafka's folder")?;
        let controller = broker::free_port()?;
        let properties = properties(port, controller, &folder, wishes);
        fs::write(folder.join("server.properties"), properties).during("writing settings")?;
        fs::write(folder.join("log4j2.properties"), LOGGING).during("writing settings")?;
        format_storage(house, &folder, &wishes.format)?;
        let child = java(house, &folder, "512m")
            .args(["kafka.Kafka", "server.properties"])
            .spawn()
            .during("starting Kafka")?;
        fs::write(folder.join("pid"), child.id().to_string()).during("writing the pid")?;
        let address = format!("127.0.0.1:{port}");
        let mut kafka = Kafka { child: Some(child), folder, address };
        kafka.wait_until_up(port)?;
        println!("Kafka is up at {}, its files in {}", kafka.address, kafka.folder.display());
        Ok(kafka)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The process, to be pinned.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn wait_until_up(&mut self, port: u16) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        let log = self.folder.join("server.log");
        loop {
            let started =
                || fs::read_to_string(&log).is_ok_and(|log| log.contains("Server started"));
            if TcpStream::connect(("127.0.0.1", port)).is_ok() && started() {
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().during("waiting for Kafka")?
            {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure(format!("Kafka ended with {status}:\n{log}")));
            }
            if Instant::now() > deadline {
                return Err(Failure(format!("Kafka is not up after {START_TIMEOUT:?}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its data is thrown away: no need to wait for an orderly end.
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Starts one and leaves it running.
pub fn start_detached(house: &House, port: u16, settings: &[String]) -> Result<(), Failure> {
    let wishes = Wishes { settings: settings.to_vec(), ..Wishes::default() };
    let mut kafka = Kafka::start_with(house, port, &wishes)?;
    kafka.child = None;
    println!("stop it with: cargo dev kafka stop --port {port}");
    Ok(())
}

/// Stops the Kafka that [`start_detached`] left running, by its process id.
pub fn stop(house: &House, port: u16) -> Result<(), Failure> {
    let folder = folder(house, port);
    let pid = fs::read_to_string(folder.join("pid")).during("reading Kafka's pid")?;
    // A pid may have gone to another process since.
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if command.contains("kafka.Kafka") {
        crate::house::run(house.command("kill").args(["-KILL", &pid]))?;
    } else {
        println!("process {pid} is no Kafka any more");
    }
    fs::remove_dir_all(folder).during("deleting Kafka's folder")
}

fn folder(house: &House, port: u16) -> PathBuf {
    house.cache(&format!("kafka-run/{port}"))
}

fn properties(port: u16, controller: u16, folder: &Path, wishes: &Wishes) -> String {
    let more: String = wishes.listeners.iter().map(|address| format!(",{address}")).collect();
    let data = folder.join("data");
    let fixed = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=CONTROLLER://127.0.0.1:{controller},PLAINTEXT://127.0.0.1:{port}{more}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n",
        data.display()
    );
    fixed + SINGLE_NODE + &wishes.settings.join("\n") + "\n"
}

/// Internal topics with one replica, and no waiting for further members of a group.
const SINGLE_NODE: &str = "offsets.topic.replication.factor=1\n\
    offsets.topic.num.partitions=1\n\
    transaction.state.log.replication.factor=1\n\
    transaction.state.log.min.isr=1\n\
    transaction.state.log.num.partitions=1\n\
    share.coordinator.state.topic.replication.factor=1\n\
    share.coordinator.state.topic.min.isr=1\n\
    share.coordinator.state.topic.num.partitions=1\n\
    group.initial.rebalance.delay.ms=0\n";

const LOGGING: &str = "status=error\n\
    appender.file.type=File\nappender.file.name=FILE\nappender.file.fileName=server.log\n\
    appender.file.layout.type=PatternLayout\nappender.file.layout.pattern=%d %p %c %m%n\n\
    rootLogger.level=info\nrootLogger.appenderRef.file.ref=FILE\n";

fn java(house: &House, folder: &Path, heap: &str) -> Command {
    let mut java = house.command("java");
    java.arg(format!("-Xmx{heap}"))
        .args(["-XX:+UseSerialGC", "-Dlog4j2.configurationFile=log4j2.properties", "-cp"])
        .arg(format!("{}/*", setup::kafka_libs(house).display()))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    java
}

fn format_storage(house: &House, folder: &Path, more: &[String]) -> Result<(), Failure> {
    // Any id will do, as long as it is one: 16 bytes in base 64.
    let words = ["format", "-t", "dGhhbHdlZy1yZWZlcmVlMQ", "-c", "server.properties"];
    let status = java(house, folder, "128m")
        .arg("kafka.tools.StorageTool")
        .args(words)
        .args(more)
        .status()
        .during("formatting Kafka's storage")?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure(format!("formatting Kafka's storage failed: {status}")))
    }
}
