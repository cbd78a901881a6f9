//! Large batches are written once, straight into their segments, and are as safe there as in the
//! journal.

use super::*;
use crate::io::disk::OpenOptions;
use crate::io::sim_disk::SimDisk;
use crate::io::{SimFault, SimOp};
use crate::storage::segment::block_bytes;

const LARGE_VALUE_BYTES: usize = 100_000;
const SEGMENT: &str = "/data/topics/01010101010101010101010101010101/0/00000000000000000000.log";

fn large(tag: u64) -> RecordBatch {
    received(&batch(tag, 1, LARGE_VALUE_BYTES, 0))
}

fn small(tag: u64) -> RecordBatch {
    batch(tag, 1, 100, 0)
}

/// A store whose log has a segment with a durable name, so that the large lane is open.
fn with_open_lane(flush_messages: i64) -> (Home, Rc<SimDisk>, Rc<Store>, Rc<RefCell<Log>>) {
    let config = StoreConfig { write_behind_window_bytes: 1 << 40, ..small_config() };
    let config = StoreConfig { checkpoint_bytes: 1 << 40, journal_file_bytes: 1 << 20, ..config };
    let (home, disk) = Home::simulated(config);
    home.live(tp(1, 0), LogConfig { flush_messages, ..LogConfig::default() });
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    append(&store, &log, &large(0));
    commit_all(&store);
    background(&store).expect("written behind");
    assert_eq!(store.copy_ledger().bytes_large(), 0, "there was no segment to write to");
    (home, disk, store, log)
}

fn append(store: &Store, log: &Rc<RefCell<Log>>, batch: &RecordBatch) {
    log.borrow_mut().append(store.journal(), batch, leader(0));
}

fn recovered(home: &Home) -> Vec<u64> {
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    tags(&read_all(&log, Offset(0), 1 << 20))
}

fn cut_power(home: &mut Home, disk: &SimDisk) {
    home.disk = Disk::Sim(disk.crash(7));
}

/// A failed sync leaves in memory what is not on the disk, and no later sync writes it. Who reads
/// it back after a restart of the process must not take it for durable.
#[test]
fn what_a_failed_sync_left_in_memory_is_written_again_by_the_next_start() {
    for seed in 0..20 {
        let (mut home, disk, store, log) = with_open_lane(1);
        append(&store, &log, &small(1));
        commit_all(&store);
        background(&store).expect("written behind");
        append(&store, &log, &large(2));
        disk.plan_fault(SimOp::Sync, 0, true, SimFault::Error(libc::EIO));
        block_on(store.commit_group()).expect_err("the segment cannot be synced");
        assert!(disk.op_count(SimOp::Sync) > 0);
        disk.clear_faults();
        assert_eq!(recovered(&home), [0, 1, 2], "in memory it is");
        home.disk = Disk::Sim(disk.crash(seed));
        assert_eq!(recovered(&home), [0, 1, 2], "seed {seed}");
    }
}

#[test]
fn a_large_batch_goes_into_its_segment_and_its_pages_not_into_the_journal() {
    let (_, _, store, log) = with_open_lane(1);
    let before = store.journal().bytes_written();
    for tag in 1..=5 {
        append(&store, &log, &large(tag));
        commit_all(&store);
    }
    let journal = store.journal().bytes_written() - before;
    let segment = store.copy_ledger().bytes_large();
    assert!(segment >= 5 * LARGE_VALUE_BYTES as u64, "{segment} bytes straight into the segment");
    assert!(segment <= 5 * (LARGE_VALUE_BYTES as u64 + 8192), "and no more: {segment}");
    assert!(journal <= 5 * 16_384 + segment / 4, "{journal} bytes counted for the journal");
    assert_eq!(log.borrow().unsettled_bytes(), 0, "nothing is left to be written behind");
    assert_eq!(tags(&read_all(&log, Offset(0), 1 << 20)), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_power_cut_keeps_an_acknowledged_large_batch_with_all_that_came_before_it() {
    let (mut home, disk, store, log) = with_open_lane(1);
    for tag in 1..=6 {
        append(&store, &log, &if tag % 3 == 0 { large(tag) } else { small(tag) });
        // The third and the sixth go with what waits before them, in other groups and their own.
        if tag % 2 == 0 {
            commit_all(&store);
        }
    }
    commit_all(&store);
    append(&store, &log, &small(7));
    commit_all(&store);
    assert!(store.copy_ledger().bytes_large() > 2 * LARGE_VALUE_BYTES as u64);
    cut_power(&mut home, &disk);
    assert_eq!(recovered(&home), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(recovered(&home), [0, 1, 2, 3, 4, 5, 6, 7], "and once more");
}

#[test]
fn what_was_written_behind_without_a_sync_is_durable_with_the_large_batch_that_follows() {
    let (mut home, disk, store, log) = with_open_lane(1);
    for tag in 1..=200 {
        append(&store, &log, &small(tag));
    }
    commit_all(&store);
    background(&store).expect("written behind, not synced");
    append(&store, &log, &large(201));
    commit_all(&store);
    cut_power(&mut home, &disk);
    assert_eq!(recovered(&home), (0..=201).collect::<Vec<u64>>());
}

#[test]
fn a_batch_that_is_not_durable_is_lost_whole_or_kept_whole_and_none_before_it_is_missing() {
    for seed in 0..20 {
        let (mut home, disk, store, log) = with_open_lane(i64::MAX);
        store.request_sync();
        commit(&store);
        for tag in 1..=5 {
            append(&store, &log, &if tag == 3 { small(tag) } else { large(tag) });
            commit_all(&store);
        }
        home.disk = Disk::Sim(disk.crash(seed));
        let found = recovered(&home);
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<u64>>());
        assert!(!found.is_empty(), "what was synced is there");
    }
}

#[test]
fn a_log_that_is_never_synced_keeps_one_file_to_sync_and_none_after_a_checkpoint() {
    let (_, _, store, log) = with_open_lane(i64::MAX);
    for tag in 1..=20 {
        append(&store, &log, &large(tag));
        commit_all(&store);
    }
    assert!(store.copy_ledger().bytes_large() > 20 * LARGE_VALUE_BYTES as u64);
    assert_eq!(store.journal().unsynced_extents(), 1);
    block_on(store.checkpoint()).expect("a checkpoint");
    assert_eq!(store.journal().unsynced_extents(), 0, "the checkpoint has synced it");
}

fn file_bytes(home: &Home) -> u64 {
    let file = block_on(home.disk.open(Path::new(SEGMENT), OpenOptions::default()));
    file.expect("the segment").len().expect("known")
}

#[test]
fn a_segment_has_room_ahead_of_its_large_batches_and_gives_it_back_when_it_is_closed() {
    let (home, _, store, log) = with_open_lane(1);
    let block = block_bytes(large(0).len_bytes()) as u64;
    assert!(file_bytes(&home) > block, "reserved when it was begun");
    let mut lengths = Vec::new();
    for tag in 1..=60 {
        append(&store, &log, &large(tag));
        commit_all(&store);
        lengths.push(file_bytes(&home));
        assert!(lengths.last() >= Some(&((tag + 1) * block)));
    }
    lengths.dedup();
    assert!(lengths.len() < 6, "a write in thirty or so had to reserve: {lengths:?}");
    log.borrow_mut().set_config(LogConfig { segment_bytes: 1, ..LogConfig::default() });
    append(&store, &log, &large(61));
    commit_all(&store);
    background(&store).expect("the next segment is begun");
    assert_eq!(file_bytes(&home), 61 * block, "nothing but what was written");
}

/// Flips a bit in the middle of the block with this number, of four that are alike.
fn damage(home: &Home, disk: &SimDisk, number: u64) {
    let block = block_bytes(large(0).len_bytes()) as u64;
    assert!(file_bytes(home) >= 4 * block);
    disk.flip_bit(Path::new(SEGMENT), number * block + block / 2, 3).expect("flipped");
}

#[test]
fn a_torn_large_batch_is_a_torn_tail_and_a_damaged_one_before_a_durable_group_is_refused() {
    let three = || {
        let (home, disk, store, log) = with_open_lane(1);
        for tag in 1..=3 {
            append(&store, &log, &large(tag));
            commit_all(&store);
        }
        assert!(store.copy_ledger().bytes_large() > 3 * LARGE_VALUE_BYTES as u64);
        (home, disk)
    };
    let (home, disk) = three();
    damage(&home, &disk, 3);
    assert_eq!(recovered(&home), [0, 1, 2], "nobody can tell that the last was durable");
    let (home, disk) = three();
    damage(&home, &disk, 1);
    let refused = home.recover_and_open().err().expect("it was durable, and is gone");
    assert!(matches!(refused, RecoveryError::Corrupt { .. }), "{refused}");
    damage(&home, &disk, 1);
    assert_eq!(recovered(&home), [0, 1, 2, 3], "and nothing was changed");
}

#[test]
fn a_deleted_log_is_not_missed_where_its_large_batches_were() {
    let (home, _, store, log) = with_open_lane(1);
    append(&store, &log, &large(1));
    commit_all(&store);
    home.live(tp(1, 1), LogConfig::default());
    let other = home.log(&store, tp(1, 1));
    home.live.borrow_mut().remove(&tp(1, 0));
    {
        let gone = [tp(1, 0)];
        let mut delete = pin!(store.delete_logs(&gone));
        while block_on(poll_once(&mut delete)).is_none() {
            commit_all(&store);
        }
    }
    commit(&store);
    append(&store, &other, &small(9));
    commit_all(&store);
    drop(store);
    let store = home.open();
    let other = home.log(&store, tp(1, 1));
    assert_eq!(tags(&read_all(&other, Offset(0), 1 << 20)), [9]);
}
