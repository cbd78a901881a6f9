//! Parts that Produce and Fetch share.

use super::reader::Reader;
use super::text::{TopicRef, WireStr};
use super::writer::Writer;
use super::{EncodeError, Malformed};
use crate::base::ids::{BrokerId, LeaderEpoch, TopicId};

/// Most topics plus partitions that one Produce or Fetch request may name. Each costs its sender
/// at least a byte, and the answer some 20; no real client comes near it.
pub(super) const ELEMENTS_MAX: usize = 1 << 18;

/// First version of Produce and of Fetch that names topics by id (KIP-516).
pub(super) const TOPIC_ID_VERSION: i16 = 13;

/// Counts what a request names, against [`ELEMENTS_MAX`].
pub(super) struct ElementBudget(usize);

impl ElementBudget {
    pub(super) fn new() -> ElementBudget {
        ElementBudget(ELEMENTS_MAX)
    }

    pub(super) fn charge(&mut self, count: usize, reader: &Reader<'_>) -> Result<(), Malformed> {
        match self.0.checked_sub(count) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => reader.malformed("number of topics and partitions"),
        }
    }
}

pub(super) fn read_topic<'a>(
    reader: &mut Reader<'a>,
    version: i16,
) -> Result<TopicRef<'a>, Malformed> {
    if version >= TOPIC_ID_VERSION {
        reader.fixed::<[u8; 16]>("topic id").map(|id| TopicRef::Id(TopicId(*id)))
    } else {
        reader.string("topic name").map(|name| TopicRef::Name(WireStr::new(name)))
    }
}

pub(super) fn write_topic(writer: &mut Writer, version: i16, topic: TopicRef<'_>) {
    match (topic, version >= TOPIC_ID_VERSION) {
        (TopicRef::Id(id), true) => writer.raw(&id.0),
        (TopicRef::Name(name), false) => writer.string(name.as_bytes()),
        _ => writer.fail(EncodeError::WrongTopicKind(version)),
    }
}

/// Bytes that a topic takes at least: its name's length or its id, and its partitions' count.
pub(super) const fn topic_bytes_min(version: i16, flexible: bool) -> usize {
    match (version >= TOPIC_ID_VERSION, flexible) {
        (true, _) => 16 + 1 + 1,
        (false, true) => 1 + 1 + 1,
        (false, false) => 2 + 4,
    }
}

/// Where a partition is led, for a client that came to the wrong broker (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    /// The leader's id; -1 if there is none.
    pub leader: BrokerId,
    /// The epoch in which it leads.
    pub epoch: LeaderEpoch,
}

impl CurrentLeader {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<CurrentLeader, Malformed> {
        let leader = BrokerId(reader.i32("leader id")?);
        let epoch = LeaderEpoch(reader.i32("leader epoch")?);
        reader.skip_tagged_fields()?;
        Ok(CurrentLeader { leader, epoch })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.i32(self.leader.0);
        writer.i32(self.epoch.0);
        writer.no_tagged_fields();
    }
}

/// Where a broker named by a [`CurrentLeader`] listens (KIP-951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's id.
    pub node: BrokerId,
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// The tagged fields at the end of a Produce or Fetch response: field 0, or none.
pub(super) fn write_node_endpoints(writer: &mut Writer, endpoints: &[NodeEndpoint]) {
    if endpoints.is_empty() {
        return writer.no_tagged_fields();
    }
    writer.tagged_field_count(1);
    writer.tagged_field(0, |field| {
        field.array_len(endpoints.len());
        for endpoint in endpoints {
            field.i32(endpoint.node.0);
            field.string(endpoint.host.as_bytes());
            field.i32(i32::from(endpoint.port));
            field.nullable_string(endpoint.rack.as_deref().map(str::as_bytes));
            field.no_tagged_fields();
        }
    });
}
