//! Every topic configuration of Kafka 4.3: kind, default, legal values, and the broker settings
//! from which its default comes. Names and defaults are Kafka's; one default is ours:
//! `flush.messages=1`, synced before the acknowledgement.

use super::definition::{Definition, Kind, Valid};

/// A topic configuration and the broker settings that stand behind it.
#[derive(Clone, Copy, Debug)]
pub struct TopicDefinition {
    definition: Definition,
    broker_names: &'static [BrokerName],
}

/// A broker setting that gives a topic configuration its default.
#[derive(Clone, Copy, Debug)]
pub struct BrokerName {
    name: &'static str,
    millis_per_unit: i64,
    default: BrokerDefault,
}

/// What a broker setting holds when nobody sets it.
#[derive(Clone, Copy, Debug)]
enum BrokerDefault {
    /// The topic configuration's default.
    OfTopic,
    /// Nothing: a weaker setting holds.
    Unset,
    /// This, in the setting's own unit.
    Value(&'static str),
}

impl BrokerName {
    /// The broker setting's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the broker's value is the topic's, not hours or minutes of it.
    #[must_use]
    pub const fn is_same_unit(&self) -> bool {
        self.millis_per_unit == 1
    }

    /// The topic's value for the broker's `value`: hours and minutes become milliseconds.
    #[must_use]
    pub fn convert(&self, value: &str) -> String {
        if self.is_same_unit() {
            return value.to_owned();
        }
        match value.parse::<i64>() {
            // Kafka's "-1 hours" is "no limit", as -1 ms is.
            Ok(units) if units >= 0 => units.saturating_mul(self.millis_per_unit).to_string(),
            _ => value.to_owned(),
        }
    }
}

impl TopicDefinition {
    /// The configuration itself.
    #[must_use]
    pub const fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Broker settings behind it, the strongest first.
    #[must_use]
    pub const fn broker_names(&self) -> &'static [BrokerName] {
        self.broker_names
    }

    /// What one of its broker settings holds when nobody sets it, in that setting's unit.
    #[must_use]
    pub const fn default_of(&self, name: &BrokerName) -> Option<&'static str> {
        match name.default {
            BrokerDefault::OfTopic => self.definition.default_value(),
            BrokerDefault::Unset => None,
            BrokerDefault::Value(value) => Some(value),
        }
    }
}

/// The topic configuration of that name.
#[must_use]
pub fn topic_definition(name: &str) -> Option<&'static TopicDefinition> {
    TOPIC_DEFINITIONS.iter().find(|row| row.definition.name() == name)
}

/// The topic configuration whose default a broker setting gives, with that setting's unit.
#[must_use]
pub fn topic_definition_behind(
    broker_name: &str,
) -> Option<(&'static TopicDefinition, &'static BrokerName)> {
    TOPIC_DEFINITIONS.iter().find_map(|row| {
        let name = row.broker_names.iter().find(|name| name.name == broker_name)?;
        Some((row, name))
    })
}

const fn plain(name: &'static str) -> BrokerName {
    BrokerName { name, millis_per_unit: 1, default: BrokerDefault::OfTopic }
}

const fn unset(name: &'static str) -> BrokerName {
    BrokerName { name, millis_per_unit: 1, default: BrokerDefault::Unset }
}

const fn minutes(name: &'static str) -> BrokerName {
    BrokerName { name, millis_per_unit: 60_000, default: BrokerDefault::Unset }
}

const fn hours(name: &'static str, default: &'static str) -> BrokerName {
    BrokerName { name, millis_per_unit: 3_600_000, default: BrokerDefault::Value(default) }
}

const fn row(definition: Definition, broker_names: &'static [BrokerName]) -> TopicDefinition {
    TopicDefinition { definition, broker_names }
}

const LONG_MAX: &str = "9223372036854775807";

/// All of them, by name.
pub static TOPIC_DEFINITIONS: &[TopicDefinition] = &[
    row(
        Definition::new(
            "cleanup.policy",
            Kind::List,
            Some("delete"),
            Valid::ListOf(&["compact", "delete"]),
            "What happens to old segments: deleted by age and size, compacted by key, or both.",
        ),
        &[plain("log.cleanup.policy")],
    ),
    row(
        Definition::new(
            "compression.gzip.level",
            Kind::Int,
            Some("-1"),
            Valid::BetweenOr(1, 9, -1),
            "Level for gzip where the broker compresses itself; -1 is the codec's default.",
        ),
        &[plain("compression.gzip.level")],
    ),
    row(
        Definition::new(
            "compression.lz4.level",
            Kind::Int,
            Some("9"),
            Valid::Between(1, 17),
            "Level for lz4 where the broker compresses itself.",
        ),
        &[plain("compression.lz4.level")],
    ),
    row(
        Definition::new(
            "compression.type",
            Kind::String,
            Some("producer"),
            Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
            "Codec in which batches are kept; `producer` keeps each as it came.",
        ),
        &[plain("compression.type")],
    ),
    row(
        Definition::new(
            "compression.zstd.level",
            Kind::Int,
            Some("3"),
            Valid::Between(-131_072, 22),
            "Level for zstd where the broker compresses itself.",
        ),
        &[plain("compression.zstd.level")],
    ),
    row(
        Definition::new(
            "delete.retention.ms",
            Kind::Long,
            Some("86400000"),
            Valid::AtLeast(0),
            "How long a tombstone of a compacted topic stays readable.",
        ),
        &[plain("log.cleaner.delete.retention.ms")],
    ),
    row(
        Definition::new(
            "file.delete.delay.ms",
            Kind::Long,
            Some("60000"),
            Valid::AtLeast(0),
            "How long a dropped segment's files stay on disk.",
        ),
        &[plain("log.segment.delete.delay.ms")],
    ),
    row(
        Definition::new(
            "flush.messages",
            Kind::Long,
            Some("1"),
            Valid::AtLeast(1),
            "1: synced to disk before the acknowledgement. More: acknowledged once written, synced \
             after this many records. The largest value: never synced for their number.",
        ),
        &[plain("log.flush.interval.messages")],
    ),
    row(
        Definition::new(
            "flush.ms",
            Kind::Long,
            Some(LONG_MAX),
            Valid::AtLeast(0),
            "Records are synced at the latest after this time; the largest value: never for time.",
        ),
        &[unset("log.flush.interval.ms"), plain("log.flush.scheduler.interval.ms")],
    ),
    row(
        Definition::new(
            "follower.replication.throttled.replicas",
            Kind::List,
            Some(""),
            Valid::ThrottledReplicas,
            "Replicas whose fetching is throttled, as `partition:broker` or `*`.",
        ),
        &[],
    ),
    row(
        Definition::new(
            "index.interval.bytes",
            Kind::Int,
            Some("4096"),
            Valid::AtLeast(0),
            "Accepted as Kafka's; here the index has one entry for each block written.",
        ),
        &[plain("log.index.interval.bytes")],
    ),
    row(
        Definition::new(
            "leader.replication.throttled.replicas",
            Kind::List,
            Some(""),
            Valid::ThrottledReplicas,
            "Replicas whose serving is throttled, as `partition:broker` or `*`.",
        ),
        &[],
    ),
    row(
        Definition::new(
            "local.retention.bytes",
            Kind::Long,
            Some("-2"),
            Valid::AtLeast(-2),
            "Bytes kept on local disk of a tiered topic; -2 follows retention.bytes.",
        ),
        &[plain("log.local.retention.bytes")],
    ),
    row(
        Definition::new(
            "local.retention.ms",
            Kind::Long,
            Some("-2"),
            Valid::AtLeast(-2),
            "Time kept on local disk of a tiered topic; -2 follows retention.ms.",
        ),
        &[plain("log.local.retention.ms")],
    ),
    row(
        Definition::new(
            "max.compaction.lag.ms",
            Kind::Long,
            Some(LONG_MAX),
            Valid::AtLeast(1),
            "The longest a record may wait before it becomes ready for compaction.",
        ),
        &[plain("log.cleaner.max.compaction.lag.ms")],
    ),
    row(
        Definition::new(
            "max.message.bytes",
            Kind::Int,
            Some("1048588"),
            Valid::AtLeast(0),
            "Largest batch taken, after compression, with its header.",
        ),
        &[plain("message.max.bytes")],
    ),
    row(
        Definition::new(
            "message.timestamp.after.max.ms",
            Kind::Long,
            Some("3600000"),
            Valid::AtLeast(0),
            "How far a record's timestamp may lie after the broker's clock (CreateTime only).",
        ),
        &[plain("log.message.timestamp.after.max.ms")],
    ),
    row(
        Definition::new(
            "message.timestamp.before.max.ms",
            Kind::Long,
            Some(LONG_MAX),
            Valid::AtLeast(0),
            "How far a record's timestamp may lie before the broker's clock (CreateTime only).",
        ),
        &[plain("log.message.timestamp.before.max.ms")],
    ),
    row(
        Definition::new(
            "message.timestamp.type",
            Kind::String,
            Some("CreateTime"),
            Valid::OneOf(&["CreateTime", "LogAppendTime"]),
            "Whose clock a record's timestamp shows: the producer's or the broker's.",
        ),
        &[plain("log.message.timestamp.type")],
    ),
    row(
        Definition::new(
            "min.cleanable.dirty.ratio",
            Kind::Double,
            Some("0.5"),
            Valid::Ratio(0.0, 1.0),
            "Share of a compacted log that must be dirty before it is compacted again.",
        ),
        &[plain("log.cleaner.min.cleanable.ratio")],
    ),
    row(
        Definition::new(
            "min.compaction.lag.ms",
            Kind::Long,
            Some("0"),
            Valid::AtLeast(0),
            "The shortest time a record stays out of compaction.",
        ),
        &[plain("log.cleaner.min.compaction.lag.ms")],
    ),
    row(
        Definition::new(
            "min.insync.replicas",
            Kind::Int,
            Some("1"),
            Valid::AtLeast(1),
            "Replicas that must hold a batch before acks=all is answered.",
        ),
        &[plain("min.insync.replicas")],
    ),
    row(
        Definition::new(
            "preallocate",
            Kind::Boolean,
            Some("false"),
            Valid::Any,
            "Accepted as Kafka's; here segments always grow in reserved extents.",
        ),
        &[plain("log.preallocate")],
    ),
    row(
        Definition::new(
            "remote.log.copy.disable",
            Kind::Boolean,
            Some("false"),
            Valid::Any,
            "Whether a tiered topic stops copying segments to the remote tier.",
        ),
        &[],
    ),
    row(
        Definition::new(
            "remote.log.delete.on.disable",
            Kind::Boolean,
            Some("false"),
            Valid::Any,
            "Whether turning tiering off deletes the remote segments.",
        ),
        &[],
    ),
    row(
        Definition::new(
            "remote.storage.enable",
            Kind::Boolean,
            Some("false"),
            Valid::Any,
            "Whether the topic is tiered; this broker has no remote tier.",
        ),
        &[],
    ),
    row(
        Definition::new(
            "retention.bytes",
            Kind::Long,
            Some("-1"),
            Valid::Any,
            "Bytes kept for each partition; -1 keeps all.",
        ),
        &[plain("log.retention.bytes")],
    ),
    row(
        Definition::new(
            "retention.ms",
            Kind::Long,
            Some("604800000"),
            Valid::AtLeast(-1),
            "Time for which records are kept; -1 keeps them for ever.",
        ),
        &[
            unset("log.retention.ms"),
            minutes("log.retention.minutes"),
            hours("log.retention.hours", "168"),
        ],
    ),
    row(
        Definition::new(
            "segment.bytes",
            Kind::Int,
            Some("1073741824"),
            Valid::AtLeast(1024 * 1024),
            "Size at which a segment is closed.",
        ),
        &[plain("log.segment.bytes")],
    ),
    row(
        Definition::new(
            "segment.index.bytes",
            Kind::Int,
            Some("10485760"),
            Valid::AtLeast(4),
            "Accepted as Kafka's; here the index is sized by the segment.",
        ),
        &[plain("log.index.size.max.bytes")],
    ),
    row(
        Definition::new(
            "segment.jitter.ms",
            Kind::Long,
            Some("0"),
            Valid::AtLeast(0),
            "Random part taken off segment.ms so that partitions do not roll together.",
        ),
        &[unset("log.roll.jitter.ms"), hours("log.roll.jitter.hours", "0")],
    ),
    row(
        Definition::new(
            "segment.ms",
            Kind::Long,
            Some("604800000"),
            Valid::AtLeast(1),
            "Age at which a segment is closed though it is not full.",
        ),
        &[unset("log.roll.ms"), hours("log.roll.hours", "168")],
    ),
    row(
        Definition::new(
            "unclean.leader.election.enable",
            Kind::Boolean,
            Some("false"),
            Valid::Any,
            "Whether a replica that is not in sync may lead, at the price of lost records.",
        ),
        &[plain("unclean.leader.election.enable")],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_every_default_is_legal() {
        assert!(TOPIC_DEFINITIONS.is_sorted_by_key(|row| row.definition.name()));
        for row in TOPIC_DEFINITIONS {
            let default = row.definition.default_value().expect("topic configs have defaults");
            row.definition.check(default).expect(default);
            // What the broker settings hold by default adds up to the topic's default.
            let mut names = row.broker_names.iter();
            if let Some(held) = names.find_map(|n| Some(n.convert(row.default_of(n)?))) {
                assert_eq!(held, default, "{}", row.definition.name());
            }
            assert!(!row.definition.doc().is_empty());
        }
    }

    #[test]
    fn hours_become_milliseconds_and_no_limit_stays_no_limit() {
        let (row, name) = topic_definition_behind("log.retention.hours").unwrap();
        assert_eq!(row.definition.name(), "retention.ms");
        assert_eq!(name.convert("168"), "604800000");
        assert_eq!(name.convert("-1"), "-1");
    }
}
