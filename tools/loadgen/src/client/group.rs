//! A member of a consumer group, in the classic protocol: as much of it as rebalances need.
//!
//! Not here: when members come and go, and what is measured (`load::rebalance`).

use std::net::SocketAddr;

use bytes::{BufMut, Bytes};
use messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, SyncGroupRequest,
};
use serde::Serialize;
use thalweg::protocol::codec::messages;

use super::call::call;
use super::dial::{Connected, Dialer};
use super::error_name;
use super::frames::{Broken, FrameReader};
use super::stream::Stream;

/// Kafka's codes that a member acts on.
const MEMBER_ID_REQUIRED: i16 = 79;
const REBALANCE_IN_PROGRESS: i16 = 27;
const UNKNOWN_MEMBER: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;

/// As Kafka's consumer has them.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;

/// The versions of the group APIs that both sides speak.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GroupVersions {
    /// FindCoordinator.
    pub find_coordinator: i16,
    /// JoinGroup.
    pub join: i16,
    /// SyncGroup.
    pub sync: i16,
    /// Heartbeat.
    pub heartbeat: i16,
    /// LeaveGroup.
    pub leave: i16,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing new.
    Stable,
    /// Join again.
    Rejoin,
}

/// One member and its connection to the coordinator.
pub struct GroupMember {
    stream: Stream,
    reader: FrameReader,
    versions: GroupVersions,
    group: String,
    member_id: String,
    generation: i32,
}

impl GroupMember {
    /// A member to be of `group`, connected to its coordinator.
    ///
    /// # Errors
    /// As those of the connection.
    pub async fn connect(
        dialer: &Dialer,
        coordinator: SocketAddr,
        greeting: i16,
        versions: GroupVersions,
        group: &str,
    ) -> Result<GroupMember, Broken> {
        let Connected { stream, reader, .. } = dialer.connect(coordinator, greeting).await?;
        let (group, member_id) = (group.to_owned(), String::new());
        Ok(GroupMember { stream, reader, versions, group, member_id, generation: -1 })
    }

    /// Joins, leads if it is asked to, and takes its assignment: each of `topics` has `partitions`.
    /// Returns the generation; `None` if the group moved on meanwhile and it has to try again.
    ///
    /// # Errors
    /// A connection of no more use, or Kafka's name of an error that is not part of a rebalance.
    pub async fn join(
        &mut self,
        topics: &[String],
        partitions: u32,
    ) -> Result<Option<i32>, GroupError> {
        let joined = loop {
            let joined = self.try_join(topics).await?;
            match joined.error_code {
                0 => break joined,
                MEMBER_ID_REQUIRED => self.member_id = joined.member_id.as_str().to_owned(),
                code => return self.setback("JoinGroup", code).map(|()| None),
            }
        };
        self.member_id = joined.member_id.as_str().to_owned();
        self.generation = joined.generation_id;
        let mut request = SyncGroupRequest::default();
        request.group_id = self.group.as_str().into();
        request.generation_id = joined.generation_id;
        request.member_id = self.member_id.as_str().into();
        if joined.leader == joined.member_id {
            request.assignments = assignments(&joined, topics, partitions);
        }
        let answer = call(&self.stream, &mut self.reader, self.versions.sync, &request).await?;
        match answer.error_code {
            0 => Ok(Some(self.generation)),
            code => self.setback("SyncGroup", code).map(|()| None),
        }
    }

    /// Tells the coordinator that it is there.
    ///
    /// # Errors
    /// As [`GroupMember::join`].
    pub async fn heartbeat(&mut self) -> Result<Pulse, GroupError> {
        let mut request = HeartbeatRequest::default();
        request.group_id = self.group.as_str().into();
        request.generation_id = self.generation;
        request.member_id = self.member_id.as_str().into();
        let version = self.versions.heartbeat;
        let answer = call(&self.stream, &mut self.reader, version, &request).await?;
        match answer.error_code {
            0 => Ok(Pulse::Stable),
            code => self.setback("Heartbeat", code).map(|()| Pulse::Rejoin),
        }
    }

    /// Leaves the group.
    ///
    /// # Errors
    /// As [`GroupMember::join`].
    pub async fn leave(mut self) -> Result<(), GroupError> {
        let mut request = LeaveGroupRequest::default();
        request.group_id = self.group.as_str().into();
        request.member_id = self.member_id.as_str().into();
        let version = self.versions.leave;
        let answer = call(&self.stream, &mut self.reader, version, &request).await?;
        match answer.error_code {
            0 => Ok(()),
            code => Err(GroupError::Refused("LeaveGroup", code)),
        }
    }

    async fn try_join(&mut self, topics: &[String]) -> Result<JoinGroupResponse, Broken> {
        let mut protocol = messages::join_group_request::JoinGroupRequestProtocol::default();
        protocol.name = "roundrobin".into();
        protocol.metadata = subscription(topics);
        let mut request = JoinGroupRequest::default();
        request.group_id = self.group.as_str().into();
        request.session_timeout_ms = SESSION_TIMEOUT_MS;
        request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
        request.member_id = self.member_id.as_str().into();
        request.protocol_type = "consumer".into();
        request.protocols = vec![protocol];
        call(&self.stream, &mut self.reader, self.versions.join, &request).await
    }

    /// What belongs to rebalances is no error: the member joins again, as another one if it has to.
    fn setback(&mut self, api: &'static str, code: i16) -> Result<(), GroupError> {
        match code {
            REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => Ok(()),
            UNKNOWN_MEMBER => {
                self.member_id.clear();
                Ok(())
            }
            code => Err(GroupError::Refused(api, code)),
        }
    }
}

/// Why a member cannot go on.
#[derive(Debug)]
pub enum GroupError {
    /// Its connection is of no more use.
    Broken(Broken),
    /// The coordinator refused: API and Kafka's code.
    Refused(&'static str, i16),
}

impl From<Broken> for GroupError {
    fn from(broken: Broken) -> GroupError {
        GroupError::Broken(broken)
    }
}

impl GroupError {
    /// API (or `connection`) and name, as errors are counted.
    #[must_use]
    pub fn named(&self) -> (&'static str, String) {
        match self {
            GroupError::Broken(broken) => ("connection", broken.to_string()),
            GroupError::Refused(api, code) => (api, error_name(*code)),
        }
    }
}

/// Asks the broker at the other end who coordinates `group`: node id, host and port, or the code of
/// Kafka's error.
///
/// # Errors
/// Those of the connection.
pub async fn find_coordinator(
    stream: &Stream,
    reader: &mut FrameReader,
    version: i16,
    group: &str,
) -> Result<Result<(String, u16), i16>, Broken> {
    let mut request = FindCoordinatorRequest::default();
    request.key = group.into();
    let answer = call(stream, reader, version, &request).await?;
    Ok(match answer.error_code {
        0 => Ok((answer.host.as_str().to_owned(), u16::try_from(answer.port).unwrap_or(0))),
        code => Err(code),
    })
}

/// Kafka's consumer protocol, version 0: the topics that a member wants.
fn subscription(topics: &[String]) -> Bytes {
    let mut out = Vec::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|topic| put_string(&mut out, topic));
    out.put_i32(-1); // no user data
    out.into()
}

/// The same protocol: every partition to one member, in turn.
fn assignments(
    joined: &JoinGroupResponse,
    topics: &[String],
    partitions: u32,
) -> Vec<messages::sync_group_request::SyncGroupRequestAssignment> {
    let count = joined.members.len().max(1);
    let assignment = |place: usize| {
        let mut out = Vec::new();
        out.put_i16(0);
        out.put_i32(topics.len() as i32);
        for topic in topics {
            put_string(&mut out, topic);
            let mine: Vec<usize> = (place..partitions as usize).step_by(count).collect();
            out.put_i32(mine.len() as i32);
            mine.iter().for_each(|&partition| out.put_i32(partition as i32));
        }
        out.put_i32(-1); // no user data
        Bytes::from(out)
    };
    let members = joined.members.iter().enumerate().map(|(place, member)| {
        let mut it = messages::sync_group_request::SyncGroupRequestAssignment::default();
        it.member_id = member.member_id.clone();
        it.assignment = assignment(place);
        it
    });
    members.collect()
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Topics and partitions of an assignment, read from its bytes.
    fn read(mut bytes: &[u8]) -> Vec<(String, Vec<i32>)> {
        fn int(bytes: &mut &[u8]) -> i32 {
            let (head, rest) = bytes.split_first_chunk::<4>().expect("four bytes");
            *bytes = rest;
            i32::from_be_bytes(*head)
        }
        assert_eq!(bytes[..2], [0, 0], "version 0");
        bytes = &bytes[2..];
        let topics = (0..int(&mut bytes)).map(|_| {
            let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            let topic = String::from_utf8(bytes[2..2 + len].to_vec()).expect("a name");
            bytes = &bytes[2 + len..];
            let partitions = (0..int(&mut bytes)).map(|_| int(&mut bytes)).collect();
            (topic, partitions)
        });
        let topics = topics.collect();
        assert_eq!(bytes, [255; 4], "no user data, and nothing behind it");
        topics
    }

    #[test]
    fn the_leader_gives_every_partition_to_one_member() {
        let mut joined = JoinGroupResponse::default();
        for name in ["a", "b", "c"] {
            let mut member = messages::join_group_response::JoinGroupResponseMember::default();
            member.member_id = name.into();
            joined.members.push(member);
        }
        let topics = ["one".to_owned(), "two".to_owned()];
        let mut owners: BTreeMap<(String, i32), Vec<String>> = BTreeMap::new();
        for given in assignments(&joined, &topics, 7) {
            for (topic, partitions) in read(&given.assignment) {
                for partition in partitions {
                    let owners = owners.entry((topic.clone(), partition)).or_default();
                    owners.push(given.member_id.as_str().to_owned());
                }
            }
        }
        assert_eq!(owners.len(), 14);
        assert!(owners.values().all(|owners| owners.len() == 1));
    }
}
