//! Rebalances: members of one consumer group that does nothing else, of which one joins or leaves at
//! a given pace. Measured is how long the group takes from the intended time of that until each
//! member has its new assignment, and how long each member has none.
//!
//! Members learn of a rebalance from their next heartbeat, as Kafka's consumers do, so the heartbeat
//! interval is part of the figure. All of it is on one load core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use thalweg::base::signal::Event;

use super::pacer::Pacer;
use super::recorder::Recorder;
use crate::client::dial::Dialer;
use crate::client::group::{GroupError, GroupMember, GroupVersions, Pulse};

/// Pause before a member that was refused tries again.
const RETRY_PAUSE_NS: u64 = 50_000_000;
/// How long members may take to leave when the run is over.
const LEAVE_NS: u64 = 2_000_000_000;

/// What the group does.
#[derive(Clone, Debug)]
pub struct RebalancePlan {
    /// How to connect.
    pub dialer: Dialer,
    /// The group's coordinator.
    pub coordinator: SocketAddr,
    /// Versions that both sides speak.
    pub versions: GroupVersions,
    /// ApiVersions version.
    pub greeting: i16,
    /// The group.
    pub group: String,
    /// Topics that it reads.
    pub topics: Vec<String>,
    /// Partitions of each.
    pub partitions: u32,
    /// Members that stay.
    pub members: u32,
    /// Time from one rebalance's intended beginning to the next one's.
    pub every: Duration,
    /// Time between two heartbeats of a member.
    pub heartbeat: Duration,
}

/// The group at work.
pub struct Rebalances {
    plan: RebalancePlan,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    /// The generation of each member that is to be there; -1 before its first assignment.
    members: RefCell<BTreeMap<u32, i32>>,
    /// Members whose task has not ended.
    running: Cell<u32>,
    changed: Event,
}

impl Rebalances {
    /// A group of `plan`.
    #[must_use]
    pub fn new(plan: RebalancePlan, pacer: Rc<Pacer>, recorder: Rc<Recorder>) -> Rc<Rebalances> {
        Rc::new(Rebalances {
            plan,
            pacer,
            recorder,
            members: RefCell::default(),
            running: Cell::new(0),
            changed: Event::new(),
        })
    }

    /// Forms the group, then lets one member come and go until the run's end.
    pub async fn run(self: Rc<Rebalances>) {
        let window = self.recorder.window();
        (0..self.plan.members).for_each(|member| self.add(member));
        let extra = self.plan.members;
        let mut intended_ns = window.start_ns;
        let over = async {
            self.pacer.until(window.end_ns).await;
            None
        };
        let mut generation = future::or(self.stable_after(-1), over).await;
        while let Some(before) = generation {
            // What fell due while the group was formed, or took its time, is not made up for: each
            // rebalance is measured alone.
            let every_ns = self.plan.every.as_nanos() as u64;
            while intended_ns <= self.now() {
                intended_ns += every_ns;
            }
            if intended_ns >= window.end_ns {
                break;
            }
            self.pacer.until(intended_ns).await;
            let there = self.members.borrow().contains_key(&extra);
            if there {
                self.remove(extra)
            } else {
                self.add(extra)
            }
            let late = async {
                self.pacer.until(window.deadline_ns.saturating_sub(LEAVE_NS)).await;
                None
            };
            generation = future::or(self.stable_after(before), late).await;
            let took_ns = self.now().saturating_sub(intended_ns);
            self.recorder.at(intended_ns, |tally| match generation {
                Some(_) => {
                    tally.counters.rebalances += 1;
                    tally.latencies.more("rebalance").saturating_record(took_ns);
                }
                None => tally.count_error("rebalance", "not over at the end"),
            });
        }
        self.members.borrow_mut().clear();
        self.changed.notify();
        let gone = async {
            while self.running.get() > 0 {
                self.changed.wait().await;
            }
        };
        future::or(gone, self.pacer.until(self.now() + LEAVE_NS)).await;
    }

    fn now(&self) -> u64 {
        self.pacer.clock().now_ns()
    }

    fn add(self: &Rc<Rebalances>, member: u32) {
        self.members.borrow_mut().insert(member, -1);
        self.running.set(self.running.get() + 1);
        let group = self.clone();
        glommio::spawn_local(async move {
            while group.wanted(member) {
                if let Err(error) = group.member(member).await {
                    let (api, name) = error.named();
                    group.recorder.error(group.now(), api, name);
                    group.pacer.until(group.now() + RETRY_PAUSE_NS).await;
                }
            }
            group.running.set(group.running.get() - 1);
            group.changed.notify();
        })
        .detach();
    }

    fn remove(&self, member: u32) {
        self.members.borrow_mut().remove(&member);
        self.changed.notify();
    }

    fn wanted(&self, member: u32) -> bool {
        self.members.borrow().contains_key(&member)
    }

    /// Waits until all members have an assignment of one generation beyond `before`; returns it.
    async fn stable_after(&self, before: i32) -> Option<i32> {
        loop {
            let generation = {
                let members = self.members.borrow();
                let first = members.values().next().copied();
                first.filter(|first| *first > before && members.values().all(|it| it == first))
            };
            if generation.is_some() {
                return generation;
            }
            self.changed.wait().await;
        }
    }

    /// One member, until it is not wanted any more.
    async fn member(&self, member: u32) -> Result<(), GroupError> {
        let plan = &self.plan;
        let RebalancePlan { dialer, coordinator, greeting, versions, group, .. } = plan;
        let connect = GroupMember::connect(dialer, *coordinator, *greeting, *versions, group);
        let mut client = connect.await?;
        let mut joining_ns = self.now();
        while self.wanted(member) {
            self.pacer.worked();
            let Some(generation) = client.join(&plan.topics, plan.partitions).await? else {
                continue;
            };
            let now = self.now();
            if let Some(known) = self.members.borrow_mut().get_mut(&member) {
                let first = std::mem::replace(known, generation) < 0;
                if !first {
                    self.recorder.at(now, |tally| {
                        let pause = tally.latencies.more("member_pause");
                        pause.saturating_record(now.saturating_sub(joining_ns).max(1));
                    });
                }
            }
            self.changed.notify();
            self.beat(member, &mut client).await?;
            joining_ns = self.now();
        }
        client.leave().await
    }

    /// Heartbeats until the member has to join again, or is not wanted any more.
    async fn beat(&self, member: u32, client: &mut GroupMember) -> Result<(), GroupError> {
        let heartbeat_ns = self.plan.heartbeat.as_nanos() as u64;
        loop {
            let next_ns = self.now() + heartbeat_ns;
            let gone = async {
                while self.wanted(member) {
                    self.changed.wait().await;
                }
            };
            future::or(gone, self.pacer.until(next_ns)).await;
            if !self.wanted(member) || client.heartbeat().await? == Pulse::Rejoin {
                return Ok(());
            }
        }
    }
}
