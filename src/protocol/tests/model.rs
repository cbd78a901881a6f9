//! What the differential tests of Produce and Fetch generate, in a form of their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use crate::base::ids::TopicId;
use crate::protocol::{TopicRef, WireStr};

/// A topic entry: what it holds depends on the message.
#[derive(Clone, Debug)]
pub(super) struct Topic<P> {
    pub(super) name: String,
    pub(super) id: [u8; 16],
    pub(super) partitions: Vec<P>,
}

impl<P> Topic<P> {
    /// As a message in `version` names it.
    pub(super) fn topic_ref(&self, version: i16) -> TopicRef<'_> {
        if version >= 13 {
            TopicRef::Id(TopicId(self.id))
        } else {
            TopicRef::Name(WireStr::from(self.name.as_str()))
        }
    }

    pub(super) fn oracle_name(&self, version: i16) -> TopicName {
        let name = if version >= 13 { String::new() } else { self.name.clone() };
        TopicName(StrBytes::from_string(name))
    }

    /// Hexadecimal, for the oracle's id type, which has no name here.
    pub(super) fn oracle_id(&self, version: i16) -> String {
        let id = if version >= 13 { self.id } else { [0; 16] };
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Up to five topics whose neighbours differ in name and id, so that no encoder merges them.
pub(super) fn topics<P>(
    partition: impl Strategy<Value = P> + Clone,
) -> impl Strategy<Value = Vec<Topic<P>>>
where
    P: Clone + std::fmt::Debug,
{
    let one = ("[a-z.é]{0,200}", any::<[u8; 16]>(), prop::collection::vec(partition, 0..6));
    prop::collection::vec(one, 0..5).prop_map(|topics| {
        let numbered = topics.into_iter().enumerate();
        numbered
            .map(|(idx, (name, mut id, partitions))| {
                id[0] = idx as u8;
                Topic { name: format!("{idx}{name}"), id, partitions }
            })
            .collect()
    })
}

/// Tagged fields that no version knows, for flexible versions.
pub(super) fn unknown_tags(flexible: bool) -> BTreeMap<i32, Bytes> {
    let tags = [(100, Bytes::new()), (1 << 20, Bytes::from_static(b"later"))];
    if flexible { tags.into() } else { BTreeMap::new() }
}

pub(super) fn records() -> impl Strategy<Value = Bytes> + Clone {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

pub(super) fn oracle_encode<M: Encodable>(message: &M, version: i16) -> Bytes {
    let mut bytes = bytes::BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

pub(super) fn oracle_decode<M: Decodable>(mut body: Bytes, version: i16) -> M {
    let message = M::decode(&mut body, version).unwrap();
    assert!(body.is_empty(), "the oracle read it all");
    message
}

/// The frame that `slices` make, without its prefix, which must be right.
pub(super) fn frame_of(slices: &[Bytes]) -> Bytes {
    let flat = slices.concat();
    let (prefix, rest) = flat.split_first_chunk::<4>().unwrap();
    assert_eq!(i32::from_be_bytes(*prefix) as usize, rest.len());
    Bytes::copy_from_slice(rest)
}
