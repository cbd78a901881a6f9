//! A full disk: appends are refused while there is less room than the reserve, everything else goes
//! on; a write that meets a full disk all the same waits, and nothing is lost.

use super::*;
use crate::io::sim_disk::SimDisk;
use crate::storage::Reserve;

const MIB: u64 = 1 << 20;

fn home(reserve: Reserve) -> (Home, Rc<SimDisk>) {
    let (home, disk) = Home::simulated(StoreConfig { reserve, ..small_config() });
    home.live(tp(1, 0), LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() });
    (home, disk)
}

/// Bytes on the disk now.
fn used(disk: &SimDisk) -> u64 {
    disk.set_capacity(Some(1 << 40));
    (1 << 40) - disk.room().free_bytes
}

fn append(store: &Store, log: &RefCell<Log>, tag: u64) {
    log.borrow_mut().append(store.journal(), &batch(tag, 1, 2000, 0), leader(0));
}

/// Every background step once, as far as it goes; none may fail the store.
fn stir(store: &Store) {
    for _ in 0..3 {
        let steps = [
            step(store.write_behind()),
            step(store.checkpoint_when_due()),
            step(store.prewrite()),
            step(store.remove_piece()).map(|done| done.map(|_| ())),
        ];
        for done in steps.into_iter().flatten() {
            done.expect("a full disk fails no store");
        }
    }
}

#[test]
fn below_the_reserve_appends_are_refused_and_what_was_taken_goes_on() {
    let (home, disk) = home(Reserve::Exactly(4 * MIB));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..40 {
        append(&store, &log, tag);
    }
    assert!(store.journal().check_disk().is_ok());
    let capacity = used(&disk) + 3 * MIB;
    disk.set_capacity(Some(capacity));
    store.look_at_room();
    assert!(store.journal().check_disk().is_err() && store.is_full());

    // What was staged before is committed, written behind and read; the start moves, logs go.
    commit_all(&store);
    background(&store).expect("background");
    assert_eq!(read_all(&log, Offset(0), 1 << 20).len(), 40);
    log.borrow_mut().advance_log_start(store.journal(), Offset(20));
    let group = log.borrow().start_group();
    commit_all(&store);
    block_on(store.journal().until_durable(group)).expect("durable");
    log.borrow_mut().drop_segments_before(Offset(20));
    block_on(store.forget_dropped()).expect("forgotten");
    while block_on(store.remove_piece()).expect("removed") {}
    store.look_at_room();
    assert!(store.is_full(), "that was too little");

    disk.set_capacity(Some(capacity + 4 * MIB));
    store.look_at_room();
    assert!(store.journal().check_disk().is_ok(), "no restart is needed");
    append(&store, &log, 40);
    commit_all(&store);
    assert_eq!(log.borrow().durable_end(), Offset(41));
}

#[test]
fn what_finds_no_room_waits_in_the_journal_and_goes_on_when_there_is_some() {
    for slack in (0..40).map(|blocks| blocks * 4096) {
        let (home, disk) = home(Reserve::Exactly(0));
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        disk.set_capacity(Some(used(&disk) + slack));
        let (mut taken, mut refused) = (0, 0);
        for tag in 0..60 {
            if store.journal().check_disk().is_ok() {
                append(&store, &log, tag);
                taken += 1;
            } else {
                refused += 1;
            }
            if store.journal().staged_bytes() > 0 {
                let _ = step(store.commit_group()).map(|done| done.expect("no failure"));
            }
            stir(&store);
            store.look_at_room();
        }
        assert!(refused > 0, "{slack}: never full");
        let acked = log.borrow().durable_end();
        let found = read_all(&log, Offset(0), 1 << 20).len();
        assert!(found as i64 >= acked.0, "{slack}: {found} of {acked}");
        // A kill now, with a disk as full as it is: the next start has everything, once it fits.
        let survivor = home.on(disk.crash(7));
        let Disk::Sim(after) = &survivor.disk else { panic!("simulated") };
        after.set_capacity(None);
        let again = survivor.open();
        let end = survivor.log(&again, tp(1, 0)).borrow().log_end();
        assert!(end >= acked, "{slack}: {end} of {acked}");

        disk.set_capacity(None);
        store.look_at_room();
        stir(&store);
        store.look_at_room();
        assert!(store.journal().check_disk().is_ok(), "{slack}: has room again");
        commit_all(&store);
        background(&store).expect("background");
        assert!(store.failed().is_none());
        assert_eq!(log.borrow().durable_end(), Offset(taken), "{slack}: all that was taken");
        assert_eq!(read_all(&log, Offset(0), 1 << 20).len() as i64, taken);
        drop(log);
        block_on(store.clone().close()).expect("a clean close");
    }
}

#[test]
fn large_batches_beside_the_journal_wait_for_room_too() {
    let (home, disk) = home(Reserve::Exactly(0));
    home.live(tp(1, 0), LogConfig { segment_bytes: 64 << 20, ..LogConfig::default() });
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let large = received(&batch(1, 1, 200_000, 0));
    for _ in 0..3 {
        log.borrow_mut().append(store.journal(), &large, leader(0));
        commit_all(&store);
        background(&store).expect("background");
    }
    let before = store.copy_ledger().bytes_large();
    assert!(before > 0, "the lane is in use");
    disk.set_capacity(Some(used(&disk) + 8192));
    let end = log.borrow().durable_end();
    log.borrow_mut().append(store.journal(), &large, leader(0));
    let mut commit = pin!(store.commit_group());
    assert!(block_on(poll_once(&mut commit)).is_none(), "it waits");
    assert!(store.is_full() && store.failed().is_none());
    assert_eq!(log.borrow().durable_end(), end, "nothing is acknowledged");
    disk.set_capacity(None);
    store.look_at_room();
    block_on(commit).expect("committed");
    assert_eq!(log.borrow().durable_end(), end.plus(1));
    let home = home.on(disk.crash(3));
    let again = home.open();
    let log = home.log(&again, tp(1, 0));
    assert_eq!(log.borrow().log_end(), end.plus(1));
    assert_eq!(read_all(&log, end, 1 << 20).len(), 1);
}

#[test]
fn a_sync_without_room_is_the_end_of_the_directory_all_the_same() {
    let (home, disk) = home(Reserve::Exactly(0));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    append(&store, &log, 0);
    commit_all(&store);
    let full = crate::io::SimFault::Error(libc::ENOSPC);
    disk.plan_fault(crate::io::SimOp::Sync, 0, false, full);
    for tag in 0..200 {
        if store.failed().is_some() {
            return;
        }
        append(&store, &log, tag);
        let _ = step(store.commit_group());
        let _ = step(store.write_behind());
        let _ = step(store.checkpoint());
    }
    panic!("the sync was met");
}

#[test]
fn a_store_that_closes_on_a_full_disk_says_so_and_the_next_start_has_everything() {
    let (home, disk) = home(Reserve::Exactly(0));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..20 {
        append(&store, &log, tag);
    }
    commit_all(&store);
    disk.set_capacity(Some(used(&disk)));
    store.begin_close();
    let closed = block_on(store.clone().close());
    assert!(matches!(closed, Err(StorageError::NoRoom)), "{closed:?}");
    drop((log, store));
    disk.set_capacity(None);
    let store = home.open();
    assert_eq!(home.log(&store, tp(1, 0)).borrow().log_end(), Offset(20));
}

/// A store with so many batches staged and committed that the next group needs a second journal
/// file, for which there is no room.
fn at_the_end_of_a_journal_file() -> (Home, Rc<SimDisk>, Rc<Store>) {
    let (home, disk) = home(Reserve::Exactly(0));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    disk.set_capacity(Some(used(&disk) + 64 * 1024));
    for tag in 0..31 {
        append(&store, &log, tag);
        commit(&store);
    }
    append(&store, &log, 31);
    (home, disk, store)
}

#[test]
fn a_commit_that_needs_a_journal_file_waits_for_room() {
    let (home, disk, store) = at_the_end_of_a_journal_file();
    let log = home.log(&store, tp(1, 0));
    let mut commit = pin!(store.commit_group());
    for _ in 0..5 {
        assert!(block_on(poll_once(&mut commit)).is_none(), "there is no room for the file");
        assert!(store.is_full() && store.failed().is_none());
        assert_eq!(log.borrow().durable_end(), Offset(31));
        store.look_at_room();
    }
    disk.set_capacity(None);
    store.look_at_room();
    block_on(commit).expect("committed");
    assert_eq!(log.borrow().durable_end(), Offset(32));
    store.look_at_room();
    assert!(!store.is_full());
}

#[test]
fn a_commit_that_waits_for_room_ends_when_the_store_closes() {
    let (home, disk, store) = at_the_end_of_a_journal_file();
    let mut commit = Box::pin(store.commit_group());
    assert!(block_on(poll_once(&mut commit)).is_none());
    store.begin_close();
    assert!(block_on(&mut commit).is_err(), "it does not wait for ever");
    drop(commit);
    drop(store);
    disk.set_capacity(None);
    let store = home.open();
    assert_eq!(home.log(&store, tp(1, 0)).borrow().log_end(), Offset(31), "what was acknowledged");
}

#[test]
fn a_spare_journal_file_makes_room_for_a_checkpoint() {
    let (home, disk) = home(Reserve::Exactly(0));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..10 {
        append(&store, &log, tag);
    }
    commit_all(&store);
    block_on(store.prewrite()).expect("a spare");
    // Not a byte is free: the checkpoint's file cannot be made.
    disk.set_capacity(Some(used(&disk)));
    block_on(store.checkpoint()).expect("a spare was given back for it");
    assert!(disk.room().free_bytes > 64 << 10);
    assert!(store.failed().is_none());
    // The file is there with nothing but its header, and taken again when there is room.
    let spare = Path::new("/data/journal/0/001.journal");
    assert_eq!(super::damage::bytes_of(&home, spare).len(), 4096);
    drop((log, store));
    let store = home.open();
    assert_eq!(home.log(&store, tp(1, 0)).borrow().log_end(), Offset(10));
    disk.set_capacity(None);
    store.look_at_room();
    block_on(store.prewrite()).expect("written again");
}

#[test]
fn a_spare_that_was_given_back_is_no_damage() {
    use crate::storage::dump::{DataDir, Verdict};
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::new(Disk::Blocking, dir.path(), small_config());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    append(&store, &home.log(&store, tp(1, 0)), 0);
    commit_all(&store);
    block_on(store.prewrite()).expect("a spare");
    assert!(block_on(store.journal().files().give_back_spare()));
    drop(store);
    let live = home.live.borrow().keys().copied().collect();
    let found = DataDir::open(dir.path(), Some(DIRECTORY_ID), Some(live)).expect("a directory");
    for report in found.journal(0, true, &mut |_| {}) {
        assert_eq!(report.verdict(), Verdict::Sound, "{report:?}");
    }
    assert_eq!(home.log(&home.open(), tp(1, 0)).borrow().log_end(), Offset(1));
}
