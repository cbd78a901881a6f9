//! Configurations change at run time (KIP-339). A resource's changes happen together or not at all.

use std::collections::BTreeMap;

use super::super::command::{ALL_BROKERS, MetadataCommand};
use super::super::topic_config::InvalidTopicConfig;
use super::super::topic_name::check_topic_name;
use super::Controller;
use super::requests::{
    AlterConfigs, AlterConfigsError, ConfigChange, ConfigOperation, ConfigResource, repeated,
};
use crate::config::definition::{Definition, Kind, list_items};
use crate::config::settings_table::{SettingDefinition, setting};
use crate::config::topic_definitions::{topic_definition, topic_definition_behind};

/// What the changes of one resource add up to.
#[derive(Default)]
struct Difference {
    set: BTreeMap<String, String>,
    delete: Vec<String>,
}

impl Controller {
    /// Changes configurations, or says whether it would. Answers are in the order of the request.
    pub fn alter_configs(
        &mut self,
        resources: &[AlterConfigs],
        validate_only: bool,
    ) -> Vec<Result<(), AlterConfigsError>> {
        if validate_only {
            return self.dry_run(|controller| controller.alter_configs(resources, false));
        }
        let twice = repeated(resources.iter().map(|entry| &entry.resource));
        let alter = |entry: &AlterConfigs| {
            if twice.contains(&&entry.resource) {
                let text = "Each resource must appear at most once.";
                return Err(AlterConfigsError::InvalidRequest(text.to_owned()));
            }
            check_shape(&entry.changes)?;
            match &entry.resource {
                ConfigResource::Topic(name) => self.alter_topic(name, &entry.changes),
                ConfigResource::AllBrokers => self.alter_broker(ALL_BROKERS, &entry.changes),
                ConfigResource::Broker(id) if *id == self.options.broker.0 => {
                    self.alter_broker(*id, &entry.changes)
                }
                ConfigResource::Broker(id) => {
                    let mine = self.options.broker;
                    let text = format!("Unexpected broker id, expected {mine}, but received {id}");
                    Err(AlterConfigsError::InvalidRequest(text))
                }
            }
        };
        resources.iter().map(alter).collect()
    }

    fn alter_topic(
        &mut self,
        name: &str,
        changes: &[ConfigChange],
    ) -> Result<(), AlterConfigsError> {
        if name.is_empty() {
            let text = "Default topic resources are not allowed.";
            return Err(AlterConfigsError::InvalidRequest(text.to_owned()));
        }
        check_topic_name(name)?;
        let unknown = || AlterConfigsError::UnknownTopic(name.to_owned());
        let topic = self.image.topic(name).ok_or_else(unknown)?;
        let (id, before) = (topic.id(), topic.configs());
        let mut difference = Difference::default();
        for change in changes {
            let now = before.get(&change.name).map(String::as_str);
            if change.operation == ConfigOperation::Delete {
                // As in Kafka, deleting what is not set is fine, whatever its name.
                difference.delete.push(change.name.clone());
                continue;
            }
            let row = topic_definition(&change.name)
                .ok_or_else(|| InvalidTopicConfig::UnknownName(change.name.clone()))?;
            apply_change(row.definition(), change, now, &mut difference)?;
        }
        let mut after = before.clone();
        after.retain(|name, _| !difference.delete.contains(name));
        after.extend(difference.set.clone());
        self.options.topic_defaults.check(&self.image, &after)?;
        if after != *before {
            let Difference { set, delete } = difference;
            self.decide(MetadataCommand::AlterTopicConfigs { id, set, delete });
        }
        Ok(())
    }

    fn alter_broker(
        &mut self,
        broker: i32,
        changes: &[ConfigChange],
    ) -> Result<(), AlterConfigsError> {
        let is_fixed = |change: &&ConfigChange| dynamic_setting(&change.name).is_none();
        let fixed: Vec<&str> = changes.iter().filter(is_fixed).map(|c| c.name.as_str()).collect();
        if !fixed.is_empty() {
            let text = format!("Cannot update these configs dynamically: [{}]", fixed.join(", "));
            return Err(AlterConfigsError::InvalidRequest(text));
        }
        let mut difference = Difference::default();
        for change in changes {
            let Some(setting) = dynamic_setting(&change.name) else { continue };
            let now = self.image.broker_config(broker, &change.name);
            apply_change(setting.definition(), change, now, &mut difference).map_err(|error| {
                // Kafka calls the same mistake an invalid request where a broker is concerned.
                AlterConfigsError::InvalidRequest(error.to_string())
            })?;
        }
        let Difference { set, delete } = difference;
        let is_new = |(name, value): (&String, &String)| {
            self.image.broker_config(broker, name) != Some(value.as_str())
        };
        let is_there = |name: &String| self.image.broker_config(broker, name).is_some();
        if set.iter().any(is_new) || delete.iter().any(is_there) {
            self.decide(MetadataCommand::AlterBrokerConfigs { broker, set, delete });
        }
        Ok(())
    }
}

fn check_shape(changes: &[ConfigChange]) -> Result<(), AlterConfigsError> {
    let is_null = |change: &&ConfigChange| {
        change.value.is_none() && change.operation != ConfigOperation::Delete
    };
    let nulls: Vec<&str> = changes.iter().filter(is_null).map(|c| c.name.as_str()).collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for : {}", nulls.join(","));
        return Err(AlterConfigsError::InvalidRequest(text));
    }
    let twice = repeated(changes.iter().map(|change| change.name.as_str()));
    if !twice.is_empty() {
        let text = "Error due to duplicate config keys";
        return Err(AlterConfigsError::InvalidRequest(text.to_owned()));
    }
    Ok(())
}

/// The setting of that name, if it may change while the broker runs: the strongest of the settings
/// behind a topic configuration, as in Kafka.
fn dynamic_setting(name: &str) -> Option<&'static SettingDefinition> {
    let (row, _) = topic_definition_behind(name)?;
    let is_strongest = row.broker_names().first().is_some_and(|first| first.name() == name);
    if is_strongest { setting(name) } else { None }
}

/// Adds one change to the difference; `now` is the resource's own value.
fn apply_change(
    definition: &Definition,
    change: &ConfigChange,
    now: Option<&str>,
    difference: &mut Difference,
) -> Result<(), AlterConfigsError> {
    let name = &change.name;
    if change.operation == ConfigOperation::Delete {
        difference.delete.push(name.clone());
        return Ok(());
    }
    let given = change.value.as_deref().unwrap_or_default();
    let value = match change.operation {
        ConfigOperation::Set | ConfigOperation::Delete => given.to_owned(),
        ConfigOperation::Append | ConfigOperation::Subtract if definition.kind() != Kind::List => {
            let is_append = change.operation == ConfigOperation::Append;
            let operation = if is_append { "APPEND" } else { "SUBTRACT" };
            return Err(AlterConfigsError::NotAList { operation, name: name.clone() });
        }
        ConfigOperation::Append => {
            let start = now.or(definition.default_value()).unwrap_or_default();
            let mut items: Vec<&str> = list_items(start).collect();
            for item in list_items(given) {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            items.join(",")
        }
        ConfigOperation::Subtract => {
            let start = now.or(definition.default_value()).unwrap_or_default();
            let gone: Vec<&str> = list_items(given).collect();
            let items = list_items(start).filter(|item| !gone.contains(item));
            items.collect::<Vec<_>>().join(",")
        }
    };
    let plain = definition.check(&value).map_err(InvalidTopicConfig::from)?;
    difference.set.insert(name.clone(), plain);
    Ok(())
}
