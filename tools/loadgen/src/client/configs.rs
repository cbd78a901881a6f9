//! What a broker says of itself: its configuration and the feature levels of its cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use messages::{DescribeConfigsRequest, MetadataRequest};
use thalweg::protocol::codec::messages;

use super::admin::{Admin, AdminError, check};
use super::features::{DESCRIBE_CONFIGS, METADATA};

/// Kafka's numbers of resource types and of where a configuration comes from.
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Configurations of a broker that are kept even where they have their defaults.
const BROKER_TELLING: [&str; 8] = [
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.segment.bytes",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "compression.type",
];

impl Admin {
    /// The topic's configuration as the broker reports it: what its acknowledgements mean.
    ///
    /// # Errors
    /// A broker that lacks DescribeConfigs, or refuses.
    pub async fn topic_configs(
        &mut self,
        topic: &str,
        names: &[&str],
    ) -> Result<BTreeMap<String, String>, AdminError> {
        let what = "asking for the topic's configuration";
        let all = self.configs(what, RESOURCE_TOPIC, topic).await?;
        let telling = all.into_iter().filter(|it| names.contains(&it.0.as_str()));
        Ok(telling.map(|(name, value, _)| (name, value)).collect())
    }

    /// What is set on the broker at the other end, `addr`, besides defaults, and what tells how it
    /// works in any case. Secrets are never among it: brokers do not send them.
    ///
    /// # Errors
    /// A broker that lacks DescribeConfigs, refuses, or does not say which broker it is.
    pub async fn broker_configs(
        &mut self,
        addr: SocketAddr,
    ) -> Result<BTreeMap<String, String>, AdminError> {
        let what = "asking for the broker's configuration";
        let node = self.node_at(what, addr).await?;
        let all = self.configs(what, RESOURCE_BROKER, &node.to_string()).await?;
        let telling = all
            .into_iter()
            .filter(|(name, _, is_default)| !is_default || BROKER_TELLING.contains(&name.as_str()));
        Ok(telling.map(|(name, value, _)| (name, value)).collect())
    }

    /// The id of the broker at `addr`; of the only broker, whatever it calls itself.
    async fn node_at(&mut self, what: &'static str, addr: SocketAddr) -> Result<i32, AdminError> {
        let version = self.version(&METADATA)?;
        let mut request = MetadataRequest::default();
        request.topics = Some(Vec::new());
        let answer = self.call(what, version, &request).await?;
        if let [only] = &answer.brokers[..] {
            return Ok(only.node_id);
        }
        let is_it = |broker: &&messages::metadata_response::MetadataResponseBroker| {
            let port = u16::try_from(broker.port).unwrap_or(0);
            self.resolve(broker.host.as_str(), port).is_ok_and(|it| it == addr)
        };
        let unknown = || AdminError::Refused(what, "not which broker it is".to_owned());
        Ok(answer.brokers.iter().find(is_it).ok_or_else(unknown)?.node_id)
    }

    /// All configurations of a resource that have a value: name, value, whether it is the default.
    async fn configs(
        &mut self,
        what: &'static str,
        resource_type: i8,
        resource: &str,
    ) -> Result<Vec<(String, String, bool)>, AdminError> {
        let version = self.version(&DESCRIBE_CONFIGS)?;
        let mut wanted = messages::describe_configs_request::DescribeConfigsResource::default();
        wanted.resource_type = resource_type;
        wanted.resource_name = resource.into();
        wanted.configuration_keys = None;
        let mut request = DescribeConfigsRequest::default();
        request.resources = vec![wanted];
        let answer = self.call(what, version, &request).await?;
        let Some(result) = answer.results.first() else { return Ok(Vec::new()) };
        check(what, result.error_code, result.error_message.as_ref().map(|it| it.as_str()))?;
        let configs = result.configs.iter().filter_map(|it| {
            let value = it.value.as_ref()?.as_str().to_owned();
            Some((it.name.as_str().to_owned(), value, it.config_source == SOURCE_DEFAULT))
        });
        Ok(configs.collect())
    }
}
