//! The settings, merged and typed.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::ConfigError;
use super::cli::StartFlags;
use super::definition::{InvalidValue, Kind, list_items};
use super::nearest::nearest_name;
use super::settings_table::{SettingDefinition, settings};
use super::source::{RawSetting, Source, from_environment, from_file};
use super::values::{host_for_clients, parse_cpu_list, parse_listen};
use crate::base::ids::BrokerId;

/// One setting's value and where it comes from.
#[derive(Clone, Debug)]
pub struct EffectiveSetting {
    definition: &'static SettingDefinition,
    value: Option<String>,
    source: Source,
}

impl EffectiveSetting {
    /// The setting's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.definition.definition().name()
    }

    /// Its value in plain form; `None` where it is not set and has no default.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Where the value comes from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }
}

/// Where clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// The address to bind; port 0 takes a free one.
    pub address: SocketAddr,
    /// The host that clients are told.
    pub advertised_host: String,
    /// The port that clients are told; `None` is the port that was bound.
    pub advertised_port: Option<u16>,
}

/// How the shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// CPU ids; `None` is all that the process may use.
    pub cores: Option<Vec<usize>>,
    /// Memory budget of one shard.
    pub shard_memory_bytes: usize,
    /// How long an idle shard spins; `None` is for ever.
    pub idle_spin: Option<Duration>,
    /// Bound for a stop.
    pub shutdown_timeout: Duration,
}

/// Where and how records are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageSettings {
    /// Data directories, as they were given.
    pub data_dirs: Vec<PathBuf>,
    /// Size of one journal file.
    pub journal_file_bytes: u64,
    /// Journal files in turn.
    pub journal_file_count: usize,
    /// From one scrub of a data directory to the next; `None`: never.
    pub scrub_interval: Option<Duration>,
    /// Bytes that a scrub of a data directory reads in a second at most.
    pub scrub_bytes_per_second: u64,
    /// Bytes of each data directory's file system that producers must leave free; `None`: as many
    /// as the journals may come to.
    pub reserve_bytes: Option<u64>,
    /// Part of a shard's memory for written and read buffers.
    pub read_cache_bytes: usize,
    /// Part of a shard's memory for reading ahead.
    pub read_ahead_bytes: usize,
    /// How long an idle producer is remembered.
    pub producer_id_expiration: Duration,
    /// Time between looks for segments that may go.
    pub retention_check_interval: Duration,
    /// Bounds of compaction; `None` if it is off.
    pub compaction: Option<CompactionSettings>,
}

/// How much compaction takes, of all cores and directories together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionSettings {
    /// Time between looks for logs that need it.
    pub backoff: Duration,
    /// Memory for keys.
    pub map_bytes: usize,
    /// Bytes read and written in a second.
    pub bytes_per_second: f64,
}

/// What is checked of a produced batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordValidation {
    /// Header, checksum and count.
    Header,
    /// Each record too, decompressed.
    Full,
}

/// What clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSettings {
    /// Largest request frame.
    pub frame_bytes_max: usize,
    /// A connection that is silent for longer is closed; `None` is never.
    pub connection_idle_max: Option<Duration>,
    /// Connections at a time, over all shards.
    pub connections_max: usize,
    /// Most record bytes in one fetch answer.
    pub fetch_bytes_max: usize,
    /// What is checked of a produced batch.
    pub record_validation: RecordValidation,
}

/// What holds for topics that do not say otherwise. The defaults of their configurations are asked
/// for by name: [`Settings::explicit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Whether asking for a topic creates it.
    pub is_auto_created: bool,
    /// Whether topics may be deleted.
    pub allows_deletion: bool,
    /// Partitions where the creator does not say.
    pub partition_count: i32,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Filter directives of `tracing`.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// All settings of a broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node_id: BrokerId,
    /// Where clients are served.
    pub listen: ListenSettings,
    /// How the shards run.
    pub runtime: RuntimeSettings,
    /// Where and how records are kept.
    pub storage: StorageSettings,
    /// What clients may ask for.
    pub requests: RequestSettings,
    /// What holds for topics.
    pub topics: TopicSettings,
    /// What is logged.
    pub logging: LogSettings,
    effective: Vec<EffectiveSetting>,
}

impl Settings {
    /// Merges the file that the flags name, the environment and the flags, and checks everything.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(
        flags: &StartFlags,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, ConfigError> {
        let mut layers = match &flags.config {
            Some(path) => from_file(path)?,
            None => Vec::new(),
        };
        let names: Vec<&str> = settings().iter().map(|row| row.definition().name()).collect();
        layers.extend(from_environment(variables, &names));
        layers.extend(flags.raw_settings()?);
        Settings::from_layers(layers)
    }

    /// Everything at its default.
    ///
    /// # Panics
    /// Never: the defaults are legal, and a test holds them to it.
    #[must_use]
    pub fn defaults() -> Settings {
        Settings::from_layers(Vec::new()).expect("the defaults are legal")
    }

    fn from_layers(layers: Vec<RawSetting>) -> Result<Settings, ConfigError> {
        let unset = |definition: &'static SettingDefinition| EffectiveSetting {
            definition,
            // Defaults may be written with units; effective values are plain.
            value: definition
                .definition()
                .default_value()
                .map(|text| definition.check(text).unwrap_or_else(|_| text.to_owned())),
            source: Source::Default,
        };
        let mut effective: Vec<EffectiveSetting> = settings().iter().map(unset).collect();
        for RawSetting { name, value, source } in layers {
            let Some(row) = effective.iter_mut().find(|row| row.name() == name) else {
                let names = settings().iter().map(|row| row.definition().name());
                let nearest = nearest_name(&name, names);
                return Err(ConfigError::UnknownName { name, origin: source, nearest });
            };
            match row.definition.check(&value) {
                Ok(plain) => (row.value, row.source) = (Some(plain), source),
                Err(error) => return Err(ConfigError::InvalidValue { error, origin: source }),
            }
        }
        Merged(effective).into_typed()
    }

    /// All settings, in the order of their table.
    #[must_use]
    pub fn effective(&self) -> &[EffectiveSetting] {
        &self.effective
    }

    /// What somebody set for `name`; `None` for a default or an unknown name.
    #[must_use]
    pub fn explicit(&self, name: &str) -> Option<&str> {
        let row = self.effective.iter().find(|row| row.name() == name)?;
        if row.source == Source::Default { None } else { row.value() }
    }

    /// Every setting with its value, source and meaning, as a settings file.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for row in &self.effective {
            let definition = row.definition.definition();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# {} [{}]", definition.doc(), row.source);
            let _ = match row.value() {
                None => writeln!(text, "# {} is not set\n", row.name()),
                Some(value) => {
                    writeln!(text, "{} = {}\n", row.name(), toml_value(definition.kind(), value))
                }
            };
        }
        text
    }
}

fn toml_value(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Boolean | Kind::Short | Kind::Int | Kind::Long | Kind::Double => value.to_owned(),
        Kind::String | Kind::List | Kind::Class => toml::Value::from(value).to_string(),
        Kind::Password => "\"(hidden)\"".to_owned(),
    }
}

/// Effective values, still as text.
struct Merged(Vec<EffectiveSetting>);

impl Merged {
    fn into_typed(self) -> Result<Settings, ConfigError> {
        let spin_us: i64 = self.number("shard.idle.spin.us");
        let idle_ms: i64 = self.number("connections.max.idle.ms");
        let scrub_ms: i64 = self.number("scrub.interval.ms");
        let reserve: i64 = self.number("disk.reserve.bytes");
        let is_full = self.text("record.validation") == "full";
        let is_json = self.text("log.format") == "json";
        Ok(Settings {
            node_id: BrokerId(self.number("node.id")),
            listen: self.listen()?,
            runtime: RuntimeSettings {
                cores: self.cores()?,
                shard_memory_bytes: self.number("shard.memory.bytes"),
                idle_spin: u64::try_from(spin_us).ok().map(Duration::from_micros),
                shutdown_timeout: Duration::from_millis(self.number("shutdown.timeout.ms")),
            },
            storage: StorageSettings {
                data_dirs: self.data_dirs()?,
                journal_file_bytes: self.number("journal.file.bytes"),
                journal_file_count: self.number("journal.file.count"),
                scrub_interval: u64::try_from(scrub_ms)
                    .ok()
                    .filter(|ms| *ms > 0)
                    .map(Duration::from_millis),
                scrub_bytes_per_second: self.number("scrub.bytes.per.second"),
                reserve_bytes: u64::try_from(reserve).ok(),
                read_cache_bytes: self.number("read.cache.bytes"),
                read_ahead_bytes: self.number("read.ahead.bytes"),
                producer_id_expiration: Duration::from_millis(
                    self.number("producer.id.expiration.ms"),
                ),
                retention_check_interval: Duration::from_millis(
                    self.number("log.retention.check.interval.ms"),
                ),
                compaction: (self.text("log.cleaner.enable") == "true").then(|| {
                    CompactionSettings {
                        backoff: Duration::from_millis(self.number("log.cleaner.backoff.ms")),
                        map_bytes: self.number("log.cleaner.dedupe.buffer.size"),
                        bytes_per_second: self.number("log.cleaner.io.max.bytes.per.second"),
                    }
                }),
            },
            requests: RequestSettings {
                frame_bytes_max: self.number("socket.request.max.bytes"),
                connection_idle_max: u64::try_from(idle_ms).ok().map(Duration::from_millis),
                connections_max: self.number("max.connections"),
                fetch_bytes_max: self.number("fetch.max.bytes"),
                record_validation: match is_full {
                    true => RecordValidation::Full,
                    false => RecordValidation::Header,
                },
            },
            topics: TopicSettings {
                is_auto_created: self.text("auto.create.topics.enable") == "true",
                allows_deletion: self.text("delete.topic.enable") == "true",
                partition_count: self.number("num.partitions"),
            },
            logging: LogSettings {
                level: self.text("log.level").to_owned(),
                format: if is_json { LogFormat::Json } else { LogFormat::Text },
            },
            effective: self.0,
        })
    }

    fn row(&self, name: &str) -> &EffectiveSetting {
        let found = self.0.iter().find(|row| row.name() == name);
        found.expect("settings are read by names of their table")
    }

    fn text(&self, name: &str) -> &str {
        self.row(name).value().unwrap_or_default()
    }

    /// Every number passed its check; ranges in the table are inside the types read here.
    fn number<T: FromStr>(&self, name: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| panic!("{name} = {text} passed a check that is too wide"))
    }

    fn invalid(&self, name: &str, reason: impl Into<String>) -> ConfigError {
        let row = self.row(name);
        let error = InvalidValue::new(name, row.value().unwrap_or_default(), reason);
        ConfigError::InvalidValue { error, origin: row.source.clone() }
    }

    fn listen(&self) -> Result<ListenSettings, ConfigError> {
        let listen =
            parse_listen(self.text("listen")).map_err(|reason| self.invalid("listen", reason))?;
        if !listen.is_loopback && self.text("insecure") != "true" {
            let origin = self.row("listen").source.clone();
            return Err(ConfigError::Insecure { address: listen.address, origin });
        }
        let port: u16 = self.number("advertised.port");
        Ok(ListenSettings {
            address: listen.address,
            advertised_host: match self.text("advertised.host") {
                "" => host_for_clients(&listen),
                host => host.to_owned(),
            },
            advertised_port: (port != 0).then_some(port),
        })
    }

    fn cores(&self) -> Result<Option<Vec<usize>>, ConfigError> {
        match self.text("cores") {
            "" => Ok(None),
            list => {
                let cpus = parse_cpu_list(list).map_err(|reason| self.invalid("cores", reason))?;
                Ok(Some(cpus))
            }
        }
    }

    fn data_dirs(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let dirs: Vec<PathBuf> = list_items(self.text("log.dirs")).map(PathBuf::from).collect();
        if dirs.is_empty() {
            return Err(self.invalid("log.dirs", "at least one directory is needed"));
        }
        Ok(dirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(set: &[&str]) -> StartFlags {
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        StartFlags { set, ..StartFlags::default() }
    }

    fn load(flags: &StartFlags, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(flags, variables)
    }

    #[test]
    fn the_defaults_make_start_alone_work() {
        let settings = Settings::defaults();
        assert_eq!(settings.node_id, BrokerId(1));
        assert_eq!(settings.listen.address.to_string(), "127.0.0.1:9092");
        assert_eq!(settings.listen.advertised_host, "127.0.0.1");
        assert_eq!(settings.storage.data_dirs, [PathBuf::from("thalweg-data")]);
        assert_eq!(settings.runtime.cores, None);
        assert_eq!(settings.storage.journal_file_bytes, 64 << 20);
        assert_eq!(settings.explicit("log.retention.ms"), None);
    }

    #[test]
    fn flags_beat_the_environment_beats_the_file_beats_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thalweg.toml");
        let text = "num.partitions = 2\n[log]\nretention.ms = 20\nroll.ms = 20\n";
        std::fs::write(&path, text).unwrap();
        let mut flags = flags(&["log.roll.ms=40"]);
        flags.config = Some(path.clone());
        let variables = [("THALWEG_LOG_RETENTION_MS", "30"), ("THALWEG_LOG_ROLL_MS", "30")];
        let settings = load(&flags, &variables).unwrap();
        assert_eq!(settings.topics.partition_count, 2);
        assert_eq!(settings.explicit("log.retention.ms"), Some("30"));
        assert_eq!(settings.explicit("log.roll.ms"), Some("40"));
        let source = |name: &str| {
            let row = settings.effective().iter().find(|row| row.name() == name).unwrap();
            row.source().to_string()
        };
        assert_eq!(source("num.partitions"), format!("{}:1", path.display()));
        assert_eq!(source("log.retention.ms"), "environment THALWEG_LOG_RETENTION_MS");
        assert_eq!(source("log.roll.ms"), "flag --set log.roll.ms=40");
        assert_eq!(source("node.id"), "default");
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_nearest() {
        let error = load(&flags(&["num.partition=1"]), &[]).unwrap_err().to_string();
        assert!(error.contains("the nearest is num.partitions"), "{error}");
        let error = load(&flags(&[]), &[("THALWEG_NODE_IDD", "1")]).unwrap_err().to_string();
        assert!(error.contains("THALWEG_NODE_IDD") && error.contains("node.id"), "{error}");
    }

    #[test]
    fn an_illegal_value_names_its_source() {
        for set in [
            "num.partitions=0",
            "cores=x",
            "listen=nonsense",
            "log.dirs=,",
            "record.validation=some",
            "log.retention.ms=-2",
            "journal.file.bytes=1",
        ] {
            let error = load(&flags(&[set]), &[]).unwrap_err();
            assert!(matches!(error, ConfigError::InvalidValue { .. }), "{set}");
            assert!(error.to_string().contains(set), "{error}");
        }
    }

    #[test]
    fn a_listener_for_others_must_be_called_insecure() {
        let mut flags = StartFlags { listen: Some("0.0.0.0:9092".into()), ..flags(&[]) };
        assert!(matches!(load(&flags, &[]), Err(ConfigError::Insecure { .. })));
        flags.insecure = true;
        let listen = load(&flags, &[]).unwrap().listen;
        assert!(listen.address.ip().is_unspecified());
        assert_ne!(listen.advertised_host, "0.0.0.0");
    }

    #[test]
    fn what_explain_prints_is_a_settings_file_with_the_same_meaning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("explained.toml");
        let set = ["cores=0-1", "log.retention.hours=3", "shard.idle.spin.us=-1", "log.level=a\"b"];
        let before = load(&flags(&set), &[]).unwrap();
        std::fs::write(&path, before.explain()).unwrap();
        let after = load(&StartFlags { config: Some(path), ..flags(&[]) }, &[]).unwrap();
        assert_eq!(after.runtime, before.runtime);
        assert_eq!(after.logging, before.logging);
        let values = |settings: &Settings| -> Vec<Option<String>> {
            settings.effective().iter().map(|row| row.value.clone()).collect()
        };
        assert_eq!(values(&after), values(&before));
    }

    #[test]
    fn extreme_legal_numbers_fit_their_types() {
        let largest = ["socket.request.max.bytes", "max.connections", "fetch.max.bytes"];
        for name in largest {
            load(&flags(&[&format!("{name}=2147483647")]), &[]).unwrap();
        }
        for name in
            ["shard.memory.bytes", "read.cache.bytes", "read.ahead.bytes", "shutdown.timeout.ms"]
        {
            load(&flags(&[&format!("{name}=9223372036854775807")]), &[]).unwrap();
        }
        load(&flags(&["connections.max.idle.ms=-9223372036854775808"]), &[]).unwrap();
    }
}
