//! Why bytes from a peer are not what they claim to be.

/// Bytes that do not follow Kafka's encoding. There is no answer to them: the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} at byte {at}")]
pub struct Malformed {
    what: &'static str,
    at: usize,
}

impl Malformed {
    /// `what` could not be read; `at` counts bytes from the start of the part that was parsed
    /// (a header or a body).
    #[must_use]
    pub const fn new(what: &'static str, at: usize) -> Malformed {
        Malformed { what, at }
    }

    /// The element that could not be read.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// Bytes before it, from the start of the header or body.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }
}

/// A message of ours that Kafka's encoding cannot carry. A defect of the caller, or an answer that
/// outgrew a frame; never a peer's doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A frame's length is a signed 32-bit number.
    #[error("frame of {0} bytes is longer than 2^31 - 1")]
    FrameTooLong(usize),
    /// A string of the non-flexible encodings is at most 32,767 bytes long.
    #[error("string of {0} bytes is longer than 32,767")]
    StringTooLong(usize),
    /// A topic is named by its name up to some version and by its id from there on; the message
    /// holds the other one.
    #[error("version {0} names topics in the other way")]
    WrongTopicKind(i16),
    /// The codec crate refuses the message, mostly because a field that is set does not exist in
    /// the version asked for.
    #[error(transparent)]
    Codec(#[from] super::codec::CodecError),
}
