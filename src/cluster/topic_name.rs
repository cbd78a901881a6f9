//! Kafka's rules for topic names.

use thiserror::Error;

use super::image::MetadataImage;
use crate::base::limits::TOPIC_NAME_BYTES_MAX;

/// Kafka's log of its own metadata, which no client may create.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Topics that the broker keeps for itself: clients see them marked and do not produce to them.
const INTERNAL_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Why a name is no topic name. The text is Kafka's own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidTopicName {
    /// No characters.
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// `.` or `..`.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// More than 249 characters.
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length \
         {TOPIC_NAME_BYTES_MAX}"
    )]
    TooLong(String),
    /// Other characters than ASCII letters, digits, `.`, `_` and `-`.
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'"
    )]
    Characters(String),
    /// Equal to another topic's name where `.` and `_` are the same, as in metric names.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collides {
        /// The new name.
        name: String,
        /// The name that is taken.
        existing: String,
    },
}

/// Checks the name alone.
///
/// # Errors
/// It is not a legal topic name.
pub fn check_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    if name.is_empty() {
        return Err(InvalidTopicName::Empty);
    }
    if name == "." || name == ".." {
        return Err(InvalidTopicName::Dots(name.to_owned()));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(InvalidTopicName::TooLong(name.to_owned()));
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(is_legal) {
        return Err(InvalidTopicName::Characters(name.to_owned()));
    }
    Ok(())
}

/// Checks that the name differs from all others also when `.` counts as `_`.
///
/// # Errors
/// A living topic's name collides; the same name is no collision.
pub fn check_collision(image: &MetadataImage, name: &str) -> Result<(), InvalidTopicName> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    // Names agree up to the first '.' or '_', so only those with that beginning are looked at.
    let prefix = name.split(['.', '_']).next().unwrap_or_default();
    let unified = name.replace('.', "_");
    let taken = image
        .topics_from(prefix)
        .take_while(|topic| topic.name().starts_with(prefix))
        .find(|topic| topic.name().as_ref() != name && topic.name().replace('.', "_") == unified);
    match taken {
        None => Ok(()),
        Some(topic) => Err(InvalidTopicName::Collides {
            name: name.to_owned(),
            existing: topic.name().to_string(),
        }),
    }
}

/// Whether the broker keeps the topic for itself.
#[must_use]
pub fn is_internal_topic(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_name_rules_hold() {
        for name in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_topic_name(""), Err(InvalidTopicName::Empty));
        assert_eq!(check_topic_name(".."), Err(InvalidTopicName::Dots("..".into())));
        for name in ["a b", "a/b", "ü", "a\0", "a:b"] {
            let expected = Err(InvalidTopicName::Characters(name.into()));
            assert_eq!(check_topic_name(name), expected);
        }
        assert!(matches!(check_topic_name(&"x".repeat(250)), Err(InvalidTopicName::TooLong(_))));
    }
}
