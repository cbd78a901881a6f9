//! A disk that fails: the first failed write or sync is the end of the store, and nothing that was
//! acknowledged before is lost by it.

use super::world::{End, World};
use super::*;
use crate::io::sim_disk::SimDisk;
use crate::io::{SimFault, SimOp};

/// A store with one log.
fn with_a_log(config: StoreConfig) -> (Home, Rc<SimDisk>, Rc<Store>, Rc<RefCell<Log>>) {
    let (home, disk) = Home::simulated(config);
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    (home, disk, store, log)
}

/// Commits that many batches, with something behind each.
fn fill(store: &Store, log: &RefCell<Log>, batches: u64, behind: impl Fn(&Store)) {
    for tag in 0..batches {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, 0), leader(0));
        commit(store);
        behind(store);
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let mut failures = 0;
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.live_once(200, End::Kill);
        for _ in 0..3 {
            if world.live_with_fault(600) {
                failures += 1;
            }
            if world.random.chance(50) {
                world.cut_power();
            }
        }
        world.live_once(300, End::Kill);
    }
    assert!(failures > 50, "the faults must be met to mean anything: {failures}");
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let (home, disk) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig { flush_messages: i64::MAX, ..LogConfig::default() });
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    log.borrow_mut().append(store.journal(), &batch(1, 1, 100, 0), leader(0));
    commit(&store);
    disk.plan_fault(SimOp::Sync, 0, false, SimFault::Error(libc::EIO));
    store.request_sync();
    let failed = block_on(store.commit_group());
    assert!(matches!(failed, Err(StorageError::Failed(_))), "{failed:?}");
    let syncs = disk.op_count(SimOp::Sync);
    store.request_sync();
    assert!(block_on(store.commit_group()).is_err());
    assert!(block_on(store.checkpoint()).is_err());
    assert!(block_on(store.clone().close()).is_err());
    assert!(block_on(store.write_behind()).is_err());
    assert!(block_on(store.journal().room()).is_err(), "whoever waits for room is told");
    assert_eq!(disk.op_count(SimOp::Sync), syncs, "the next sync would have lied");
    assert_eq!(log.borrow().durable_end(), Offset(0));
}

#[test]
fn a_read_that_fails_is_no_reason_to_fail_the_store() {
    let (_, disk, store, log) = with_a_log(StoreConfig { read_cache_bytes: 0, ..small_config() });
    fill(&store, &log, 50, |store| background(store).expect("background"));
    disk.plan_fault(SimOp::Read, 0, false, SimFault::Error(libc::EIO));
    let plan = { log.borrow().plan_read(Offset(0), Offset(50), 1000) };
    assert!(matches!(block_on(plan.read()), Err(StorageError::Read { .. })));
    assert!(store.failed().is_none());
    assert_eq!(read_all(&log, Offset(0), 1000).len(), 50);
}

#[test]
fn a_stall_of_the_disk_fills_the_tail_to_its_bound_and_no_further() {
    let (home, _, store, log) = with_a_log(small_config());
    let mut staged = 0;
    while store.journal().has_room() {
        log.borrow_mut().append(store.journal(), &batch(staged, 1, 1000, 0), leader(0));
        staged += 1;
        assert!(staged < 10_000);
    }
    assert!(step(store.journal().room()).is_none(), "no room before a commit");
    assert!(store.journal().staged_bytes() <= home.config.staged_bytes_max + (32 << 10));
    commit(&store);
    assert!(step(store.journal().room()).is_some());
    commit_all(&store);
    assert_eq!(log.borrow().durable_end(), Offset(staged as i64));
}

#[test]
fn a_commit_that_was_on_its_way_is_not_acknowledged_after_another_file_has_failed() {
    let (_, disk, store, log) = with_a_log(small_config());
    fill(&store, &log, 30, |store| drop(step(store.write_behind())));
    let end = log.borrow().durable_end();
    log.borrow_mut().append(store.journal(), &batch(30, 1, 1000, 0), leader(0));
    disk.yield_at_every_call();
    let mut commit = pin!(store.commit_group());
    assert!(block_on(poll_once(&mut commit)).is_none(), "its write has begun");
    disk.plan_fault(SimOp::Sync, 0, false, SimFault::Error(libc::EIO));
    assert!(block_on(store.checkpoint()).is_err(), "a segment's sync fails");
    assert!(matches!(block_on(commit), Err(StorageError::Failed(_))));
    assert_eq!(log.borrow().durable_end(), end);
}

#[test]
fn of_two_syncs_of_a_segment_the_second_does_not_hide_that_the_first_has_failed() {
    let (_, disk, store, log) = with_a_log(small_config());
    fill(&store, &log, 30, |store| drop(step(store.write_behind())));
    let files = store.files();
    let segment = block_on(files.open(log.borrow().segment_ends()[0].0)).expect("open");
    disk.yield_at_every_call();
    disk.plan_fault(SimOp::Sync, 0, false, SimFault::Error(libc::EIO));
    let syncs = disk.op_count(SimOp::Sync);
    let mut first = pin!(segment.sync(files.latch()));
    let mut second = pin!(segment.sync(files.latch()));
    assert!(block_on(poll_once(&mut first)).is_none());
    assert!(block_on(poll_once(&mut second)).is_none());
    assert!(block_on(first).is_err());
    assert!(block_on(second).is_err(), "the kernel would have said that all is well");
    assert_eq!(disk.op_count(SimOp::Sync), syncs + 1);
}

#[test]
fn damage_that_readers_meet_is_counted_once_for_each_place() {
    let (_, disk, store, log) = with_a_log(StoreConfig { read_cache_bytes: 0, ..small_config() });
    fill(&store, &log, 60, |store| background(store).expect("background"));
    let path = store.files().path(log.borrow().segment_ends()[0].0, "log");
    disk.flip_bit(&path, 700, 3).expect("flipped");
    for _ in 0..5 {
        let plan = { log.borrow().plan_read(Offset(0), Offset(60), 1 << 20) };
        match block_on(plan.read()) {
            Err(StorageError::Corrupt { pos, .. }) => assert_eq!(pos, 0, "the block's place"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.health().damaged_blocks(), 1);
    let plan = { log.borrow().plan_read(Offset(40), Offset(60), 1 << 20) };
    assert!(!block_on(plan.read()).expect("the rest is served").is_empty());
}

#[test]
fn a_checkpoint_that_found_no_room_makes_every_name_durable_when_it_is_tried_again() {
    let config = StoreConfig {
        open_segments_max: 1,
        write_behind_window_bytes: 0,
        write_behind_bytes_per_log: 0,
        ..small_config()
    };
    let (home, disk) = Home::simulated(config);
    let logs = [tp(1, 0), tp(2, 0)];
    logs.iter().for_each(|tp| home.live(*tp, LogConfig::default()));
    let store = home.open();
    for (tp, tag) in logs.into_iter().zip(0..) {
        let log = home.log(&store, tp);
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 100, 0), leader(0));
        commit(&store);
        step(store.write_behind()).expect("due at once").expect("written");
    }
    disk.plan_fault(SimOp::Open, 0, false, SimFault::Error(libc::ENOSPC));
    let mut checkpoint = pin!(store.checkpoint());
    assert!(block_on(poll_once(&mut checkpoint)).is_none(), "it waits for room");
    store.look_at_room();
    block_on(poll_once(&mut checkpoint)).expect("there is room").expect("all is well");
    assert_eq!(disk.faults_met(), [SimOp::Open]);
    for seed in 0..20 {
        let after = home.on(disk.crash(seed));
        let store = after.open();
        for (tp, tag) in logs.into_iter().zip(0..) {
            assert_eq!(tags(&read_all(&after.log(&store, tp), Offset(0), 1 << 20)), [tag]);
        }
    }
}
