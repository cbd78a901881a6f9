//! A broker's configuration as DescribeConfigs shows it: every broker configuration of Kafka 4.3,
//! then the settings that are ours alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::command::ALL_BROKERS;
use super::image::MetadataImage;
use super::topic_config::{ConfigSource, ConfigSynonym, DescribedConfig};
use crate::base::ids::BrokerId;
use crate::config::broker_definitions::broker_definitions;
use crate::config::definition::{Definition, Kind};
use crate::config::settings::Settings;
use crate::config::settings_table::setting;
use crate::config::source::Source;
use crate::config::topic_definitions::topic_definition_behind;

/// What does not change while the broker runs.
#[derive(Clone, Debug)]
pub struct BrokerConfigs {
    broker: BrokerId,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    definition: &'static Definition,
    /// What the settings or this broker's nature give it; `None` where only the default holds.
    fixed: Option<String>,
    /// Whether it changes at run time.
    is_dynamic: bool,
}

impl BrokerConfigs {
    /// The configuration of a broker that listens on `bound`.
    #[must_use]
    pub fn new(settings: &Settings, bound: SocketAddr) -> BrokerConfigs {
        let known = facts(settings, bound);
        let of_kafka = broker_definitions().iter().map(|definition| Row {
            definition,
            fixed: known.get(definition.name()).cloned(),
            is_dynamic: false,
        });
        let of_settings = settings.effective().iter().filter_map(|row| {
            let definition = setting(row.name())?.definition();
            let is_set = *row.source() != Source::Default;
            let is_dynamic = topic_definition_behind(row.name())
                .is_some_and(|(topic, _)| topic.broker_names()[0].name() == row.name());
            let known = known.get(row.name()).cloned();
            let own = || if is_set { row.value().map(str::to_owned) } else { None };
            Some(Row { definition, fixed: known.or_else(own), is_dynamic })
        });
        let mut rows: Vec<Row> = of_kafka.chain(of_settings).collect();
        rows.sort_by_key(|row| row.definition.name());
        BrokerConfigs { broker: settings.node_id, rows }
    }

    /// Every configuration of this broker.
    #[must_use]
    pub fn describe(&self, image: &MetadataImage) -> Vec<DescribedConfig> {
        self.rows.iter().map(|row| self.describe_row(image, row)).collect()
    }

    /// What was set at run time for all brokers, and nothing else, as Kafka shows it.
    #[must_use]
    pub fn describe_all_brokers(&self, image: &MetadataImage) -> Vec<DescribedConfig> {
        let source = ConfigSource::DynamicDefaultBroker;
        let rows = self.rows.iter().filter_map(|row| {
            let value = image.broker_config(ALL_BROKERS, row.definition.name())?;
            Some(describe(row, vec![synonym(row, value, source)]))
        });
        rows.collect()
    }

    fn describe_row(&self, image: &MetadataImage, row: &Row) -> DescribedConfig {
        let name = row.definition.name();
        let found = [
            (image.broker_config(self.broker.0, name), ConfigSource::DynamicBroker),
            (image.broker_config(ALL_BROKERS, name), ConfigSource::DynamicDefaultBroker),
            (row.fixed.as_deref(), ConfigSource::StaticBroker),
            (row.definition.default_value(), ConfigSource::Default),
        ];
        let synonyms = found
            .into_iter()
            .filter_map(|(value, source)| Some(synonym(row, value?, source)))
            .collect();
        describe(row, synonyms)
    }
}

fn synonym(row: &Row, value: &str, source: ConfigSource) -> ConfigSynonym {
    let is_secret = row.definition.kind() == Kind::Password;
    let value = (!is_secret).then(|| value.to_owned());
    ConfigSynonym { name: row.definition.name().to_owned(), value, source }
}

fn describe(row: &Row, synonyms: Vec<ConfigSynonym>) -> DescribedConfig {
    let strongest = synonyms.first();
    DescribedConfig {
        name: row.definition.name(),
        value: strongest.and_then(|first| first.value.clone()),
        source: strongest.map_or(ConfigSource::Default, |first| first.source),
        is_read_only: !row.is_dynamic,
        is_sensitive: row.definition.kind() == Kind::Password,
        kind: row.definition.kind(),
        synonyms,
        doc: row.definition.doc(),
    }
}

/// Kafka's names for what our settings call otherwise.
fn facts(settings: &Settings, bound: SocketAddr) -> BTreeMap<&'static str, String> {
    let listen = &settings.listen;
    let host = match listen.advertised_host.contains(':') {
        true => format!("[{}]", listen.advertised_host),
        false => listen.advertised_host.clone(),
    };
    let port = listen.advertised_port.unwrap_or(bound.port());
    let node = settings.node_id.to_string();
    BTreeMap::from([
        ("advertised.listeners", format!("PLAINTEXT://{host}:{port}")),
        ("broker.id", node.clone()),
        ("listeners", format!("PLAINTEXT://{bound}")),
        ("node.id", node),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::command::MetadataCommand;
    use super::*;

    fn find<'a>(configs: &'a [DescribedConfig], name: &str) -> &'a DescribedConfig {
        configs.iter().find(|config| config.name == name).expect(name)
    }

    fn described(image: &MetadataImage) -> Vec<DescribedConfig> {
        let bound = "127.0.0.1:19092".parse().unwrap();
        BrokerConfigs::new(&Settings::defaults(), bound).describe(image)
    }

    #[test]
    fn every_name_is_shown_once_with_what_holds_here() {
        let configs = described(&MetadataImage::default());
        assert!(configs.windows(2).all(|pair| pair[0].name < pair[1].name));
        let value = |name: &str| find(&configs, name).value.as_deref();
        assert_eq!(value("listeners"), Some("PLAINTEXT://127.0.0.1:19092"));
        assert_eq!(value("advertised.listeners"), Some("PLAINTEXT://127.0.0.1:19092"));
        assert_eq!(value("broker.id"), Some("1"));
        assert_eq!(value("log.flush.interval.messages"), Some("1"));
        assert_eq!(value("log.retention.hours"), Some("168"));
        assert_eq!(value("log.retention.ms"), None);
        assert_eq!(value("num.io.threads"), Some("8"));
        assert_eq!(value("record.validation"), Some("header"));
        assert_eq!(value("offsets.topic.replication.factor"), Some("1"));
    }

    #[test]
    fn what_changes_at_run_time_is_marked_and_shown() {
        let mut image = MetadataImage::default();
        let set = BTreeMap::from([("log.retention.ms".to_owned(), "5".to_owned())]);
        let delete = Vec::new();
        image.apply(&MetadataCommand::AlterBrokerConfigs { broker: 1, set, delete }).unwrap();
        let configs = described(&image);
        let retention = find(&configs, "log.retention.ms");
        assert_eq!(retention.value.as_deref(), Some("5"));
        assert_eq!(retention.source, ConfigSource::DynamicBroker);
        assert!(!retention.is_read_only);
        for name in ["log.retention.hours", "num.partitions", "num.io.threads", "cores"] {
            assert!(find(&configs, name).is_read_only, "{name}");
        }
    }

    #[test]
    fn secrets_have_no_value() {
        for config in described(&MetadataImage::default()) {
            assert_eq!(config.is_sensitive, config.kind == Kind::Password);
            assert!(!config.is_sensitive || config.value.is_none(), "{}", config.name);
        }
    }
}
