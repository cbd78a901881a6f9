//! Topics come, grow and go. The checks and their order are Kafka's (`ReplicationControlManager`),
//! so that a client sees the same error for the same mistake.

use std::collections::{BTreeMap, BTreeSet};

use super::super::command::MetadataCommand;
use super::super::placement::Placement;
use super::super::topic_config::InvalidTopicConfig;
use super::super::topic_name::{CLUSTER_METADATA_TOPIC, check_collision, check_topic_name};
use super::Controller;
use super::requests::{
    CreatePartitionsError, CreateTopicError, CreatedTopic, DeleteTopicError, DeletedTopic,
    ManualAssignment, MorePartitions, NewTopic, TopicReference, repeated,
};
use crate::base::ids::TopicId;
use crate::base::limits::PARTITIONS_PER_TOPIC_MAX;
use crate::config::topic_definitions::topic_definition;

/// Partitions that one request may create, over all its topics: Kafka's own bound.
const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

impl Controller {
    /// Creates topics, or says whether it would. Answers are in the order of the request; one
    /// topic's mistake does not hinder the others.
    pub fn create_topics(
        &mut self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Vec<Result<CreatedTopic, CreateTopicError>> {
        if validate_only {
            return self.dry_run(|controller| controller.create_topics(topics, false));
        }
        let twice = repeated(topics.iter().map(|topic| topic.name.as_str()));
        let wanted = topics.iter().map(|topic| self.wanted_count(topic)).sum::<i64>();
        let mut placement = self.placement(None);
        let create = |topic: &NewTopic| {
            if wanted > PARTITIONS_PER_REQUEST_MAX {
                return Err(CreateTopicError::TooManyPartitions);
            }
            if twice.contains(&topic.name.as_str()) {
                return Err(CreateTopicError::DuplicateInRequest);
            }
            self.create_topic(topic, placement.as_mut())
        };
        topics.iter().map(create).collect()
    }

    /// Where new partitions may go now; `None` if all data directories are offline.
    fn placement(&self, topic: Option<TopicId>) -> Option<Placement> {
        let usable = self.options.directory_states.for_new_partitions(self.image.directories());
        Placement::of_image(&self.image, topic).only_in(&usable)
    }

    /// How many partitions the topic would have, if nothing else is wrong with it.
    fn wanted_count(&self, topic: &NewTopic) -> i64 {
        if !topic.assignments.is_empty() {
            return i64::try_from(topic.assignments.len()).unwrap_or(i64::MAX / 2);
        }
        match topic.partition_count {
            -1 => self.options.default_partition_count.into(),
            count => i64::from(count.max(0)),
        }
    }

    fn create_topic(
        &mut self,
        topic: &NewTopic,
        placement: Option<&mut Placement>,
    ) -> Result<CreatedTopic, CreateTopicError> {
        if topic.name == CLUSTER_METADATA_TOPIC {
            return Err(CreateTopicError::MetadataTopic(CLUSTER_METADATA_TOPIC));
        }
        check_topic_name(&topic.name)?;
        check_collision(&self.image, &topic.name)?;
        if self.image.topic(&topic.name).is_some() {
            return Err(CreateTopicError::Exists(topic.name.clone()));
        }
        let configs = self.check_new_configs(&topic.configs)?;
        let partition_count = self.check_numbers(topic)?;
        let count = usize::try_from(partition_count).unwrap_or(0);
        let placement = placement.ok_or(CreateTopicError::NoDirectory)?;
        let partitions = placement.place_topic(count, self.image.start_count());
        let id = TopicId(self.new_identity());
        let described = self.options.topic_defaults.describe(&self.image, &configs);
        let name = topic.name.clone();
        self.decide(MetadataCommand::CreateTopic { name, id, partitions, configs });
        Ok(CreatedTopic {
            name: topic.name.clone(),
            id,
            partition_count,
            replication_factor: 1,
            configs: described,
        })
    }

    fn check_new_configs(
        &self,
        configs: &[(String, Option<String>)],
    ) -> Result<BTreeMap<String, String>, InvalidTopicConfig> {
        let mut values = BTreeMap::new();
        for (name, value) in configs {
            let row = topic_definition(name)
                .ok_or_else(|| InvalidTopicConfig::UnknownName(name.clone()))?;
            let Some(value) = value else {
                return Err(InvalidTopicConfig::Conflict(format!(
                    "Null value not supported for topic configs: {name}"
                )));
            };
            values.insert(name.clone(), row.definition().check(value)?);
        }
        self.options.topic_defaults.check(&self.image, &values)?;
        Ok(values)
    }

    fn check_numbers(&self, topic: &NewTopic) -> Result<i32, CreateTopicError> {
        if topic.assignments.is_empty() {
            self.check_plain_numbers(topic)
        } else {
            self.check_assignments(topic)
        }
    }

    fn check_plain_numbers(&self, topic: &NewTopic) -> Result<i32, CreateTopicError> {
        // The order is Kafka's: both numbers for themselves, then whether there are brokers enough.
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(CreateTopicError::InvalidReplicationFactor(text.to_owned()));
        }
        let count = match topic.partition_count {
            -1 => self.options.default_partition_count,
            i32::MIN..=0 => return Err(CreateTopicError::InvalidPartitionCount),
            count => count,
        };
        if topic.replication_factor > 1 {
            let factor = topic.replication_factor;
            return Err(CreateTopicError::InvalidReplicationFactor(format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor \
                 of {factor} cannot be reached because only 1 broker(s) are registered."
            )));
        }
        Ok(count)
    }

    fn check_assignments(&self, topic: &NewTopic) -> Result<i32, CreateTopicError> {
        if topic.replication_factor != -1 {
            return Err(CreateTopicError::AssignmentWithNumbers("replication factor"));
        }
        if topic.partition_count != -1 {
            return Err(CreateTopicError::AssignmentWithNumbers("numPartitions"));
        }
        let mut indexes = BTreeSet::new();
        for ManualAssignment { partition, brokers } in &topic.assignments {
            if !indexes.insert(*partition) {
                return Err(CreateTopicError::InvalidAssignment(format!(
                    "Found multiple manual partition assignments for partition {partition}"
                )));
            }
            self.check_brokers(brokers).map_err(CreateTopicError::InvalidAssignment)?;
        }
        let count = i32::try_from(indexes.len()).unwrap_or(i32::MAX);
        if !indexes.iter().copied().eq(0..count) {
            let text = "partitions should be a consecutive 0-based integer sequence";
            return Err(CreateTopicError::InvalidAssignment(text.to_owned()));
        }
        Ok(count)
    }

    fn check_brokers(&self, brokers: &[i32]) -> Result<(), String> {
        if brokers.is_empty() {
            return Err("The manual partition assignment includes an empty replica list.".into());
        }
        if let Some(unknown) = brokers.iter().find(|broker| **broker != self.options.broker.0) {
            return Err(format!(
                "The manual partition assignment includes broker {unknown}, but no such broker is \
                 registered."
            ));
        }
        if brokers.len() > 1 {
            let broker = self.options.broker;
            return Err(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
        Ok(())
    }

    /// Deletes topics. Answers are in the order of the request.
    pub fn delete_topics(
        &mut self,
        topics: &[TopicReference],
    ) -> Vec<Result<DeletedTopic, DeleteTopicError>> {
        // A topic that is named both ways is a repeat, too.
        let identities: Vec<_> = topics.iter().map(|topic| self.find_topic(topic)).collect();
        let twice = repeated(identities.iter().filter_map(|found| found.as_ref().ok()));
        let twice_missing = repeated(topics.iter());
        let mut answers = Vec::with_capacity(topics.len());
        for (reference, found) in topics.iter().zip(&identities) {
            answers.push(match found {
                _ if !self.options.allows_topic_deletion => Err(DeleteTopicError::DeletionDisabled),
                Err(_) if twice_missing.contains(&reference) => {
                    Err(DeleteTopicError::DuplicateInRequest)
                }
                Err(error) => Err(*error),
                Ok(topic) if twice.contains(&topic) => Err(DeleteTopicError::DuplicateInRequest),
                Ok((id, name)) => {
                    self.decide(MetadataCommand::DeleteTopic { id: *id });
                    Ok(DeletedTopic { name: name.clone(), id: *id })
                }
            });
        }
        answers
    }

    fn find_topic(
        &self,
        reference: &TopicReference,
    ) -> Result<(TopicId, String), DeleteTopicError> {
        let topic = match reference {
            TopicReference::Name(name) => {
                self.image.topic(name).ok_or(DeleteTopicError::UnknownName)
            }
            TopicReference::Id(id) => {
                self.image.topic_by_id(*id).ok_or(DeleteTopicError::UnknownId)
            }
        }?;
        Ok((topic.id(), topic.name().to_string()))
    }

    /// Adds partitions to topics, or says whether it would. Answers are in the order of the
    /// request.
    pub fn create_partitions(
        &mut self,
        topics: &[MorePartitions],
        validate_only: bool,
    ) -> Vec<Result<(), CreatePartitionsError>> {
        if validate_only {
            return self.dry_run(|controller| controller.create_partitions(topics, false));
        }
        let twice = repeated(topics.iter().map(|topic| topic.name.as_str()));
        let mut budget = PARTITIONS_PER_REQUEST_MAX;
        let grow = |topic: &MorePartitions| {
            if twice.contains(&topic.name.as_str()) {
                return Err(CreatePartitionsError::DuplicateInRequest);
            }
            self.grow_topic(topic, &mut budget)
        };
        topics.iter().map(grow).collect()
    }

    fn grow_topic(
        &mut self,
        wanted: &MorePartitions,
        budget: &mut i64,
    ) -> Result<(), CreatePartitionsError> {
        let topic = self.image.topic(&wanted.name).ok_or(CreatePartitionsError::UnknownTopic)?;
        let id = topic.id();
        let now = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let name = &wanted.name;
        if wanted.partition_count == now {
            let text = format!("Topic already has {now} partition(s).");
            return Err(CreatePartitionsError::InvalidPartitionCount(text));
        }
        if wanted.partition_count < now {
            return Err(CreatePartitionsError::InvalidPartitionCount(format!(
                "The topic {name} currently has {now} partition(s); {} would not be an increase.",
                wanted.partition_count
            )));
        }
        // Both are positive here, so this cannot overflow.
        let added_count = wanted.partition_count - now;
        if i64::from(added_count) > *budget || wanted.partition_count > PARTITIONS_PER_TOPIC_MAX {
            return Err(CreatePartitionsError::TooManyPartitions);
        }
        *budget -= i64::from(added_count);
        let added = usize::try_from(added_count).unwrap_or(0);
        if let Some(assignments) = &wanted.assignments {
            if assignments.len() != added {
                return Err(CreatePartitionsError::InvalidAssignment(format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) \
                     were specified.",
                    assignments.len()
                )));
            }
            for brokers in assignments {
                self.check_brokers(brokers).map_err(CreatePartitionsError::InvalidAssignment)?;
            }
        }
        let mut placement = self.placement(Some(id)).ok_or(CreatePartitionsError::NoDirectory)?;
        let partitions = placement.place(added, self.image.start_count());
        self.decide(MetadataCommand::CreatePartitions { id, partitions });
        Ok(())
    }
}
