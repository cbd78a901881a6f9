//! A topic's configuration: what was set for the topic, else for the broker at run time, else in
//! the settings, else Kafka's default; as text with its sources, and as a typed [`TopicConfig`].

use std::collections::BTreeMap;

use super::command::ALL_BROKERS;
use super::image::{MetadataImage, TopicImage};
use crate::base::ids::BrokerId;
use crate::config::definition::{InvalidValue, Kind, list_items};
use crate::config::topic_definitions::{
    BrokerName, TOPIC_DEFINITIONS, TopicDefinition, topic_definition,
};

/// Where a configuration's value comes from, the strongest first (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for this broker at run time.
    DynamicBroker,
    /// Set for all brokers at run time.
    DynamicDefaultBroker,
    /// From the settings: file, environment or flags.
    StaticBroker,
    /// Nobody set it.
    Default,
}

/// One of the places that give a configuration a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The name in that place.
    pub name: String,
    /// The value there.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// One configuration, as DescribeConfigs and CreateTopics show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConfig {
    /// Its name.
    pub name: &'static str,
    /// The value that holds; `None` where there is none, or where it must not be shown.
    pub value: Option<String>,
    /// Where that value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed at run time.
    pub is_read_only: bool,
    /// Whether the value is secret.
    pub is_sensitive: bool,
    /// What kind of value it is.
    pub kind: Kind,
    /// All values there are for it, the strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// One line for people.
    pub doc: &'static str,
}

/// What topics fall back to: the settings of this broker.
#[derive(Clone, Debug, Default)]
pub struct TopicDefaults {
    broker: BrokerId,
    settings: BTreeMap<&'static str, String>,
}

impl TopicDefaults {
    /// Takes from `setting` what the settings say for each broker name behind a topic
    /// configuration; `None` where they say nothing.
    #[must_use]
    pub fn new(broker: BrokerId, setting: impl Fn(&str) -> Option<String>) -> TopicDefaults {
        let names = TOPIC_DEFINITIONS.iter().flat_map(|row| row.broker_names());
        let settings =
            names.filter_map(|name| Some((name.name(), setting(name.name())?))).collect();
        TopicDefaults { broker, settings }
    }

    /// All values there are for one configuration, the strongest first, each as it was written in
    /// its place, with the topic's value for it.
    fn candidates(
        &self,
        image: &MetadataImage,
        topic_configs: &BTreeMap<String, String>,
        row: &TopicDefinition,
    ) -> Vec<(String, ConfigSynonym)> {
        let definition = row.definition();
        let own = topic_configs.get(definition.name());
        let own = own.map(|value| (definition.name(), value.clone(), ConfigSource::Topic));
        let mut found: Vec<(String, ConfigSynonym)> = own
            .map(|(name, value, source)| (value.clone(), synonym(name, value, source)))
            .into_iter()
            .collect();
        for source in [
            ConfigSource::DynamicBroker,
            ConfigSource::DynamicDefaultBroker,
            ConfigSource::StaticBroker,
            ConfigSource::Default,
        ] {
            for name in row.broker_names() {
                let value = match source {
                    ConfigSource::Topic => None,
                    ConfigSource::DynamicBroker => image.broker_config(self.broker.0, name.name()),
                    ConfigSource::DynamicDefaultBroker => {
                        image.broker_config(ALL_BROKERS, name.name())
                    }
                    ConfigSource::StaticBroker => {
                        self.settings.get(name.name()).map(String::as_str)
                    }
                    ConfigSource::Default => row.default_of(name),
                };
                found.extend(value.map(|value| {
                    (name.convert(value), synonym(name.name(), value.to_owned(), source))
                }));
            }
        }
        found
    }

    fn value(
        &self,
        image: &MetadataImage,
        topic_configs: &BTreeMap<String, String>,
        row: &TopicDefinition,
    ) -> String {
        let first = self.candidates(image, topic_configs, row).into_iter().next();
        let default = || row.definition().default_value().unwrap_or_default().to_owned();
        first.map_or_else(default, |(value, _)| value)
    }

    /// Every configuration of a topic with these values of its own.
    #[must_use]
    pub fn describe(
        &self,
        image: &MetadataImage,
        topic_configs: &BTreeMap<String, String>,
    ) -> Vec<DescribedConfig> {
        let describe = |row: &TopicDefinition| {
            let mut synonyms: Vec<ConfigSynonym> =
                self.candidates(image, topic_configs, row).into_iter().map(|(_, s)| s).collect();
            let source = synonyms.first().map_or(ConfigSource::Default, |first| first.source);
            // As in Kafka, a default that stands under a weaker name (hours) is not shown alone.
            let primary = row.broker_names().first().map(BrokerName::name);
            if source == ConfigSource::Default
                && synonyms.first().is_some_and(|first| Some(first.name.as_str()) != primary)
            {
                synonyms.clear();
            }
            DescribedConfig {
                name: row.definition().name(),
                value: Some(self.value(image, topic_configs, row)),
                source,
                is_read_only: false,
                is_sensitive: false,
                kind: row.definition().kind(),
                synonyms,
                doc: row.definition().doc(),
            }
        };
        TOPIC_DEFINITIONS.iter().map(describe).collect()
    }

    /// The configuration that holds for a topic.
    #[must_use]
    pub fn resolve(&self, image: &MetadataImage, topic: &TopicImage) -> TopicConfig {
        self.resolve_configs(image, topic.configs())
    }

    /// The configuration that would hold for a topic with these values of its own.
    #[must_use]
    pub fn resolve_configs(
        &self,
        image: &MetadataImage,
        topic_configs: &BTreeMap<String, String>,
    ) -> TopicConfig {
        TopicConfig::from_values(|row| self.value(image, topic_configs, row))
    }

    /// Checks all values of a topic's own, alone and together.
    ///
    /// # Errors
    /// An unknown name, a value that is not legal, or two that contradict each other.
    pub fn check(
        &self,
        image: &MetadataImage,
        topic_configs: &BTreeMap<String, String>,
    ) -> Result<(), InvalidTopicConfig> {
        for (name, value) in topic_configs {
            let row = topic_definition(name)
                .ok_or_else(|| InvalidTopicConfig::UnknownName(name.clone()))?;
            row.definition().check(value)?;
        }
        self.resolve_configs(image, topic_configs).check_together()
    }
}

fn synonym(name: &str, value: String, source: ConfigSource) -> ConfigSynonym {
    ConfigSynonym { name: name.to_owned(), value: Some(value), source }
}

/// Why a topic's configuration was refused. The text may go to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicConfig {
    /// Kafka has no topic configuration of that name.
    #[error("Unknown topic config name: {0}")]
    UnknownName(String),
    /// The value is not legal.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// Two values contradict each other, or ask for what this broker does not have.
    #[error("{0}")]
    Conflict(String),
}

/// Whose clock a record's timestamp shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, at the append.
    LogAppendTime,
}

/// In which codec batches are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCompression {
    /// As each came.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    Lz4,
    /// zstd.
    Zstd,
}

/// A topic's configuration, typed. Times are milliseconds; -1 is "no limit" where Kafka says so.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    is_compacted: bool,
    is_deleted: bool,
    compression: TopicCompression,
    gzip_level: i32,
    lz4_level: i32,
    zstd_level: i32,
    delete_retention_ms: i64,
    file_delete_delay_ms: i64,
    flush_messages: i64,
    flush_ms: i64,
    index_interval_bytes: i32,
    local_retention_bytes: i64,
    local_retention_ms: i64,
    max_compaction_lag_ms: i64,
    max_message_bytes: i32,
    timestamp_after_max_ms: i64,
    timestamp_before_max_ms: i64,
    timestamp_type: TimestampType,
    min_cleanable_dirty_ratio: f64,
    min_compaction_lag_ms: i64,
    min_insync_replicas: i32,
    is_remote: bool,
    retention_bytes: i64,
    retention_ms: i64,
    segment_bytes: i32,
    segment_jitter_ms: i64,
    segment_ms: i64,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),+ $(,)?) => {
        impl TopicConfig {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> $kind { self.$name })+
        }
    };
}

getters! {
    /// Old records of a key go (`cleanup.policy` holds `compact`).
    is_compacted: bool,
    /// Old segments go (`cleanup.policy` holds `delete`).
    is_deleted: bool,
    /// `compression.type`.
    compression: TopicCompression,
    /// `compression.gzip.level`; -1 is the codec's default.
    gzip_level: i32,
    /// `compression.lz4.level`.
    lz4_level: i32,
    /// `compression.zstd.level`.
    zstd_level: i32,
    /// `delete.retention.ms`.
    delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    file_delete_delay_ms: i64,
    /// `flush.messages`: 1 is synced before the acknowledgement, `i64::MAX` never for numbers.
    flush_messages: i64,
    /// `flush.ms`: `i64::MAX` is never for time.
    flush_ms: i64,
    /// `index.interval.bytes`.
    index_interval_bytes: i32,
    /// `local.retention.bytes`; -2 follows `retention.bytes`.
    local_retention_bytes: i64,
    /// `local.retention.ms`; -2 follows `retention.ms`.
    local_retention_ms: i64,
    /// `max.compaction.lag.ms`.
    max_compaction_lag_ms: i64,
    /// `max.message.bytes`: the whole batch, compressed, with its 12-byte prefix.
    max_message_bytes: i32,
    /// `message.timestamp.after.max.ms`.
    timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    min_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    min_insync_replicas: i32,
    /// `remote.storage.enable`.
    is_remote: bool,
    /// `retention.bytes`; negative is no limit.
    retention_bytes: i64,
    /// `retention.ms`; -1 is no limit.
    retention_ms: i64,
    /// `segment.bytes`.
    segment_bytes: i32,
    /// `segment.jitter.ms`.
    segment_jitter_ms: i64,
    /// `segment.ms`.
    segment_ms: i64,
}

/// Typed reading of text values. Values were checked when they were set; should one not parse
/// all the same (a log written by other rules), the default holds.
struct Values<F>(F);

impl<F: Fn(&TopicDefinition) -> String> Values<F> {
    fn text(&self, name: &str) -> String {
        topic_definition(name).map(|row| (self.0)(row)).unwrap_or_default()
    }

    fn number<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        if let Ok(number) = self.text(name).parse() {
            return number;
        }
        let default = topic_definition(name).and_then(|row| row.definition().default_value());
        default.and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

impl TopicConfig {
    /// Kafka's defaults, with ours where they differ.
    #[must_use]
    pub fn defaults() -> TopicConfig {
        let default = |row: &TopicDefinition| row.definition().default_value().unwrap_or_default();
        TopicConfig::from_values(|row| default(row).to_owned())
    }

    fn from_values(value: impl Fn(&TopicDefinition) -> String) -> TopicConfig {
        let values = Values(value);
        let policy = values.text("cleanup.policy");
        TopicConfig {
            is_compacted: list_items(&policy).any(|item| item == "compact"),
            is_deleted: list_items(&policy).any(|item| item == "delete"),
            compression: match values.text("compression.type").as_str() {
                "uncompressed" => TopicCompression::Uncompressed,
                "gzip" => TopicCompression::Gzip,
                "snappy" => TopicCompression::Snappy,
                "lz4" => TopicCompression::Lz4,
                "zstd" => TopicCompression::Zstd,
                _ => TopicCompression::Producer,
            },
            gzip_level: values.number("compression.gzip.level"),
            lz4_level: values.number("compression.lz4.level"),
            zstd_level: values.number("compression.zstd.level"),
            delete_retention_ms: values.number("delete.retention.ms"),
            file_delete_delay_ms: values.number("file.delete.delay.ms"),
            flush_messages: values.number("flush.messages"),
            flush_ms: values.number("flush.ms"),
            index_interval_bytes: values.number("index.interval.bytes"),
            local_retention_bytes: values.number("local.retention.bytes"),
            local_retention_ms: values.number("local.retention.ms"),
            max_compaction_lag_ms: values.number("max.compaction.lag.ms"),
            max_message_bytes: values.number("max.message.bytes"),
            timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
            timestamp_type: match values.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: values.number("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
            min_insync_replicas: values.number("min.insync.replicas"),
            is_remote: values.text("remote.storage.enable") == "true",
            retention_bytes: values.number("retention.bytes"),
            retention_ms: values.number("retention.ms"),
            segment_bytes: values.number("segment.bytes"),
            segment_jitter_ms: values.number("segment.jitter.ms"),
            segment_ms: values.number("segment.ms"),
        }
    }

    fn check_together(&self) -> Result<(), InvalidTopicConfig> {
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return Err(InvalidTopicConfig::Conflict(format!(
                "conflict topic config setting min.compaction.lag.ms ({}) > \
                 max.compaction.lag.ms ({})",
                self.min_compaction_lag_ms, self.max_compaction_lag_ms
            )));
        }
        if self.is_remote {
            return Err(InvalidTopicConfig::Conflict(
                "Tiered Storage functionality is disabled in the broker. Topic cannot be \
                 configured with remote log storage."
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::MetadataCommand;
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn our_default_is_durable_and_the_rest_is_kafkas() {
        let config = TopicConfig::defaults();
        assert_eq!(config.flush_messages(), 1);
        assert_eq!(config.flush_ms(), i64::MAX);
        assert_eq!(config.max_message_bytes(), 1_048_588);
        assert_eq!(config.retention_ms(), 604_800_000);
        assert_eq!(config.segment_bytes(), 1 << 30);
        assert!(config.is_deleted() && !config.is_compacted());
    }

    #[test]
    fn the_topic_beats_the_broker_beats_the_settings_beat_the_default() {
        let defaults = TopicDefaults::new(BrokerId(1), |name| {
            (name == "log.retention.hours").then(|| "2".to_owned())
        });
        let mut image = MetadataImage::default();
        let retention = |image: &MetadataImage, own: &[(&str, &str)]| {
            let config = defaults.describe(image, &configs(own));
            let found = config.into_iter().find(|config| config.name == "retention.ms").unwrap();
            (found.value.unwrap(), found.source, found.synonyms.len())
        };
        let hours = ("7200000".to_owned(), ConfigSource::StaticBroker, 2);
        assert_eq!(retention(&image, &[]), hours);
        for (broker, value, source, count) in [
            (ALL_BROKERS, "5", ConfigSource::DynamicDefaultBroker, 3),
            (1, "6", ConfigSource::DynamicBroker, 4),
        ] {
            let set = configs(&[("log.retention.ms", value)]);
            let delete = Vec::new();
            image.apply(&MetadataCommand::AlterBrokerConfigs { broker, set, delete }).unwrap();
            assert_eq!(retention(&image, &[]), (value.to_owned(), source, count));
        }
        let own = ("7".to_owned(), ConfigSource::Topic, 5);
        assert_eq!(retention(&image, &[("retention.ms", "7")]), own);
        let nothing = TopicDefaults::default().describe(&MetadataImage::default(), &configs(&[]));
        let of = |name| nothing.iter().find(|config| config.name == name).unwrap();
        // What a real Kafka 4.3.0 answers.
        assert!(of("retention.ms").synonyms.is_empty());
        let policy = synonym("log.cleanup.policy", "delete".into(), ConfigSource::Default);
        assert_eq!(of("cleanup.policy").synonyms, [policy]);
        assert_eq!(of("retention.ms").value.as_deref(), Some("604800000"));
        let typed = defaults.resolve_configs(&image, &configs(&[("retention.ms", "7")]));
        assert_eq!(typed.retention_ms(), 7);
    }

    #[test]
    fn unknown_illegal_and_contradicting_values_are_refused() {
        let defaults = TopicDefaults::default();
        let image = MetadataImage::default();
        let check = |pairs: &[(&str, &str)]| defaults.check(&image, &configs(pairs));
        assert!(check(&[("retention.ms", "1"), ("cleanup.policy", "compact,delete")]).is_ok());
        let unknown = InvalidTopicConfig::UnknownName("record.validation".into());
        assert_eq!(check(&[("record.validation", "full")]), Err(unknown));
        assert!(matches!(check(&[("flush.messages", "0")]), Err(InvalidTopicConfig::Value(_))));
        let both = [("min.compaction.lag.ms", "6"), ("max.compaction.lag.ms", "5")];
        assert!(matches!(check(&both), Err(InvalidTopicConfig::Conflict(_))));
        let tiered = [("remote.storage.enable", "true")];
        assert!(matches!(check(&tiered), Err(InvalidTopicConfig::Conflict(_))));
    }
}
