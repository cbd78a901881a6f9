//! The transactional producer behind a lane: finds its coordinator, begins and ends transactions.
//!
//! A lane is a producer of its own, with a transactional id of its own, so a producer that sends to
//! several leaders is several transactional producers. What goes wrong inside a transaction ends it:
//! InitProducerId aborts what is open and gives a new epoch.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use thalweg::protocol::codec::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    add_partitions_to_txn_request::AddPartitionsToTxnTopic,
};

use super::lane::LaneTarget;
use super::pacer::Pacer;
use crate::client::call::call;
use crate::client::dial::{Connected, Dialer};
use crate::client::error_name;
use crate::client::features::TxnVersions;
use crate::client::frames::Broken;
use crate::wire::produce::ProducerIdentity;

/// Pause before a coordinator that is busy is asked again; Java's clients take the same.
pub const BUSY_PAUSE_NS: u64 = 20_000_000;
/// The last transaction is not yet complete, as the coordinator or a leader says.
pub const CONCURRENT_TRANSACTIONS: i16 = 51;
/// The coordinator is loading, not there yet, or still busy with the last transaction.
const BUSY: [i16; 3] = [14, 15, CONCURRENT_TRANSACTIONS];
/// It has moved, or a broker that was named as the coordinator has not noticed yet: so for the first
/// transactions of a fresh cluster.
const NOT_COORDINATOR: i16 = 16;
const SETTLE_NS: u64 = 5_000_000_000;
/// After what time a coordinator aborts a transaction of a producer that has died, at least.
const TIMEOUT_MIN: Duration = Duration::from_secs(60);

/// One lane's transactions.
#[derive(Clone, Debug)]
pub struct TxnPlan {
    /// Its transactional id.
    pub id: String,
    /// The topic that it produces to; of several, the first.
    pub topic: String,
    /// Versions of the requests.
    pub versions: TxnVersions,
    /// How long they last.
    pub ends_after: EndsAfter,
    /// Every n-th is aborted.
    pub abort_every: Option<u64>,
}

/// When a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndsAfter {
    /// After so many batches.
    Batches(u64),
    /// After so many ns.
    Ns(u64),
}

impl TxnPlan {
    /// What the coordinator is told, ms.
    fn timeout_ms(&self) -> i32 {
        let lasts = match self.ends_after {
            EndsAfter::Batches(_) => Duration::ZERO,
            EndsAfter::Ns(ns) => Duration::from_nanos(ns) * 2,
        };
        i32::try_from(lasts.max(TIMEOUT_MIN).as_millis()).unwrap_or(i32::MAX)
    }
}

/// A transaction that is open.
struct Open {
    since_ns: u64,
    batches: u64,
    /// Their numbers among all partitions of the run.
    partitions: BTreeSet<i32>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Committed, or aborted on purpose.
    pub committed: bool,
    /// When its end was asked for, ns.
    pub asked_ns: u64,
    /// The producer id and epoch of the next one, if they are new: sequences begin anew.
    pub next: Option<ProducerIdentity>,
}

/// A transactional producer's connection to its coordinator.
pub struct Transactions {
    plan: TxnPlan,
    pacer: Rc<Pacer>,
    coordinator: Connected,
    identity: ProducerIdentity,
    open: Option<Open>,
    ended: u64,
}

impl Transactions {
    /// Asks the broker at `addr` for the coordinator, connects to that, and gets an epoch; what the
    /// last holder of the transactional id left open is aborted.
    ///
    /// # Errors
    /// [`Broken::Refused`] with the broker's word for it.
    pub async fn begin(
        plan: TxnPlan,
        dialer: &Dialer,
        addr: SocketAddr,
        greeting: i16,
        pacer: Rc<Pacer>,
    ) -> Result<Transactions, Broken> {
        let mut asked = dialer.connect(addr, greeting).await?;
        let coordinator = find(&plan, &mut asked, dialer, &pacer).await?;
        let coordinator = dialer.connect(coordinator, greeting).await?;
        let identity = ProducerIdentity { id: -1, epoch: -1 };
        let mut it = Transactions { plan, pacer, coordinator, identity, open: None, ended: 0 };
        it.start_over().await?;
        Ok(it)
    }

    /// Producer id and epoch.
    #[must_use]
    pub fn identity(&self) -> ProducerIdentity {
        self.identity
    }

    /// Aborts what is open and gets a new epoch.
    ///
    /// # Errors
    /// As [`Transactions::begin`].
    pub async fn start_over(&mut self) -> Result<(), Broken> {
        self.open = None;
        let mut request = InitProducerIdRequest::default();
        request.transactional_id = Some(self.plan.id.as_str().into());
        request.transaction_timeout_ms = self.plan.timeout_ms();
        if self.plan.versions.init_producer_id >= 3 {
            (request.producer_id, request.producer_epoch) = (-1, -1);
        }
        let since_ns = self.pacer.clock().now_ns();
        loop {
            let Connected { stream, reader, .. } = &mut self.coordinator;
            let answer =
                call(stream, reader, self.plan.versions.init_producer_id, &request).await?;
            if answer.error_code == 0 {
                self.identity =
                    ProducerIdentity { id: answer.producer_id, epoch: answer.producer_epoch };
                return Ok(());
            }
            pause_if_busy(&self.pacer, "InitProducerId", answer.error_code, since_ns).await?;
        }
    }

    /// A batch is about to leave for `target`. Returns whether it begins a transaction.
    ///
    /// # Errors
    /// As [`Transactions::begin`].
    pub async fn enter(&mut self, target: &LaneTarget) -> Result<bool, Broken> {
        let since_ns = self.pacer.clock().now_ns();
        let begins = self.open.is_none();
        let open = self.open.get_or_insert_with(|| Open {
            since_ns,
            batches: 0,
            partitions: BTreeSet::new(),
        });
        open.batches += 1;
        if open.partitions.insert(target.id)
            && let Some(version) = self.plan.versions.add_partitions
        {
            self.add(version, target).await?;
        }
        Ok(begins)
    }

    async fn add(&mut self, version: i16, target: &LaneTarget) -> Result<(), Broken> {
        let mut topic = AddPartitionsToTxnTopic::default();
        topic.name = target.topic.as_deref().unwrap_or(&self.plan.topic).into();
        topic.partitions = vec![target.partition];
        let mut request = AddPartitionsToTxnRequest::default();
        request.v3_and_below_transactional_id = self.plan.id.as_str().into();
        request.v3_and_below_producer_id = self.identity.id;
        request.v3_and_below_producer_epoch = self.identity.epoch;
        request.v3_and_below_topics = vec![topic];
        let since_ns = self.pacer.clock().now_ns();
        loop {
            let Connected { stream, reader, .. } = &mut self.coordinator;
            let answer = call(stream, reader, version, &request).await?;
            let results = answer
                .results_by_topic_v3_and_below
                .iter()
                .flat_map(|topic| &topic.results_by_partition);
            match results.map(|it| it.partition_error_code).find(|&code| code != 0) {
                None => return Ok(()),
                Some(code) => {
                    pause_if_busy(&self.pacer, "AddPartitionsToTxn", code, since_ns).await?
                }
            }
        }
    }

    /// When the open transaction ends, if that is before `next_send_ns` (or now).
    #[must_use]
    pub fn ends_by(&self, next_send_ns: u64) -> Option<u64> {
        let open = self.open.as_ref()?;
        match self.plan.ends_after {
            EndsAfter::Batches(batches) => (open.batches >= batches).then_some(0),
            EndsAfter::Ns(ns) => {
                Some(open.since_ns.saturating_add(ns)).filter(|&end_ns| end_ns <= next_send_ns)
            }
        }
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Ends the open transaction; everything in it is acknowledged.
    ///
    /// # Errors
    /// As [`Transactions::begin`]; whether it was committed is not known then.
    pub async fn end(&mut self) -> Result<Ended, Broken> {
        self.open = None;
        self.ended += 1;
        let aborts = self.plan.abort_every.is_some_and(|every| self.ended.is_multiple_of(every));
        let committed = !aborts;
        let mut request = EndTxnRequest::default();
        request.transactional_id = self.plan.id.as_str().into();
        request.producer_id = self.identity.id;
        request.producer_epoch = self.identity.epoch;
        request.committed = committed;
        let asked_ns = self.pacer.clock().now_ns();
        loop {
            let version = self.plan.versions.end_txn;
            let Connected { stream, reader, .. } = &mut self.coordinator;
            let answer = call(stream, reader, version, &request).await?;
            if answer.error_code == 0 {
                let given =
                    ProducerIdentity { id: answer.producer_id, epoch: answer.producer_epoch };
                let next = (version >= 5 && given.id >= 0).then_some(given);
                self.identity = next.unwrap_or(self.identity);
                return Ok(Ended { committed, asked_ns, next });
            }
            pause_if_busy(&self.pacer, "EndTxn", answer.error_code, asked_ns).await?;
        }
    }
}

async fn find(
    plan: &TxnPlan,
    asked: &mut Connected,
    dialer: &Dialer,
    pacer: &Rc<Pacer>,
) -> Result<SocketAddr, Broken> {
    let version = plan.versions.find_coordinator;
    let mut request = FindCoordinatorRequest::default();
    request.key_type = 1;
    if version >= 4 {
        request.coordinator_keys = vec![plan.id.as_str().into()];
    } else {
        request.key = plan.id.as_str().into();
    }
    let since_ns = pacer.clock().now_ns();
    loop {
        let answer = call(&asked.stream, &mut asked.reader, version, &request).await?;
        let (code, host, port) = match answer.coordinators.first() {
            Some(found) => (found.error_code, &found.host, found.port),
            None => (answer.error_code, &answer.host, answer.port),
        };
        if code == 0 {
            return Ok(dialer.resolve(host.as_str(), u16::try_from(port).unwrap_or(0))?);
        }
        pause_if_busy(pacer, "FindCoordinator", code, since_ns).await?;
    }
}

/// Waits a little if `code` says that the broker is busy.
///
/// # Errors
/// Every other code; and [`NOT_COORDINATOR`] when it comes for too long.
async fn pause_if_busy(
    pacer: &Rc<Pacer>,
    api: &str,
    code: i16,
    since_ns: u64,
) -> Result<(), Broken> {
    let now = pacer.clock().now_ns();
    let settles = code == NOT_COORDINATOR && now < since_ns + SETTLE_NS;
    if !settles && !BUSY.contains(&code) {
        return Err(Broken::Refused(format!("{api}: the broker says {}", error_name(code))));
    }
    pacer.until(now + BUSY_PAUSE_NS).await;
    Ok(())
}
