//! Partitions over a real store in a temporary directory.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use proptest::prelude::*;

use super::ack_queue::AckError;
use super::admission::AdmissionError;
use super::append::{AppendError, AppendTicket};
use super::config::{PartitionConfig, TimestampRule};
use super::epochs::AccessError;
use super::list_offsets::{ListedOffset, OffsetLookup, OffsetSpec};
use super::read_plan::{Isolation, ReadError, ReadRequest};
use super::{CloseReason, Partition};
use crate::base::clock::Clock;
use crate::base::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardId, TopicId,
    TopicPartition,
};
use crate::base::signal::Event;
use crate::io::disk::Disk;
use crate::io::sim_disk::SimDisk;
use crate::record::{BatchBuilder, Compression, UncheckedBatch, records, stored_batches};
use crate::storage::producer_table::SequenceError;
use crate::storage::{LogConfig, Store, StoreConfig, recover};

const NOW_MS: i64 = 1_700_000_000_000;

const TP: TopicPartition =
    TopicPartition { topic_id: TopicId([7; 16]), partition: PartitionIndex(0) };

/// A small store: a test writes little.
fn store_config() -> StoreConfig {
    StoreConfig { journal_file_bytes: 1 << 20, ..StoreConfig::default() }
}

/// One start of a broker with one partition, in `dir`.
struct Broker {
    store: Rc<Store>,
    partition: RefCell<Partition>,
}

impl Broker {
    async fn start(dir: &Path, leader_epoch: i32, config: PartitionConfig) -> Broker {
        Broker::start_on(Disk::Blocking, dir, leader_epoch, config).await
    }

    async fn start_on(
        disk: Disk,
        dir: &Path,
        leader_epoch: i32,
        config: PartitionConfig,
    ) -> Broker {
        let settings = store_config();
        let live = |tp: &TopicPartition| (*tp == TP).then(|| config.log.clone());
        let recovered = recover(&disk, dir, [1; 16], &settings, NOW_MS, &live).await;
        let shard = recovered.expect("recovers").take_shard(ShardId(0), |_| true);
        let (clock, _) = Clock::simulated(NOW_MS);
        let store = Store::open(disk, dir.to_path_buf(), settings, clock, shard).await;
        let store = store.expect("opens");
        let log = store.open_log(TP, config.log.clone()).expect("opens");
        let epoch = LeaderEpoch(leader_epoch);
        let partition = RefCell::new(Partition::open(log, store.journal(), epoch, config));
        Broker { store, partition }
    }

    fn append(&self, bytes: Bytes) -> Result<AppendTicket, AppendError> {
        let batch = UncheckedBatch::from_produce(bytes).expect("one batch");
        self.partition.borrow_mut().append(self.store.journal(), batch, NOW_MS)
    }

    /// What the shard's commit loop does with one group.
    async fn commit(&self) {
        for member in self.store.commit_group().await.expect("commits").members {
            assert_eq!(member.topic_partition, TP);
            let (written, durable) = (member.written_end, member.durable_end);
            self.partition.borrow_mut().on_committed(written, durable);
        }
    }

    async fn read(&self, request: &ReadRequest) -> Vec<u8> {
        let outcome = self.partition.borrow().plan_read(request).expect("in range");
        match outcome.plan {
            None => Vec::new(),
            Some(plan) => plan.read().await.expect("reads").concat(),
        }
    }

    /// Everything from `offset` on, in as many reads as it takes: one read may end where a segment
    /// or the memory ends.
    async fn values_from(&self, offset: i64) -> Vec<(i64, String)> {
        let mut found: Vec<(i64, String)> = Vec::new();
        loop {
            let next = found.last().map_or(offset, |(last, _)| last + 1);
            let more = values(&self.read(&from(next)).await);
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    fn chain(&self) -> super::offsets::OffsetChain {
        *self.partition.borrow().offsets()
    }
}

fn with_dir<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    block_on(test(dir.path().to_path_buf()));
}

fn flush_messages(flush_messages: i64) -> PartitionConfig {
    let log = LogConfig { flush_messages, ..LogConfig::default() };
    PartitionConfig { log, ..PartitionConfig::default() }
}

fn from(fetch_offset: i64) -> ReadRequest {
    ReadRequest {
        fetch_offset: Offset(fetch_offset),
        bytes_max: 1 << 20,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        isolation: Isolation::ReadUncommitted,
    }
}

/// Offsets and values of stored batches.
fn values(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in stored_batches(bytes) {
        let mut records = records(batch.expect("whole batches"), 1 << 20).expect("readable");
        while let Some(record) = records.next_record() {
            let record = record.expect("a record");
            let value = String::from_utf8_lossy(record.value().expect("a value")).into_owned();
            found.push((record.offset().0, value));
        }
    }
    found
}

/// A batch of records with these values, a millisecond apart.
fn batch(values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None, NOW_MS);
    for (value, timestamp_ms) in values.iter().zip(NOW_MS..) {
        builder.append(timestamp_ms, None, Some(value.as_bytes()), &[]);
    }
    builder
}

fn plain(values: &[&str]) -> Bytes {
    batch(values).build().expect("builds")
}

fn produced(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    let mut builder = batch(values);
    builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    builder.build().expect("builds")
}

/// Whether the acknowledgement is still to come.
fn is_pending(ticket: &mut AppendTicket) -> bool {
    block_on(poll_once(&mut ticket.acked)).is_none()
}

#[test]
fn an_append_is_acknowledged_only_after_its_group_is_committed() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        let mut first = broker.append(plain(&["a", "b"])).expect("appends");
        let mut second = broker.append(plain(&["c"])).expect("appends");
        assert_eq!((first.base_offset, first.last_offset), (Offset(0), Offset(1)));
        assert_eq!((second.base_offset, second.last_offset), (Offset(2), Offset(2)));
        assert!(is_pending(&mut first) && is_pending(&mut second));
        assert_eq!((broker.chain().log_end, broker.chain().ackable), (Offset(3), Offset(0)));
        broker.commit().await;
        assert_eq!(first.acked.await, Ok(()));
        assert_eq!(second.acked.await, Ok(()));
        assert_eq!(broker.chain().last_stable, Offset(3));
    });
}

#[test]
fn a_fetch_sees_only_what_lies_below_the_high_watermark() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        drop(broker.append(plain(&["a"])).expect("appends"));
        assert_eq!(broker.values_from(0).await, []);
        broker.commit().await;
        drop(broker.append(plain(&["b"])).expect("appends"));
        assert_eq!(broker.values_from(0).await, [(0, "a".to_owned())]);
        assert_eq!(broker.values_from(1).await, []);
        assert_eq!(broker.values_from(2).await, []);
        let beyond = broker.partition.borrow().plan_read(&from(3)).err();
        let (log_start, log_end) = (Offset(0), Offset(2));
        let error = ReadError::OutOfRange { fetch_offset: Offset(3), log_start, log_end };
        assert_eq!(beyond, Some(error));
        broker.commit().await;
        assert_eq!(broker.values_from(1).await, [(1, "b".to_owned())]);
    });
}

#[test]
fn a_fetch_from_inside_a_batch_gets_the_whole_batch() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        drop(broker.append(plain(&["a", "b", "c"])).expect("appends"));
        broker.commit().await;
        assert_eq!(broker.values_from(1).await.len(), 3);
        // KIP-74: a batch over the limit comes all the same.
        let tiny = ReadRequest { bytes_max: 1, ..from(2) };
        assert_eq!(values(&broker.read(&tiny).await).len(), 3);
    });
}

#[test]
fn a_retry_waits_for_its_original_and_gets_its_offset() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        let original = broker.append(produced(9, 0, 0, &["a", "b"])).expect("appends");
        let mut retry = broker.append(produced(9, 0, 0, &["a", "b"])).expect("is recognised");
        assert!(retry.is_duplicate && !original.is_duplicate);
        assert_eq!((retry.base_offset, retry.last_offset), (Offset(0), Offset(1)));
        assert_eq!(retry.log_append_time_ms, Some(NOW_MS + 1), "the original's timestamp");
        assert!(is_pending(&mut retry), "the original is not acknowledged either");
        broker.commit().await;
        assert_eq!(original.acked.await, Ok(()));
        assert_eq!(retry.acked.await, Ok(()));
        let late = broker.append(produced(9, 0, 0, &["a", "b"])).expect("is recognised");
        assert_eq!(late.acked.settled(), Some(Ok(())));
        assert_eq!(broker.values_from(0).await.len(), 2, "stored once");
    });
}

#[test]
fn a_gap_and_a_fenced_epoch_take_no_offset() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        drop(broker.append(produced(9, 1, 0, &["a"])).expect("appends"));
        let gap = broker.append(produced(9, 1, 5, &["b"])).err();
        let out_of_order =
            SequenceError::OutOfOrder { id: ProducerId(9), last: Sequence(0), got: Sequence(5) };
        assert_eq!(gap, Some(AppendError::Sequence(out_of_order)));
        let stale = broker.append(produced(9, 0, 1, &["b"])).err();
        let is_stale =
            matches!(stale, Some(AppendError::Sequence(SequenceError::StaleEpoch { .. })));
        assert!(is_stale);
        assert_eq!(broker.chain().log_end, Offset(1));
        let next = broker.append(produced(9, 1, 1, &["b"])).expect("appends");
        assert_eq!(next.base_offset, Offset(1));
    });
}

#[test]
fn a_transactional_batch_is_refused_until_there_are_transactions() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        let mut builder = batch(&["a"]);
        builder.producer(ProducerId(9), ProducerEpoch(0), Sequence(0)).transactional();
        let refused = broker.append(builder.build().expect("builds")).err();
        assert_eq!(refused, Some(AppendError::NoTransaction));
        assert_eq!(broker.chain().log_end, Offset(0));
    });
}

#[test]
fn a_refused_batch_changes_nothing() {
    with_dir(|dir| async move {
        let config = PartitionConfig { max_message_bytes: 80, ..PartitionConfig::default() };
        let broker = Broker::start(&dir, 0, config).await;
        let before = broker.chain();
        let refused = broker.append(produced(9, 0, 0, &["a value that is too long"])).err();
        let is_too_large =
            matches!(refused, Some(AppendError::Refused(AdmissionError::TooLarge { .. })));
        assert!(is_too_large);
        assert_eq!(broker.chain(), before);
        let known = broker.partition.borrow().log().borrow().producers().len();
        assert_eq!(known, 0);
    });
}

#[test]
fn what_is_not_synced_first_is_acknowledged_when_it_is_written() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, flush_messages(i64::MAX)).await;
        broker.commit().await; // the epoch's start, which is durable
        let ticket = broker.append(plain(&["a"])).expect("appends");
        broker.commit().await;
        assert_eq!(ticket.acked.await, Ok(()));
        let durable_end = broker.partition.borrow().log().borrow().durable_end();
        assert_eq!(durable_end, Offset(0));
    });
}

#[test]
fn batches_taken_before_a_topic_became_synced_are_not_left_waiting() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, flush_messages(i64::MAX)).await;
        broker.commit().await;
        let mut early = broker.append(plain(&["a"])).expect("appends");
        broker.partition.borrow_mut().set_config(flush_messages(1));
        broker.commit().await;
        assert!(!is_pending(&mut early));
        let late = broker.append(plain(&["b"])).expect("appends");
        broker.commit().await;
        assert_eq!(late.acked.await, Ok(()));
        let durable_end = broker.partition.borrow().log().borrow().durable_end();
        assert_eq!(durable_end, Offset(2));
    });
}

#[test]
fn commit_reports_may_come_late_or_twice() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        let tickets = ["a", "b", "c"].map(|value| broker.append(plain(&[value])).expect("appends"));
        let [first, second, mut third] = tickets;
        let report = |end| broker.partition.borrow_mut().on_committed(Offset(end), Offset(end));
        report(2);
        report(1);
        report(2);
        assert_eq!(broker.chain().high_watermark, Offset(2));
        assert_eq!(first.acked.settled().unwrap_or(Ok(())), Ok(()));
        assert_eq!((first.acked.await, second.acked.await), (Ok(()), Ok(())));
        assert!(is_pending(&mut third));
        // Written is not durable.
        broker.partition.borrow_mut().on_committed(Offset(3), Offset(2));
        assert!(is_pending(&mut third));
        assert_eq!(broker.partition.borrow().waiting_acks(), 1);
    });
}

#[test]
#[should_panic(expected = "out of order")]
fn a_report_of_records_that_were_never_sequenced_is_a_bug() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        broker.partition.borrow_mut().on_committed(Offset(1), Offset(1));
    });
}

#[test]
fn a_failed_store_fails_everyone_who_waits_and_nobody_is_acknowledged_after() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        let waiting = broker.append(plain(&["a"])).expect("appends");
        let fetch = Rc::new(Event::new());
        broker.partition.borrow().park(&fetch);
        let mut woken = fetch.wait();
        assert!(poll_once(&mut woken).await.is_none());
        broker.partition.borrow_mut().close(CloseReason::StorageFailed);
        assert!(poll_once(&mut woken).await.is_some());
        let reason = CloseReason::StorageFailed;
        assert_eq!(waiting.acked.await, Err(AckError::Closed(reason)));
        let refused = broker.append(plain(&["b"])).err();
        assert_eq!(refused, Some(AppendError::Closed(reason)));
        let unread = broker.partition.borrow().plan_read(&from(0)).err();
        assert_eq!(unread, Some(ReadError::Access(AccessError::Closed(reason))));
        // A report that was under way, and a later reason, change nothing.
        broker.commit().await;
        broker.partition.borrow_mut().close(CloseReason::Stopping);
        assert_eq!(broker.chain().high_watermark, Offset(0));
        assert_eq!(broker.partition.borrow().closed(), Some(reason));
    });
}

#[test]
fn a_parked_fetch_is_woken_when_the_watermark_moves() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        let fetch = Rc::new(Event::new());
        let mut woken = fetch.wait();
        broker.partition.borrow().park(&fetch);
        drop(broker.append(plain(&["a"])).expect("appends"));
        assert!(poll_once(&mut woken).await.is_none(), "nothing is committed yet");
        broker.commit().await;
        assert!(poll_once(&mut woken).await.is_some());
        assert_eq!(broker.values_from(0).await.len(), 1);
    });
}

#[test]
fn log_append_time_is_the_same_in_the_answer_and_in_the_log() {
    with_dir(|dir| async move {
        let config = PartitionConfig {
            timestamps: TimestampRule::LogAppendTime,
            ..PartitionConfig::default()
        };
        let broker = Broker::start(&dir, 0, config).await;
        let mut builder = BatchBuilder::new(Compression::Lz4, 5);
        builder.append(5, None, Some(b"a"), &[]);
        let ticket = broker.append(builder.build().expect("builds")).expect("appends");
        assert_eq!(ticket.log_append_time_ms, Some(NOW_MS));
        broker.commit().await;
        let bytes = broker.read(&from(0)).await;
        let stored = stored_batches(&bytes).next().expect("one").expect("whole");
        assert_eq!(stored.max_timestamp(), NOW_MS);
        assert!(stored.crc_matches());
    });
}

#[test]
fn a_restart_keeps_offsets_producers_and_epochs() {
    with_dir(|dir| async move {
        {
            let broker = Broker::start(&dir, 3, PartitionConfig::default()).await;
            drop(broker.append(produced(9, 0, 0, &["a", "b"])).expect("appends"));
            drop(broker.append(produced(9, 0, 2, &["c"])).expect("appends"));
            broker.commit().await;
            // Killed: nothing is closed.
        }
        let broker = Broker::start(&dir, 4, PartitionConfig::default()).await;
        let chain = broker.chain();
        assert_eq!((chain.log_end, chain.high_watermark), (Offset(3), Offset(3)));
        let found: Vec<String> =
            broker.values_from(0).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(found, ["a", "b", "c"]);
        let retry = broker.append(produced(9, 0, 0, &["a", "b"])).expect("is recognised");
        assert_eq!((retry.is_duplicate, retry.base_offset), (true, Offset(0)));
        assert_eq!(retry.acked.await, Ok(()));
        let gap = broker.append(produced(9, 0, 4, &["e"])).err();
        assert!(matches!(gap, Some(AppendError::Sequence(SequenceError::OutOfOrder { .. }))));
        let next = broker.append(produced(9, 0, 3, &["d"])).expect("appends");
        assert_eq!(next.base_offset, Offset(3));
        broker.commit().await;

        let partition = broker.partition.borrow();
        let end_of = |epoch| partition.offset_for_epoch(None, LeaderEpoch(epoch));
        assert_eq!(end_of(3), Ok(Some((LeaderEpoch(3), Offset(3)))));
        assert_eq!(end_of(4), Ok(Some((LeaderEpoch(4), Offset(4)))));
        assert_eq!(end_of(5), Ok(None));
        assert_eq!(end_of(-1), Ok(None));
        let old = partition.offset_for_epoch(Some(LeaderEpoch(3)), LeaderEpoch(3));
        assert_eq!(old, Err(AccessError::FencedEpoch { current: LeaderEpoch(4) }));
        let new = partition.offset_for_epoch(Some(LeaderEpoch(5)), LeaderEpoch(3));
        assert_eq!(new, Err(AccessError::UnknownEpoch { current: LeaderEpoch(4) }));
    });
}

#[test]
fn an_epoch_without_records_is_known_while_it_lasts() {
    with_dir(|dir| async move {
        {
            let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
            drop(broker.append(plain(&["a"])).expect("appends"));
            broker.commit().await;
        }
        drop(Broker::start(&dir, 1, PartitionConfig::default()).await);
        let broker = Broker::start(&dir, 2, PartitionConfig::default()).await;
        let partition = broker.partition.borrow();
        let end_of = |epoch| partition.offset_for_epoch(None, LeaderEpoch(epoch));
        assert_eq!(end_of(0), Ok(Some((LeaderEpoch(0), Offset(1)))));
        assert_eq!(end_of(1), Ok(Some((LeaderEpoch(0), Offset(1)))));
        assert_eq!(end_of(2), Ok(Some((LeaderEpoch(2), Offset(1)))));
    });
}

#[test]
fn a_reader_of_a_lost_tail_is_told_where_its_epoch_ended() {
    with_dir(|dir| async move {
        {
            let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
            drop(broker.append(plain(&["a"])).expect("appends"));
            broker.commit().await;
        }
        let broker = Broker::start(&dir, 1, PartitionConfig::default()).await;
        drop(broker.append(plain(&["b", "c"])).expect("appends"));
        broker.commit().await;
        let claims = |offset, epoch| ReadRequest {
            last_fetched_epoch: Some(LeaderEpoch(epoch)),
            ..from(offset)
        };
        let partition = broker.partition.borrow();
        let outcome = partition.plan_read(&claims(2, 0)).expect("answers");
        assert_eq!(outcome.diverging, Some((LeaderEpoch(0), Offset(1))));
        assert!(outcome.plan.is_none());
        let outcome = partition.plan_read(&claims(1, 0)).expect("answers");
        assert!(outcome.diverging.is_none() && outcome.plan.is_some());
    });
}

async fn list(broker: &Broker, spec: OffsetSpec) -> (i64, i64, Option<i32>) {
    let lookup = broker.partition.borrow().list_offset(spec, Isolation::ReadUncommitted, None);
    let ListedOffset { offset, timestamp_ms, leader_epoch } = match lookup.expect("answers") {
        OffsetLookup::Known(listed) => listed,
        OffsetLookup::Search(search) => search.find().await.expect("finds"),
    };
    (offset.0, timestamp_ms, leader_epoch.map(|epoch| epoch.0))
}

#[test]
fn offsets_are_listed_by_name_and_by_time() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 5, PartitionConfig::default()).await;
        assert_eq!(list(&broker, OffsetSpec::Latest).await, (0, -1, Some(5)));
        assert_eq!(list(&broker, OffsetSpec::Earliest).await, (0, -1, Some(5)));
        assert_eq!(list(&broker, OffsetSpec::MaxTimestamp).await, (-1, -1, None));
        assert_eq!(list(&broker, OffsetSpec::Timestamp(0)).await, (-1, -1, None));

        let mut packed = BatchBuilder::new(Compression::Zstd, NOW_MS);
        for delta in [0, 30, 10, 30] {
            packed.append(NOW_MS + delta, None, Some(b"v"), &[]);
        }
        drop(broker.append(packed.build().expect("builds")).expect("appends"));
        drop(broker.append(plain(&["e", "f"])).expect("appends"));
        broker.commit().await;
        drop(broker.append(plain(&["g"])).expect("appends")); // not committed

        assert_eq!(list(&broker, OffsetSpec::Latest).await, (6, -1, Some(5)));
        assert_eq!(list(&broker, OffsetSpec::Earliest).await, (0, -1, Some(5)));
        assert_eq!(list(&broker, OffsetSpec::EarliestLocal).await, (0, -1, Some(5)));
        assert_eq!(list(&broker, OffsetSpec::LatestTiered).await, (-1, -1, None));
        assert_eq!(list(&broker, OffsetSpec::MaxTimestamp).await, (1, NOW_MS + 30, Some(5)));
        // Exact inside the compressed batch (redpanda answered with its base).
        let at = |ms| OffsetSpec::Timestamp(NOW_MS + ms);
        assert_eq!(list(&broker, at(0)).await, (0, NOW_MS, Some(5)));
        assert_eq!(list(&broker, at(5)).await, (1, NOW_MS + 30, Some(5)));
        assert_eq!(list(&broker, at(31)).await, (-1, -1, None));
    });
}

#[test]
fn a_look_up_by_time_finds_nothing_that_readers_may_not_see() {
    with_dir(|dir| async move {
        let broker = Broker::start(&dir, 0, PartitionConfig::default()).await;
        drop(broker.append(plain(&["a"])).expect("appends"));
        assert_eq!(list(&broker, OffsetSpec::Timestamp(NOW_MS)).await, (-1, -1, None));
        assert_eq!(list(&broker, OffsetSpec::MaxTimestamp).await, (-1, -1, None));
        broker.commit().await;
        assert_eq!(list(&broker, OffsetSpec::Timestamp(NOW_MS)).await, (0, NOW_MS, Some(0)));
    });
}

/// A step of a producer's or a broker's life.
#[derive(Clone, Debug)]
enum Step {
    /// The next batch, of so many records.
    Send(usize),
    /// The batch this many before the last one, again.
    Resend(usize),
    Commit,
    /// The power goes; what was not synced may be gone, as the seed says.
    Crash(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4usize).prop_map(Step::Send),
        3 => (0..7usize).prop_map(Step::Resend),
        3 => Just(Step::Commit),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

proptest! {
    /// What an idempotent producer was acknowledged is in the log once, in order, whatever it
    /// resends and whenever the broker dies.
    #[test]
    fn an_acknowledged_batch_is_in_the_log_exactly_once(
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        block_on(async {
            let (dir, mut disk) = (Path::new("/data"), SimDisk::new());
            let first = Disk::Sim(disk.clone());
            first.create_dir_all(dir).await.expect("creates");
            first.sync_dir(Path::new("/")).await.expect("syncs");
            let start = async |disk: &Rc<SimDisk>, epoch| {
                let config = PartitionConfig::default();
                Broker::start_on(Disk::Sim(disk.clone()), dir, epoch, config).await
            };
            let (mut epoch, mut broker) = (0, start(&disk, 0).await);
            // Sequence, records, offset if acknowledged; a crash loses what was not.
            let mut sent: Vec<(i32, usize, Option<i64>)> = Vec::new();
            let mut waiting: Vec<(usize, AppendTicket)> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Send(count) => {
                        let ticket = broker.append(numbered(next, count)).expect("comes next");
                        assert!(!ticket.is_duplicate);
                        waiting.push((sent.len(), ticket));
                        sent.push((next, count, None));
                        next += i32::try_from(count).expect("small");
                    }
                    Step::Resend(back) => {
                        let Some(place) = sent.len().checked_sub(back + 1) else { continue };
                        let (sequence, count, _) = sent[place];
                        match broker.append(numbered(sequence, count)) {
                            Ok(ticket) => {
                                assert!(ticket.is_duplicate && back < 5);
                                waiting.push((place, ticket));
                            }
                            Err(error) => assert!(back >= 5, "{error}"),
                        }
                    }
                    Step::Commit => {
                        // With nothing staged a commit waits for something.
                        if broker.partition.borrow().waiting_acks() > 0 {
                            broker.commit().await;
                        }
                        for (place, ticket) in waiting.drain(..) {
                            assert_eq!(ticket.acked.await, Ok(()));
                            let offset = ticket.base_offset.0;
                            assert!(sent[place].2.is_none_or(|known| known == offset));
                            sent[place].2 = Some(offset);
                        }
                    }
                    Step::Crash(seed) => {
                        waiting.clear();
                        disk = disk.crash(seed);
                        epoch += 1;
                        broker = start(&disk, epoch).await;
                        let in_log = broker.chain().log_end.0;
                        sent.retain(|(sequence, _, _)| i64::from(*sequence) < in_log);
                        next = i32::try_from(in_log).expect("small");
                    }
                }
            }
            let stored = broker.values_from(0).await;
            for (sequence, count, offset) in sent {
                let Some(offset) = offset else { continue };
                for delta in 0..i64::try_from(count).expect("small") {
                    let expected = (i64::from(sequence) + delta).to_string();
                    let found: Vec<_> =
                        stored.iter().filter(|(_, value)| *value == expected).collect();
                    assert_eq!(found, [&(offset + delta, expected)]);
                }
            }
        });
    }
}

/// A batch whose records say their sequence numbers.
fn numbered(sequence: i32, count: usize) -> Bytes {
    let values: Vec<String> = (sequence..).take(count).map(|number| number.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    produced(1, 0, sequence, &values)
}
