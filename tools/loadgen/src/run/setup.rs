//! What happens on the wire before and after the load.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use thalweg::io::reactor::Reactor;

use crate::args::Idle;
use crate::client::admin::{Admin, AdminError, HotVersions, Leader, NewTopic};
use crate::client::dial::Dialer;
use crate::client::features::Needs;
use crate::client::group::GroupVersions;
use crate::clock::RunClock;
use crate::load::core::{driven, on_core};
use crate::load::pacer::Pacer;
use crate::load::txn::{EndsAfter, Transactions, TxnPlan};

/// Longest wait for a fresh topic's leaders, and for the whole set-up.
const LEADERS_WAIT: Duration = Duration::from_secs(30);
const SETUP_WAIT: Duration = Duration::from_secs(60);

/// Configuration that says what an acknowledgement means; asked of the broker, kept in the report.
const TELLING_CONFIGS: [&str; 5] =
    ["flush.messages", "flush.ms", "min.insync.replicas", "compression.type", "max.message.bytes"];

/// Which topic the run uses.
#[derive(Clone, Debug)]
pub enum TopicChoice {
    /// One of its own, or several.
    Fresh(NewTopic),
    /// One that exists; consumers start at its end, or at its beginning.
    Existing {
        /// Its name.
        name: String,
        /// Whether consumers read what is there already.
        from_beginning: bool,
    },
}

impl TopicChoice {
    /// The topic's name; what their names begin with, if there are several.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            TopicChoice::Fresh(topic) => &topic.name,
            TopicChoice::Existing { name, .. } => name,
        }
    }

    /// The names of all of them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            TopicChoice::Fresh(topic) => topic.names(),
            TopicChoice::Existing { name, .. } => vec![name.clone()],
        }
    }
}

/// What is to be prepared.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// A broker.
    pub bootstrap: SocketAddr,
    /// How to connect to it and to the others.
    pub dialer: Dialer,
    /// The topics.
    pub topic: TopicChoice,
    /// What the brokers have to offer.
    pub needs: Needs,
    /// The group whose coordinator is to be found.
    pub group: Option<String>,
    /// How long connections have to last.
    pub lasts: Duration,
}

/// What the load needs to know of the cluster.
#[derive(Clone, Debug)]
pub struct Ready {
    /// How to connect, with the names of all brokers.
    pub dialer: Dialer,
    /// How connections are encrypted, where they are.
    pub encryption: Option<String>,
    /// Versions that both sides speak.
    pub versions: HotVersions,
    /// The topics' names.
    pub topics: Vec<String>,
    /// Who leads which partition, topic by topic: a partition's number in the run is its place.
    pub leaders: Vec<Leader>,
    /// Where consumers start, by a partition's number in the run.
    pub offsets: BTreeMap<i32, i64>,
    /// The coordinator of the run's group and the versions that it speaks, where there is a group.
    pub group: Option<(SocketAddr, GroupVersions)>,
    /// The topic's telling configuration, where the broker tells.
    pub topic_configs: BTreeMap<String, String>,
    /// What is set on the broker, where it tells.
    pub broker_configs: BTreeMap<String, String>,
    /// The cluster's feature levels, where the broker tells.
    pub features: BTreeMap<String, i16>,
}

impl Wanted {
    /// `topic`, over connections that are not secured, and nothing else.
    #[must_use]
    pub fn plain(bootstrap: SocketAddr, topic: TopicChoice) -> Wanted {
        Wanted {
            bootstrap,
            dialer: Dialer::default(),
            topic,
            needs: Needs::default(),
            group: None,
            lasts: Duration::ZERO,
        }
    }

    /// Connects to a broker and looks whether it has what is needed.
    async fn broker(&self, addr: SocketAddr) -> Result<Admin, AdminError> {
        let admin = Admin::connect(&self.dialer, addr).await?;
        admin.check(&self.needs, u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX))?;
        Ok(admin)
    }
}

/// Prepares the topics and looks around, on CPU `cpu`.
pub fn prepare(cpu: usize, wanted: Wanted) -> io::Result<Ready> {
    on_wire(cpu, move |pacer| async move { prepare_async(&pacer, &wanted).await })
}

/// Deletes the run's own topics.
pub fn clean_up(cpu: usize, wanted: Wanted) -> io::Result<()> {
    on_wire(cpu, move |_| async move {
        let mut admin = Admin::connect(&wanted.dialer, wanted.bootstrap).await?;
        admin.delete_topics(&wanted.topic.names()).await
    })
}

/// Runs one exchange with the broker on an executor of its own, within a bound.
fn on_wire<T, F>(cpu: usize, task: impl FnOnce(Rc<Pacer>) -> F + Send + 'static) -> io::Result<T>
where
    F: Future<Output = Result<T, AdminError>> + 'static,
    T: Send + 'static,
{
    let thread = on_core("setup", cpu, move |reactor: Rc<Reactor>| async move {
        let pacer = Pacer::new(RunClock::start(), Idle::Park);
        let bounded = async {
            let late = async {
                glommio::timer::sleep(SETUP_WAIT).await;
                Err(AdminError::Refused("setting up", "nothing for a minute".to_owned()))
            };
            futures_lite::future::or(task(pacer), late).await
        };
        driven(reactor, Duration::ZERO, || false, bounded).await
    })?;
    let result = thread.join().map_err(|_| io::Error::other("the set-up thread died"))??;
    result.map_err(io::Error::other)
}

async fn prepare_async(pacer: &Rc<Pacer>, wanted: &Wanted) -> Result<Ready, AdminError> {
    let mut admin = wanted.broker(wanted.bootstrap).await?;
    let TopicChoice::Fresh(topic) = &wanted.topic else {
        return look_around(pacer, wanted, &mut admin).await;
    };
    admin.create_topic(topic).await?;
    let result = look_around(pacer, wanted, &mut admin).await;
    if result.is_err() {
        // The first failure is the one to tell.
        let _ = admin.delete_topics(&topic.names()).await;
    }
    result
}

async fn look_around(
    pacer: &Rc<Pacer>,
    wanted: &Wanted,
    admin: &mut Admin,
) -> Result<Ready, AdminError> {
    let choice = &wanted.topic;
    let topics = choice.names();
    let versions = admin.hot_versions()?;
    let group = match &wanted.group {
        None => None,
        Some(group) => Some(coordinator(pacer, admin, group).await?),
    };
    if wanted.needs.transactions {
        look_for_transactions(pacer, wanted, &versions, &topics[0]).await?;
    }
    let give_up_ns = pacer.clock().now_ns() + LEADERS_WAIT.as_nanos() as u64;
    let leaders = loop {
        match (admin.leaders(&topics).await?, choice) {
            (Some(leaders), TopicChoice::Existing { .. }) => break leaders,
            (Some(leaders), TopicChoice::Fresh(topic))
                if leaders.len() == topic.partitions as usize * topics.len() =>
            {
                break leaders;
            }
            _ if pacer.clock().now_ns() > give_up_ns => {
                let why = "that some partitions have no leader".to_owned();
                return Err(AdminError::Refused("waiting for leaders", why));
            }
            _ => pacer.until(pacer.clock().now_ns() + 50_000_000).await,
        }
    };
    // A fresh topic has leaders before they all serve it: wait until each names its offsets, so
    // that the run does not begin with errors that are nobody's fault.
    let earliest = match choice {
        TopicChoice::Fresh(_) => true,
        TopicChoice::Existing { from_beginning, .. } => *from_beginning,
    };
    let offsets = loop {
        match start_offsets(wanted, &topics, &leaders, earliest).await {
            Ok(offsets) => break offsets,
            Err(AdminError::Refused(..)) if pacer.clock().now_ns() < give_up_ns => {
                pacer.until(pacer.clock().now_ns() + 50_000_000).await;
            }
            Err(error) => return Err(error),
        }
    };
    // Not every broker describes configurations; the run does not depend on it.
    let topic_configs = admin.topic_configs(&topics[0], &TELLING_CONFIGS).await.unwrap_or_default();
    Ok(Ready {
        dialer: wanted.dialer.clone(),
        encryption: admin.encryption(),
        versions,
        topics,
        leaders,
        offsets,
        group,
        topic_configs,
        broker_configs: admin.broker_configs(wanted.bootstrap).await.unwrap_or_default(),
        features: admin.features().clone(),
    })
}

/// The first to ask makes the broker create its own topic; and it may not want us at all.
async fn look_for_transactions(
    pacer: &Rc<Pacer>,
    wanted: &Wanted,
    versions: &HotVersions,
    topic: &str,
) -> Result<(), AdminError> {
    let Some(transactions) = versions.transactions else { return Ok(()) };
    let plan = TxnPlan {
        id: "thalweg-bench-probe".to_owned(),
        topic: topic.to_owned(),
        versions: transactions,
        ends_after: EndsAfter::Batches(1),
        abort_every: None,
    };
    let (addr, greeting) = (wanted.bootstrap, versions.api_versions);
    Transactions::begin(plan, &wanted.dialer, addr, greeting, pacer.clone())
        .await
        .map(|_| ())
        .map_err(|broken| AdminError::Broken("looking for transactions", broken))
}

async fn coordinator(
    pacer: &Rc<Pacer>,
    admin: &mut Admin,
    group: &str,
) -> Result<(SocketAddr, GroupVersions), AdminError> {
    let versions = admin.group_versions()?;
    let give_up_ns = pacer.clock().now_ns() + LEADERS_WAIT.as_nanos() as u64;
    loop {
        match admin.coordinator(group).await? {
            Some(addr) => return Ok((addr, versions)),
            None if pacer.clock().now_ns() > give_up_ns => {
                let why = "that the group has none".to_owned();
                return Err(AdminError::Refused("asking for the group's coordinator", why));
            }
            None => pacer.until(pacer.clock().now_ns() + 100_000_000).await,
        }
    }
}

async fn start_offsets(
    wanted: &Wanted,
    topics: &[String],
    leaders: &[Leader],
    earliest: bool,
) -> Result<BTreeMap<i32, i64>, AdminError> {
    let all: Vec<i32> = (0..leaders.len() as i32).collect();
    let mut offsets = BTreeMap::new();
    for (addr, ids) in super::plan::by_leader(&all, leaders) {
        let mut admin = wanted.broker(addr).await?;
        for ids in ids.chunk_by(|&a, &b| leaders[a as usize].topic == leaders[b as usize].topic) {
            let first = &leaders[ids[0] as usize];
            let partitions: Vec<i32> =
                ids.iter().map(|&id| leaders[id as usize].partition).collect();
            let found = admin.offsets(&topics[first.topic as usize], &partitions, earliest).await?;
            let found: BTreeMap<i32, i64> = found.into_iter().collect();
            let known = ids.iter().zip(&partitions);
            offsets.extend(known.filter_map(|(&id, part)| Some((id, *found.get(part)?))));
        }
    }
    Ok(offsets)
}
