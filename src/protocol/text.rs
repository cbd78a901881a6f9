//! Strings and topic names as they came, without a copy.

use std::borrow::Cow;
use std::fmt;

use crate::base::ids::TopicId;

/// A string of the wire: bytes that should be UTF-8, and need not be. A name that is not UTF-8 is
/// an invalid name (17), not a broken request: Kafka's own decoder replaces such bytes by U+FFFD
/// and refuses the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireStr<'a>(&'a [u8]);

impl<'a> WireStr<'a> {
    /// Wraps bytes that were read, or are to be written, as a string.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> WireStr<'a> {
        WireStr(bytes)
    }

    /// The bytes, for sending them back as they came.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The text; `None` if the bytes are not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }

    /// The text, with U+FFFD for what is not UTF-8: for logs and error messages.
    #[must_use]
    pub fn to_lossy(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }
}

impl<'a> From<&'a str> for WireStr<'a> {
    fn from(text: &'a str) -> WireStr<'a> {
        WireStr(text.as_bytes())
    }
}

impl fmt::Debug for WireStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_lossy(), f)
    }
}

/// How a message names a topic: by name up to Produce 12 and Fetch 12, by id from 13 on (KIP-516).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    /// By its name, as it came.
    Name(WireStr<'a>),
    /// By its id.
    Id(TopicId),
}

impl<'a> TopicRef<'a> {
    /// The name, where the message holds one.
    #[must_use]
    pub const fn name(&self) -> Option<WireStr<'a>> {
        match self {
            TopicRef::Name(name) => Some(*name),
            TopicRef::Id(_) => None,
        }
    }

    /// The id, where the message holds one.
    #[must_use]
    pub const fn id(&self) -> Option<TopicId> {
        match self {
            TopicRef::Name(_) => None,
            TopicRef::Id(id) => Some(*id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_42_a_name_that_is_not_utf_8_survives_as_bytes_and_is_no_text() {
        let name = WireStr::new(b"a\xffb");
        assert_eq!(name.as_str(), None);
        assert_eq!(name.as_bytes(), b"a\xffb");
        assert_eq!(name.to_lossy(), "a\u{fffd}b");
    }
}
