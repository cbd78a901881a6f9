//! Every setting of the broker: name, kind, default, legal values and a line for people. Where
//! Kafka has a broker configuration for the thing, the setting has Kafka's name; the defaults of
//! topic configurations follow from their own table.

use std::sync::LazyLock;

use super::definition::{Definition, InvalidValue, Kind, Valid};
use super::topic_definitions::TOPIC_DEFINITIONS;

/// How a setting's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As Kafka reads it.
    Plain,
    /// A number of bytes that may end in `KiB`, `MiB` or `GiB`.
    Bytes,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct SettingDefinition {
    definition: Definition,
    form: Form,
}

impl SettingDefinition {
    /// Name, kind, default and line for people.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Checks a text and returns its plain form: bytes as a number.
    ///
    /// # Errors
    /// The text is not legal for this setting.
    pub fn check(&self, value: &str) -> Result<String, InvalidValue> {
        if self.form == Form::Plain {
            return self.definition.check(value);
        }
        let Some(bytes) = parse_bytes(value.trim()) else {
            let reason = "Expected a number of bytes, such as 1048576, 1024KiB, 1MiB or 1GiB";
            return Err(InvalidValue::new(self.definition.name(), value, reason));
        };
        self.definition.check(&bytes.to_string())
    }
}

fn parse_bytes(text: &str) -> Option<i64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), *shift)))
        .unwrap_or((text, 0));
    digits.parse::<i64>().ok()?.checked_mul(1_i64 << shift)
}

const fn plain(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    valid: Valid,
    doc: &'static str,
) -> SettingDefinition {
    SettingDefinition {
        definition: Definition::new(name, kind, Some(default), valid, doc),
        form: Form::Plain,
    }
}

const fn bytes(
    name: &'static str,
    default: &'static str,
    valid: Valid,
    doc: &'static str,
) -> SettingDefinition {
    SettingDefinition {
        definition: Definition::new(name, Kind::Long, Some(default), valid, doc),
        form: Form::Bytes,
    }
}

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

static OWN_SETTINGS: &[SettingDefinition] = &[
    plain("node.id", Kind::Int, "1", Valid::AtLeast(0), "This broker's number in its cluster."),
    plain(
        "listen",
        Kind::String,
        "127.0.0.1:9092",
        Valid::Any,
        "HOST:PORT on which clients are served; port 0 takes a free one.",
    ),
    plain(
        "advertised.host",
        Kind::String,
        "",
        Valid::Any,
        "Host that clients are told to connect to; empty: the listen host, or this machine's name.",
    ),
    plain(
        "advertised.port",
        Kind::Int,
        "0",
        Valid::Between(0, 65_535),
        "Port that clients are told to connect to; 0: the port that is listened on.",
    ),
    plain(
        "insecure",
        Kind::Boolean,
        "false",
        Valid::Any,
        "Allow a listener that other machines reach, though there is no TLS and no login.",
    ),
    plain(
        "cores",
        Kind::String,
        "",
        Valid::Any,
        "CPU ids, one shard on each: 0 or 0,1 or 0-3; empty: all that the process may use.",
    ),
    bytes(
        "shard.memory.bytes",
        "512MiB",
        Valid::AtLeast(32 * MIB),
        "Memory of one shard for requests in flight, staged batches and caches.",
    ),
    plain(
        "shard.idle.spin.us",
        Kind::Long,
        "0",
        Valid::AtLeast(-1),
        "How long an idle shard looks for work before it sleeps; 0 sleeps at once, -1 never sleeps.",
    ),
    plain(
        "shutdown.timeout.ms",
        Kind::Long,
        "30000",
        Valid::AtLeast(0),
        "Bound for a stop: what is not finished then is left to the next start's recovery.",
    ),
    plain(
        "log.dirs",
        Kind::List,
        "thalweg-data",
        Valid::Any,
        "Data directories, comma-separated; the first new one keeps the metadata.",
    ),
    bytes(
        "journal.file.bytes",
        "64MiB",
        Valid::Between(4 * MIB, 4 * GIB),
        "Size of one journal file; each shard has its own in each data directory.",
    ),
    plain(
        "journal.file.count",
        Kind::Int,
        "8",
        Valid::Between(3, 64),
        "Journal files that a shard keeps in turn; when all are full, producers wait for segments.",
    ),
    bytes(
        "read.cache.bytes",
        "8MiB",
        Valid::AtLeast(MIB),
        "Part of a shard's memory that keeps what was just written or read for consumers.",
    ),
    bytes(
        "read.ahead.bytes",
        "8MiB",
        Valid::AtLeast(0),
        "Part of a shard's memory for reading old records before consumers ask for them.",
    ),
    plain(
        "record.validation",
        Kind::String,
        "header",
        Valid::OneOf(&["header", "full"]),
        "What is checked of a produced batch: its header, checksum and count, or each record too.",
    ),
    plain(
        "log.level",
        Kind::String,
        "info",
        Valid::Any,
        "What is logged: error, warn, info, debug or trace, also per module (info,thalweg::io=debug).",
    ),
    plain(
        "log.format",
        Kind::String,
        "text",
        Valid::OneOf(&["text", "json"]),
        "Form of a log line on standard error.",
    ),
    plain(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        Valid::Any,
        "Whether a topic is created when a client first asks for it.",
    ),
    plain(
        "delete.topic.enable",
        Kind::Boolean,
        "true",
        Valid::Any,
        "Whether clients may delete topics.",
    ),
    plain(
        "num.partitions",
        Kind::Int,
        "1",
        Valid::Between(1, 100_000),
        "Partitions of a topic whose creator does not say.",
    ),
    plain(
        "socket.request.max.bytes",
        Kind::Int,
        "104857600",
        Valid::AtLeast(KIB),
        "Largest request; a connection that announces more is closed.",
    ),
    plain(
        "connections.max.idle.ms",
        Kind::Long,
        "600000",
        Valid::Any,
        "A connection that is silent for longer is closed; negative: never.",
    ),
    plain(
        "max.connections",
        Kind::Int,
        "2147483647",
        Valid::AtLeast(0),
        "Connections served at a time; more are closed at once.",
    ),
    plain(
        "fetch.max.bytes",
        Kind::Int,
        "57671680",
        Valid::AtLeast(KIB),
        "Most record bytes in one answer to a fetch, whatever the client asks for.",
    ),
    plain(
        "producer.id.expiration.ms",
        Kind::Int,
        "86400000",
        Valid::AtLeast(1),
        "How long an idle producer's sequence numbers are remembered.",
    ),
    bytes(
        "disk.reserve.bytes",
        "-1",
        Valid::AtLeast(-1),
        "Free space of a data directory's file system below which produce is refused; 0: none, -1: \
         what the journals may come to and 128 MiB, at most a twentieth of the file system.",
    ),
    plain(
        "scrub.interval.ms",
        Kind::Long,
        "604800000",
        Valid::AtLeast(0),
        "Time from one scrub of the closed segments, which looks for damage, to the next; 0: never.",
    ),
    bytes(
        "scrub.bytes.per.second",
        "8MiB",
        Valid::AtLeast(1),
        "Bytes that a scrub of one data directory reads in a second at most.",
    ),
    plain(
        "log.retention.check.interval.ms",
        Kind::Long,
        "300000",
        Valid::AtLeast(1),
        "Time between looks for segments that may go.",
    ),
    plain(
        "log.cleaner.enable",
        Kind::Boolean,
        "true",
        Valid::Any,
        "Whether topics with cleanup.policy=compact are compacted.",
    ),
    plain(
        "log.cleaner.backoff.ms",
        Kind::Long,
        "15000",
        Valid::AtLeast(0),
        "Time between looks for logs that need compaction.",
    ),
    plain(
        "log.cleaner.dedupe.buffer.size",
        Kind::Long,
        "134217728",
        Valid::AtLeast(MIB),
        "Memory for the keys of logs that are compacted just now, on all cores together.",
    ),
    plain(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Double,
        "1.7976931348623157E308",
        Valid::Any,
        "Bytes that compaction may read and write in a second, on all cores together.",
    ),
];

static ALL: LazyLock<Vec<SettingDefinition>> = LazyLock::new(|| {
    let mut all = OWN_SETTINGS.to_vec();
    for row in TOPIC_DEFINITIONS {
        let topic = row.definition();
        for name in row.broker_names() {
            // The least value of hours is that of milliseconds: -1, 0 or 1.
            let kind = if name.is_same_unit() { topic.kind() } else { Kind::Int };
            let default = row.default_of(name);
            let definition =
                Definition::new(name.name(), kind, default, topic.valid(), topic.doc());
            all.push(SettingDefinition { definition, form: Form::Plain });
        }
    }
    all
});

/// All settings: the broker's own, then the defaults of topic configurations.
#[must_use]
pub fn settings() -> &'static [SettingDefinition] {
    &ALL
}

/// The setting of that name.
#[must_use]
pub fn setting(name: &str) -> Option<&'static SettingDefinition> {
    settings().iter().find(|setting| setting.definition.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_also_as_variables_and_defaults_are_legal() {
        let mut variables: Vec<String> = settings()
            .iter()
            .map(|setting| super::super::source::environment_variable(setting.definition.name()))
            .collect();
        let count = variables.len();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), count);
        for setting in settings() {
            if let Some(default) = setting.definition.default_value() {
                setting.check(default).expect(default);
            }
        }
    }

    #[test]
    fn the_operations_page_has_every_setting_of_our_own_with_its_default() {
        let page = include_str!("../../docs/OPERATIONS.md");
        for setting in OWN_SETTINGS {
            let definition = setting.definition;
            let cell = definition.default_value().unwrap_or_default();
            let row = match cell {
                "" => format!("| `{}` | |", definition.name()),
                cell => format!("| `{}` | {cell} |", definition.name()),
            };
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn bytes_may_carry_a_unit() {
        let size = setting("journal.file.bytes").unwrap();
        assert_eq!(size.check("8MiB").unwrap(), "8388608");
        assert_eq!(size.check(" 8388608 ").unwrap(), "8388608");
        for bad in ["8MB", "MiB", "-8MiB", "9999999999GiB", "1KiB", "8 Mi"] {
            assert!(size.check(bad).is_err(), "{bad}");
        }
    }
}
