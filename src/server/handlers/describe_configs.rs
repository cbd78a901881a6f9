//! DescribeConfigs, key 32, versions 1-4.
//!
//! v1 synonyms and sources (KIP-226); v3 types and documentation (KIP-569). Every configuration is
//! answered with its default: Connect and librdkafka's tests rely on it. Secrets are never sent.

use std::rc::Rc;

use super::incremental_alter_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use super::respond;
use super::topics::{config_source, config_type, shown_value};
use crate::cluster::topic_config::DescribedConfig;
use crate::protocol::codec::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::codec::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::codec::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::protocol::codec::{self, StrBytes};
use crate::protocol::{ErrorCode, Malformed};
use crate::server::core::Core;
use crate::server::dispatch::Request;
use crate::server::reply::Answer;

/// First version with types and documentation.
const TYPES: i16 = 3;

/// What the request wants besides values.
#[derive(Clone, Copy)]
struct Detail {
    version: i16,
    synonyms: bool,
    documentation: bool,
}

/// Describes configurations of topics and of this broker.
///
/// # Errors
/// [`Malformed`]: the connection closes.
pub async fn handle(core: &Rc<Core>, request: Request<'_>) -> Result<Answer, Malformed> {
    let version = request.header.version();
    let asked: DescribeConfigsRequest = codec::decode(request.body, version)?;
    let detail = Detail {
        version,
        synonyms: asked.include_synonyms,
        documentation: asked.include_documentation,
    };
    let mut response = DescribeConfigsResponse::default();
    for resource in &asked.resources {
        let mut result = DescribeConfigsResult::default();
        result.resource_type = resource.resource_type;
        result.resource_name = resource.resource_name.clone();
        match describe(core, resource) {
            Ok(configs) => {
                let wanted = |config: &&DescribedConfig| is_wanted(resource, config.name);
                let shown = configs.iter().filter(wanted).map(|config| shown(config, detail));
                result.configs = shown.collect();
            }
            Err((error, text)) => {
                result.error_code = error.code();
                result.error_message = Some(StrBytes::from(text));
            }
        }
        response.results.push(result);
    }
    Ok(respond(&request.header, &response))
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        None => true,
        // As Kafka does: naming none asks for all.
        Some(keys) if keys.is_empty() => true,
        Some(keys) => keys.iter().any(|key| key.as_str() == name),
    }
}

fn describe(
    core: &Core,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribedConfig>, (ErrorCode, String)> {
    let image = core.image();
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        RESOURCE_TOPIC => {
            if let Err(problem) = crate::cluster::topic_name::check_topic_name(name) {
                return Err((ErrorCode::InvalidTopicException, problem.to_string()));
            }
            let topic = image.topic(name).ok_or_else(|| {
                let text = "This server does not host this topic-partition.";
                (ErrorCode::UnknownTopicOrPartition, text.to_owned())
            })?;
            Ok(core.broker().topic_defaults.describe(&image, topic.configs()))
        }
        RESOURCE_BROKER => {
            let id = core.broker().id.0;
            if !name.is_empty() && name.parse() != Ok(id) {
                let text = format!(
                    "Unexpected broker id, expected {id} or empty string, but received {name}"
                );
                return Err((ErrorCode::InvalidRequest, text));
            }
            let configs = &core.broker().configs;
            Ok(if name.is_empty() {
                configs.describe_all_brokers(&image)
            } else {
                configs.describe(&image)
            })
        }
        other => Err((ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn shown(config: &DescribedConfig, detail: Detail) -> DescribeConfigsResourceResult {
    let mut shown = DescribeConfigsResourceResult::default();
    shown.name = StrBytes::from(config.name);
    shown.value = shown_value(config).map(StrBytes::from);
    shown.read_only = config.is_read_only;
    shown.config_source = config_source(config.source);
    shown.is_sensitive = config.is_sensitive;
    if detail.synonyms {
        let synonyms = config.synonyms.iter().map(|synonym| {
            let mut shown = DescribeConfigsSynonym::default();
            shown.name = StrBytes::from(synonym.name.as_str());
            let value = if config.is_sensitive { None } else { synonym.value.clone() };
            shown.value = value.map(StrBytes::from);
            shown.source = config_source(synonym.source);
            shown
        });
        shown.synonyms = synonyms.collect();
    }
    if detail.version >= TYPES {
        shown.config_type = config_type(config.kind);
        shown.documentation = detail.documentation.then(|| StrBytes::from(config.doc));
    }
    shown
}
