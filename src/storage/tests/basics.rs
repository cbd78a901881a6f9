//! Promises of the store in plain cases.

use super::*;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary directory")
}

#[test]
fn a_batch_is_acknowledged_after_its_write_and_read_back_from_memory_and_from_disk() {
    let dir = temp();
    let home = Home::new(Disk::Blocking, dir.path(), StoreConfig::default());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let sent = batch(7, 3, 100, 1000);
    let appended = log.borrow_mut().append(store.journal(), &sent, leader(4));
    assert_eq!((appended.base_offset, appended.last_offset), (Offset(0), Offset(2)));
    assert_eq!(log.borrow().log_end(), Offset(3));
    assert_eq!(log.borrow().written_end(), Offset(0), "nothing is written yet");
    assert!(read_all(&log, Offset(0), 1 << 20).is_empty(), "so nothing can be read");
    let committed = commit(&store);
    assert!(committed.durable, "flush.messages=1 is durable");
    assert_eq!(committed.members.len(), 1);
    assert_eq!(committed.members[0].durable_end, Offset(3));
    let from_memory = read_all(&log, Offset(1), 1 << 20);
    assert_eq!(from_memory.len(), 1);
    assert_eq!(from_memory[0][21..], sent.bytes()[21..]);
    block_on(store.clone().close()).expect("close");
    drop((log, store));
    let (store, report) = home.recover_and_open().expect("recovery");
    assert_eq!(report, RecoveryReport::default(), "a clean start replays nothing");
    let log = home.log(&store, tp(1, 0));
    assert_eq!(log.borrow().log_end(), Offset(3));
    assert!(log.borrow().plan_read(Offset(0), Offset(3), 1).is_ready().is_none());
    assert_eq!(read_all(&log, Offset(0), 1 << 20), from_memory);
    assert_eq!(log.borrow().epoch_end(LeaderEpoch(4)), Some((LeaderEpoch(4), Offset(3))));
}

#[test]
fn a_kill_loses_nothing_that_was_written_at_any_level_of_durability() {
    for flush_messages in [1, 10, i64::MAX] {
        let dir = temp();
        let home = Home::new(Disk::Blocking, dir.path(), StoreConfig::default());
        home.live(tp(1, 0), LogConfig { flush_messages, ..LogConfig::default() });
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        for tag in 0..25 {
            log.borrow_mut().append(store.journal(), &batch(tag, 1, 50, 1000), leader(0));
            let durable = commit(&store).durable;
            let expected = match flush_messages {
                1 => true,
                10 => tag % 10 == 9,
                _ => false,
            };
            assert_eq!(durable, expected, "flush.messages={flush_messages}, batch {tag}");
        }
        let before = read_all(&log, Offset(0), 1 << 20);
        drop((log, store));
        let (store, report) = home.recover_and_open().expect("recovery");
        assert_eq!(report.batches_replayed, 25);
        let log = home.log(&store, tp(1, 0));
        assert_eq!(log.borrow().log_end(), Offset(25));
        assert_eq!(read_all(&log, Offset(0), 1 << 20), before);
        let next = log.borrow_mut().append(store.journal(), &batch(99, 1, 50, 1000), leader(1));
        assert_eq!(next.base_offset, Offset(25), "offsets are not used again");
    }
}

#[test]
fn a_written_record_is_synced_when_flush_ms_has_passed() {
    let (home, _) = Home::simulated(small_config());
    let config = LogConfig { flush_messages: i64::MAX, flush_ms: 500, ..LogConfig::default() };
    home.live(tp(1, 0), config);
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    log.borrow_mut().append(store.journal(), &batch(1, 1, 50, 0), leader(0));
    assert!(!commit(&store).durable);
    assert!(!store.sync_due(home.clock.wall_ms()));
    home.time.advance_ms(500);
    assert!(store.sync_due(home.clock.wall_ms()));
    store.request_sync();
    let synced = commit(&store);
    assert!(synced.durable);
    assert_eq!(synced.members[0].durable_end, Offset(1));
    assert_eq!(log.borrow().durable_end(), Offset(1));
    assert!(!store.sync_due(home.clock.wall_ms()));
}

#[test]
fn record_bytes_are_copied_once_before_the_acknowledgement_and_once_behind_it() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let mut sent = 0;
    for tag in 0..100 {
        let batch = batch(tag, 4, 200, 1000);
        sent += batch.len_bytes() as u64;
        log.borrow_mut().append(store.journal(), &batch, leader(0));
        commit(&store);
        background(&store).expect("background");
    }
    assert_eq!(store.copy_ledger().bytes_staged(), sent);
    read_all(&log, Offset(0), 10_000);
    block_on(store.clone().close()).expect("close");
    read_all(&log, Offset(0), 10_000);
    assert_eq!(store.copy_ledger().bytes_staged(), sent);
    assert_eq!(store.copy_ledger().bytes_extents(), sent);
    // Reads give slices of the one group, or of the one buffer that was read.
    let slices = { log.borrow().plan_read(Offset(398), Offset(400), 1 << 20) };
    let slices = slices.is_ready().expect("the end is still in memory");
    let again = { log.borrow().plan_read(Offset(398), Offset(400), 1 << 20) };
    assert_eq!(slices[0].as_ptr(), again.is_ready().expect("memory")[0].as_ptr());
}

#[test]
fn segments_roll_by_size_and_by_time_and_leave_a_snapshot_each() {
    let (home, _) = Home::simulated(small_config());
    let config = LogConfig { segment_bytes: 64 << 10, segment_ms: 1000, ..LogConfig::default() };
    home.live(tp(1, 0), config);
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..200 {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, 1000), leader(0));
        commit(&store);
        background(&store).expect("background");
    }
    let by_size = log.borrow().segment_ends();
    assert!(by_size.len() >= 3, "{by_size:?}");
    assert!(by_size.iter().all(|(_, bytes)| *bytes <= 64 << 10), "{by_size:?}");
    home.time.advance_ms(1000);
    log.borrow_mut().append(store.journal(), &batch(200, 1, 1000, 1000), leader(0));
    block_on(store.clone().close()).expect("close");
    assert!(log.borrow().segment_ends().len() > by_size.len(), "an old segment takes no more");
    let files = block_on(home.disk.list(&store.files().partition_dir(tp(1, 0)))).expect("list");
    let count = |extension: &str| files.iter().filter(|f| f.name.ends_with(extension)).count();
    assert_eq!(count(".snapshot"), count(".log") - 1, "one for each that is closed: {files:?}");
    assert_eq!(read_all(&log, Offset(0), 5000).len(), 201);
}

#[test]
fn look_ups_by_time_find_the_first_record_that_is_late_enough() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig { segment_bytes: 32 << 10, ..LogConfig::default() });
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let find = |target: i64, upto: Offset| {
        let plan = { log.borrow().plan_timestamp(target, upto) };
        block_on(plan.find()).expect("find").map(|found| (found.offset.0, found.timestamp_ms))
    };
    let largest = |upto: Offset| {
        let plan = { log.borrow().plan_max_timestamp(upto) };
        block_on(plan.find()).expect("find").map(|found| (found.offset.0, found.timestamp_ms))
    };
    assert_eq!(find(0, Offset(i64::MAX)), None);
    assert_eq!(largest(Offset(i64::MAX)), None);
    // Batches of five records a millisecond apart, ten apart; number 60 lies far ahead.
    let base = |number: i64| if number == 60 { 1_000_000 } else { number * 10 };
    for number in 0..120_i64 {
        let batch = batch(number as u64, 5, 300, base(number));
        log.borrow_mut().append(store.journal(), &batch, leader(0));
        commit(&store);
        background(&store).expect("background");
        let end = Offset((number + 1) * 5);
        assert_eq!(
            find(base(number) + 3, end),
            Some(if number > 60 {
                (60 * 5, 1_000_000)
            } else {
                (number * 5 + 3, base(number) + 3)
            })
        );
        let latest = number.min(60);
        assert_eq!(largest(end), Some((latest * 5 + 4, base(latest) + 4)), "after {number}");
    }
    assert!(log.borrow().segment_ends().len() > 3);
    assert_eq!(find(0, Offset(600)), Some((0, 0)));
    assert_eq!(find(25, Offset(600)), Some((15, 30)), "between two batches");
    assert_eq!(find(599, Offset(600)), Some((300, 1_000_000)), "the one that is ahead");
    assert_eq!(find(599, Offset(300)), None, "not behind the bound");
    assert_eq!(largest(Offset(300)), Some((299, 594)), "bounded below the one that is ahead");
    assert_eq!(find(1_000_005, Offset(600)), None);
    // The same from disk only.
    block_on(store.clone().close()).expect("close");
    drop(store);
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for (target, found) in [(25, Some((15, 30))), (599, Some((300, 1_000_000)))] {
        let plan = { log.borrow().plan_timestamp(target, Offset(600)) };
        let got = block_on(plan.find()).expect("find");
        assert_eq!(got.map(|got| (got.offset.0, got.timestamp_ms)), found);
    }
}

#[test]
fn a_deleted_log_does_not_come_back_and_its_files_are_gone() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    home.live(tp(2, 0), LogConfig::default());
    let store = home.open();
    let (doomed, kept) = (home.log(&store, tp(1, 0)), home.log(&store, tp(2, 0)));
    for tag in 0..60 {
        doomed.borrow_mut().append(store.journal(), &batch(tag, 1, 900, 0), leader(0));
        kept.borrow_mut().append(store.journal(), &batch(tag, 1, 900, 0), leader(0));
        commit(&store);
        background(&store).expect("background");
    }
    let dir = store.files().partition_dir(tp(1, 0));
    assert!(block_on(home.disk.exists(&dir)).expect("exists"));
    home.live.borrow_mut().remove(&tp(1, 0));
    block_on(store.delete_logs(&[tp(1, 0)])).expect("delete");
    assert!(!block_on(home.disk.exists(&dir)).expect("exists"));
    assert!(store.log(tp(1, 0)).is_none());
    commit_all(&store);
    drop((doomed, kept, store));
    let store = home.open();
    let kept = home.log(&store, tp(2, 0));
    assert_eq!(read_all(&kept, Offset(0), 5000).len(), 60);
    home.live(tp(1, 0), LogConfig::default());
    let anew = home.log(&store, tp(1, 0));
    assert_eq!(anew.borrow().log_end(), Offset(0));
}

#[test]
fn idempotent_producers_survive_a_kill_and_a_clean_stop_alike() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let mut store = home.open();
    let mut sequence = 0;
    for round in 0..6 {
        let log = home.log(&store, tp(1, 0));
        for tag in 0..40 {
            let batch = idempotent(tag, 2, 5, sequence);
            let stamp = batch.producer().expect("idempotent");
            let check = log.borrow().producers().check(&stamp);
            assert_eq!(check, Ok(super::super::producer_table::SequenceCheck::New));
            log.borrow_mut().append(store.journal(), &batch, leader(round));
            commit(&store);
            background(&store).expect("background");
            sequence += 2;
        }
        let before = log.borrow().producers().clone();
        if round % 2 == 0 {
            block_on(store.clone().close()).expect("close");
        }
        drop((log, store));
        store = home.open();
        let log = home.log(&store, tp(1, 0));
        assert_eq!(*log.borrow().producers(), before);
    }
}

#[test]
fn a_partition_that_trickles_does_not_pin_the_journal() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    home.live(tp(2, 0), LogConfig::default());
    let store = home.open();
    let (trickle, flood) = (home.log(&store, tp(1, 0)), home.log(&store, tp(2, 0)));
    trickle.borrow_mut().append(store.journal(), &batch(1, 1, 100, 0), leader(0));
    commit(&store);
    let mut largest_backlog = 0;
    for tag in 0..2000 {
        flood.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, 0), leader(0));
        commit(&store);
        background(&store).expect("background");
        if trickle.borrow().segment_end() == Offset(0) {
            largest_backlog = tag;
        }
    }
    assert_eq!(trickle.borrow().segment_end(), Offset(1), "written behind though it is small");
    assert!(largest_backlog < 100, "within the window, not after {largest_backlog} batches");
    let names = block_on(home.disk.list(Path::new("/data/journal/0"))).expect("list");
    assert!(names.len() <= home.config.journal_files_max, "{names:?}");
}

#[test]
fn when_no_journal_file_is_free_commits_wait_and_the_writer_is_pressed() {
    let (home, _) = Home::simulated(StoreConfig {
        write_behind_window_bytes: 1 << 40,
        checkpoint_bytes: 1 << 40,
        extent_bytes: 1 << 30,
        ..small_config()
    });
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..3000 {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, 0), leader(0));
        // `commit` does the background work only while the commit waits.
        commit(&store);
    }
    assert!(log.borrow().segment_end() > Offset(0), "only pressure can have written this");
    assert_eq!(read_all(&log, Offset(0), 100_000).len(), 3000);
    let names = block_on(home.disk.list(Path::new("/data/journal/0"))).expect("list");
    assert!(names.len() <= home.config.journal_files_max, "{names:?}");
}

#[test]
fn a_batch_larger_than_a_group_and_than_a_journal_file_is_taken() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for (tag, bytes) in [100, 20_000, 300_000, 100, 500_000, 100].into_iter().enumerate() {
        log.borrow_mut().append(store.journal(), &batch(tag as u64, 1, bytes, 0), leader(0));
        commit(&store);
    }
    let before = read_all(&log, Offset(0), 1);
    assert_eq!(before.len(), 6);
    drop((log, store));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    assert_eq!(read_all(&log, Offset(0), 1), before);
}

#[test]
fn many_small_groups_of_one_burst_share_a_write() {
    let (home, disk) = Home::simulated(StoreConfig { group_bytes_max: 1 << 20, ..small_config() });
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..20 {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, 0), leader(0));
    }
    let before = disk.op_count(crate::io::SimOp::Write);
    commit_all(&store);
    assert_eq!(disk.op_count(crate::io::SimOp::Write) - before, 1);
    assert_eq!(log.borrow().durable_end(), Offset(20));
}

#[test]
fn an_index_that_is_damaged_or_lost_is_rebuilt() {
    let (home, disk) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig { segment_bytes: 48 << 10, ..LogConfig::default() });
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..150 {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, tag as i64), leader(0));
        commit(&store);
        background(&store).expect("background");
    }
    let before = read_all(&log, Offset(0), 10_000);
    block_on(store.clone().close()).expect("close");
    let dir = store.files().partition_dir(tp(1, 0));
    drop((log, store));
    let names = block_on(home.disk.list(&dir)).expect("list");
    let indexes: Vec<_> = names.iter().filter(|entry| entry.name.ends_with(".index")).collect();
    assert!(indexes.len() > 2);
    for (number, entry) in indexes.iter().enumerate() {
        let path = dir.join(&entry.name);
        match number % 3 {
            0 => disk.flip_bit(&path, entry.len / 2, 3).expect("flip"),
            1 => block_on(home.disk.remove_file(&path)).expect("remove"),
            _ => {
                let options = crate::io::disk::OpenOptions { write: true, ..Default::default() };
                let file = block_on(home.disk.open(&path, options)).expect("open");
                block_on(file.truncate(entry.len - 1)).expect("cut");
            }
        }
    }
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    assert_eq!(read_all(&log, Offset(0), 10_000), before);
    let plan = { log.borrow().plan_timestamp(77, Offset(150)) };
    assert_eq!(block_on(plan.find()).expect("find").map(|found| found.offset), Some(Offset(77)));
}

#[test]
fn a_flipped_bit_in_a_segment_is_never_returned_to_a_reader() {
    let (home, disk) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..40 {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 1000, 0), leader(0));
    }
    commit_all(&store);
    block_on(store.clone().close()).expect("close");
    let path = store.files().path(log.borrow().segment_ends()[0].0, "log");
    drop((log, store));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let good = read_all(&log, Offset(0), 1 << 20);
    let file_bytes = log.borrow().segment_ends()[0].1;
    for pos in (0..file_bytes).step_by(97) {
        disk.flip_bit(&path, pos, 2).expect("flip");
        for from in [0, 20, 39] {
            let plan = { log.borrow().plan_read(Offset(from), Offset(40), 1 << 20) };
            match block_on(plan.read()) {
                Err(error) => assert!(matches!(error, StorageError::Corrupt { .. }), "{error}"),
                Ok(slices) => {
                    for slice in slices {
                        for found in stored_batches(&slice) {
                            let found = found.expect("whole");
                            let expected = &good[found.base_offset().0 as usize];
                            assert_eq!(found.bytes(), expected, "byte {pos}");
                        }
                    }
                }
            }
        }
        disk.flip_bit(&path, pos, 2).expect("flip back");
    }
    assert_eq!(read_all(&log, Offset(0), 1 << 20), good);
}

#[test]
fn any_number_of_shards_takes_over_what_another_number_left() {
    let (home, _) = Home::simulated(small_config());
    let logs: Vec<TopicPartition> = (0..6).map(|partition| tp(1, partition)).collect();
    logs.iter().for_each(|tp| home.live(*tp, LogConfig::default()));
    let mut expected = 0;
    for shards in [1, 2, 3, 1, 2] {
        let live = |tp: &TopicPartition| home.live.borrow().get(tp).cloned();
        let recovery = recover(&home.disk, &home.dir, DIRECTORY_ID, &home.config, 0, &live);
        let mut recovered = block_on(recovery).expect("recovery");
        for shard in 0..shards {
            let owns = |tp: &TopicPartition| tp.partition.0 % shards == shard;
            let part = recovered.take_shard(ShardId(shard as u16), owns);
            let opened = Store::open(
                home.disk.clone(),
                home.dir.clone(),
                home.config.clone(),
                home.clock.clone(),
                part,
            );
            let store = block_on(opened).expect("open");
            for tp in logs.iter().copied().filter(owns) {
                let log = home.log(&store, tp);
                assert_eq!(log.borrow().log_end(), Offset(expected), "{shards} shards, {tp}");
                assert_eq!(read_all(&log, Offset(0), 9000).len() as i64, expected);
                for tag in 0..30 {
                    log.borrow_mut().append(store.journal(), &batch(tag, 1, 700, 0), leader(0));
                    commit(&store);
                    if shard == 0 {
                        background(&store).expect("background");
                    }
                }
            }
            // Killed, not closed.
        }
        expected += 30;
    }
}

#[test]
fn foreign_and_future_files_are_refused() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    drop(home.open());
    let other = recover(&home.disk, &home.dir, [9; 16], &home.config, 0, &|_| None);
    assert!(matches!(block_on(other), Err(RecoveryError::ForeignFile { .. })));
}

#[test]
fn truncation_and_log_start_hold_in_memory_and_through_replay() {
    for (closed, rounds) in [(false, 3), (true, 40)] {
        let (home, _) = Home::simulated(small_config());
        home.live(tp(1, 0), LogConfig { segment_bytes: 24 << 10, ..LogConfig::default() });
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        let append = |tag: u64, epoch: i32| {
            log.borrow_mut().append(store.journal(), &batch(tag, 2, 500, 0), leader(epoch));
            commit(&store);
            background(&store).expect("background");
        };
        (0..rounds).for_each(|tag| append(tag, 0));
        let cut = Offset(rounds as i64 / 2 * 2);
        assert_eq!(log.borrow_mut().truncate_to(store.journal(), cut), cut);
        assert_eq!(log.borrow().log_end(), cut);
        (100..100 + rounds).for_each(|tag| append(tag, 1));
        log.borrow_mut().advance_log_start(store.journal(), Offset(2));
        commit_all(&store);
        let before = read_all(&log, Offset(2), 4000);
        let tags: Vec<u8> = before.iter().map(|batch| batch[batch.len() - 10]).collect();
        let expected: Vec<u8> =
            (1..rounds / 2).chain(100..100 + rounds).map(|tag| tag as u8).collect();
        assert_eq!(tags, expected);
        let (end, epochs) = (log.borrow().log_end(), log.borrow().epochs().clone());
        if closed {
            block_on(store.clone().close()).expect("close");
        }
        drop((log, store));
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        assert_eq!((log.borrow().log_start(), log.borrow().log_end()), (Offset(2), end));
        assert_eq!(*log.borrow().epochs(), epochs);
        assert_eq!(read_all(&log, Offset(2), 4000), before);
    }
}

#[test]
fn large_batches_come_back_whole_and_are_written_from_where_they_were_received() {
    let config = StoreConfig {
        journal_file_bytes: 4 << 20,
        journal_files_max: 8,
        group_bytes_max: 1 << 20,
        extent_bytes: 1 << 20,
        block_bytes: 128 << 10,
        read_cache_bytes: 0,
        ..StoreConfig::default()
    };
    // Values around the size at which a batch counts as large and around whole pages, between
    // small ones.
    let sizes: Vec<usize> = (0..60_usize)
        .map(|number| match number % 6 {
            0 => 100,
            1 => LARGE_BATCH_BYTES - 200 + number,
            2 => 200_000 + number,
            3 => 40 * 4096 + number * 37,
            4 => 900_000,
            _ => 5000,
        })
        .collect();
    for (in_place, kill) in [(false, false), (false, true), (true, false), (true, true)] {
        let (home, _) = Home::simulated(config.clone());
        home.live(tp(1, 0), LogConfig { segment_bytes: 6 << 20, ..LogConfig::default() });
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        for (tag, bytes) in sizes.iter().enumerate() {
            let batch = batch(tag as u64, 1, *bytes, 1000);
            let batch = if in_place { received(&batch) } else { batch };
            log.borrow_mut().append(store.journal(), &batch, leader(0));
            if tag % 4 == 3 {
                commit_all(&store);
                background(&store).expect("background");
            }
        }
        commit_all(&store);
        let expected = read_all(&log, Offset(0), 1 << 20);
        assert_eq!(expected.len(), sizes.len());
        if !kill {
            block_on(store.clone().close()).expect("close");
            let ledger = store.copy_ledger();
            let total: u64 = expected.iter().map(|batch| batch.len() as u64).sum();
            let small = expected.iter().filter(|batch| batch.len() < LARGE_BATCH_BYTES);
            let small: u64 = small.map(|batch| batch.len() as u64).sum();
            let pages = 2 * 4096 * sizes.len() as u64;
            assert!(ledger.bytes_extents() < small + pages, "{ledger:?} of {total}");
            if in_place {
                assert!(ledger.bytes_staged() < small + pages, "{ledger:?} of {total}");
            } else {
                assert_eq!(ledger.bytes_staged(), total);
            }
        }
        drop((log, store));
        let (store, _) = home.recover_and_open().expect("recovery");
        let log = home.log(&store, tp(1, 0));
        assert!(read_all(&log, Offset(0), 1 << 20) == expected, "{in_place}, killed: {kill}");
    }
}

#[test]
fn a_batch_that_keeps_much_other_memory_alive_is_copied() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let batch = received(&batch(1, 1, 2 * LARGE_BATCH_BYTES, 1000));
    let shared = UncheckedBatch::from_produce(batch.bytes().clone()).expect("one batch");
    let shared = shared.filling_memory(false).check().expect("a good one");
    log.borrow_mut().append(store.journal(), &shared, leader(0));
    assert_eq!(store.copy_ledger().bytes_staged(), batch.len_bytes() as u64);
}
