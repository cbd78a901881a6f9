//! What goes and what stays, by age and by size, whatever the clocks and the timestamps say; and that
//! files go piece by piece without a trace.

use super::*;

const DAY_MS: i64 = 24 * 3600 * 1000;
const KEEP_MS: i64 = 10_000;

/// Segments of about 28 batches of [`append`].
fn keep(retention_ms: i64, retention_bytes: i64) -> LogConfig {
    let (segment_bytes, file_delete_delay_ms) = (32 << 10, 0);
    LogConfig {
        segment_bytes,
        retention_ms,
        retention_bytes,
        file_delete_delay_ms,
        ..LogConfig::default()
    }
}

/// Base offsets and lengths of a log's segments.
fn segment_ends(log: &Log) -> Vec<(Offset, u64)> {
    log.segment_ends().into_iter().map(|(key, bytes)| (key.base_offset, bytes)).collect()
}

struct Bench {
    home: Home,
    store: Rc<Store>,
    log: Rc<RefCell<Log>>,
}

impl Bench {
    fn new(config: LogConfig) -> Bench {
        let store_config = StoreConfig { removal_piece_bytes: 16 << 10, ..small_config() };
        let (home, _) = Home::simulated(store_config);
        home.live(tp(1, 0), config);
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        Bench { home, store, log }
    }

    /// Ends the broker without a word, and starts it again.
    fn reopen(&mut self) {
        self.store = self.home.open();
        self.log = self.home.log(&self.store, tp(1, 0));
    }

    fn append(&self, count: u64, time_ms: i64) {
        for tag in 0..count {
            let mut log = self.log.borrow_mut();
            log.append(self.store.journal(), &batch(tag, 1, 1000, time_ms), leader(0));
            drop(log);
            commit(&self.store);
            background(&self.store).expect("background");
        }
    }

    fn now_ms(&self) -> i64 {
        self.home.clock.wall_ms()
    }

    /// What retention gives up of what is committed.
    fn planned(&self) -> Option<Offset> {
        let log = self.log.borrow();
        log.retention_start(log.written_end(), self.home.clock.now())
    }

    /// One look of retention, to its end; where the log begins then.
    fn retain(&self) -> Offset {
        if let Some(start) = self.planned() {
            self.log.borrow_mut().advance_log_start(self.store.journal(), start);
            commit_all(&self.store);
        }
        let start = self.log.borrow().log_start();
        self.log.borrow_mut().drop_segments_before(start);
        start
    }

    /// Base offset and length of the segment files on disk.
    fn files(&self) -> Vec<(i64, u64)> {
        let dir = self.store.files().partition_dir(tp(1, 0));
        let names = block_on(self.home.disk.list(&dir)).unwrap_or_default();
        let logs = names.iter().filter_map(|entry| {
            let base = entry.name.strip_suffix(".log")?;
            Some((base.parse().expect("an offset"), entry.len))
        });
        logs.collect()
    }

    fn end(&self) -> Offset {
        self.log.borrow().log_end()
    }
}

#[test]
fn whole_segments_go_oldest_first_when_their_last_write_and_timestamp_are_old() {
    let bench = Bench::new(keep(KEEP_MS, -1));
    let mut ends = Vec::new();
    for _ in 0..4 {
        bench.append(30, bench.now_ms());
        ends.push(bench.end());
        bench.home.time.advance_ms(KEEP_MS as u32 / 2);
    }
    // The first 30 are exactly twice KEEP_MS old, the second 30 one and a half times, …
    let start = bench.retain();
    assert!(start > Offset(0) && start <= ends[1], "{start} of {ends:?}");
    let first = bench.files()[0].0;
    assert!(bench.log.borrow().segment_ends().iter().all(|(key, _)| key.base_offset >= start));
    assert_eq!(first, 0, "the files stay until no checkpoint names them");
    assert_eq!(bench.planned(), None, "what stays is young");
    assert_eq!(read_all(&bench.log, start, 4000).len() as i64, bench.end().0 - start.0);
}

#[test]
fn a_segment_goes_by_size_while_the_log_without_it_holds_retention_bytes() {
    let bench = Bench::new(keep(-1, 80_000));
    bench.append(200, bench.now_ms());
    let before = segment_ends(&bench.log.borrow());
    let mut size = bench.log.borrow().size_bytes();
    let gone = before.iter().take_while(|(_, bytes)| {
        let goes = size - bytes >= 80_000;
        size -= bytes;
        goes
    });
    let expected = before[gone.count()].0;
    assert!(expected > Offset(0));
    assert_eq!(bench.retain(), expected);
    let left = bench.log.borrow().size_bytes();
    assert!((80_000..80_000 + (32 << 10)).contains(&left), "{left}");
}

#[test]
fn a_policy_without_delete_keeps_everything() {
    let bench = Bench::new(keep(-1, -1));
    bench.append(100, 0);
    bench.home.time.advance_ms(DAY_MS as u32);
    assert_eq!(bench.planned(), None);
}

#[test]
fn nothing_at_or_beyond_the_high_watermark_goes() {
    let bench = Bench::new(keep(KEEP_MS, 0));
    bench.append(100, bench.now_ms());
    bench.home.time.advance_ms(DAY_MS as u32);
    let log = bench.log.borrow();
    let second = segment_ends(&log)[1].0;
    let upto = |end: Offset| log.retention_start(end, bench.home.clock.now());
    assert_eq!(upto(Offset(second.0 - 1)), None);
    assert_eq!(upto(second), Some(second));
    assert_eq!(upto(Offset(log.log_end().0 - 1)), Some(segment_ends(&log).last().unwrap().0));
    assert_eq!(upto(log.log_end()), Some(log.log_end()));
}

#[test]
fn the_segment_that_is_written_to_goes_as_a_whole_and_the_next_batch_begins_another() {
    let mut bench = Bench::new(keep(KEEP_MS, -1));
    bench.append(70, bench.now_ms());
    bench.home.time.advance_ms(2 * KEEP_MS as u32);
    let end = bench.end();
    assert_eq!(bench.retain(), end);
    // Some of it was in no segment yet: the last one goes when that has come into it.
    bench.append(40, bench.now_ms());
    bench.home.time.advance_ms(2 * KEEP_MS as u32);
    bench.append(1, bench.now_ms());
    let start = bench.retain();
    assert!(start > end);
    assert_eq!(read_all(&bench.log, start, 4000).len() as i64, bench.end().0 - start.0);
    let end = bench.end();
    bench.reopen();
    assert_eq!((bench.log.borrow().log_start(), bench.end()), (start, end));
    bench.home.time.advance_ms(2 * KEEP_MS as u32);
    assert_eq!(bench.retain(), end);
    assert_eq!(bench.log.borrow().segment_ends(), [], "nothing was on its way into it");
    bench.append(5, bench.now_ms());
    assert_eq!(read_all(&bench.log, end, 4000).len(), 5);
    bench.reopen();
    assert_eq!((bench.log.borrow().log_start(), bench.end()), (end, end.plus(5)));
    assert_eq!(read_all(&bench.log, end, 4000).len(), 5);
}

#[test]
fn a_wall_clock_that_jumps_ahead_deletes_nothing_that_is_young() {
    let mut bench = Bench::new(keep(7 * DAY_MS, -1));
    bench.append(100, bench.now_ms());
    bench.home.time.jump_wall_ms(400 * DAY_MS);
    assert_eq!(bench.planned(), None);
    bench.append(100, bench.now_ms());
    bench.home.time.advance_ms(DAY_MS as u32);
    assert_eq!(bench.planned(), None);
    // Back to the right time, and another start: what was written meanwhile has a time from the
    // future, and is kept from now on for as long as anything else.
    bench.home.time.jump_wall_ms(-400 * DAY_MS);
    assert_eq!(bench.planned(), None);
    bench.reopen();
    assert_eq!(bench.planned(), None);
    bench.home.time.advance_ms(7 * DAY_MS as u32 + 1);
    assert_eq!(bench.planned(), Some(bench.end()), "and not for ever");
}

#[test]
fn a_clock_that_was_wrong_at_the_start_and_is_put_right_deletes_nothing() {
    let mut bench = Bench::new(keep(7 * DAY_MS, -1));
    bench.append(100, bench.now_ms());
    bench.home.time.jump_wall_ms(400 * DAY_MS);
    bench.reopen();
    bench.home.time.jump_wall_ms(-400 * DAY_MS);
    assert_eq!(bench.planned(), None, "the wall clock knows better by now");
}

#[test]
fn a_wall_clock_that_is_set_back_keeps_nothing_for_ever() {
    let bench = Bench::new(keep(KEEP_MS, -1));
    bench.append(100, bench.now_ms());
    bench.home.time.jump_wall_ms(-4000 * DAY_MS);
    bench.append(100, bench.now_ms());
    bench.home.time.advance_ms(KEEP_MS as u32);
    assert_eq!(bench.planned(), None);
    bench.home.time.advance_ms(1);
    assert_eq!(bench.planned(), Some(bench.end()));
}

#[test]
fn poisoned_timestamps_neither_delete_what_is_young_nor_keep_what_is_old() {
    let right = 1_700_000_000_000;
    for time_ms in [-1, 0, 1, right / 1000, right - 4000 * DAY_MS, right + DAY_MS, right * 1000] {
        let bench = Bench::new(keep(KEEP_MS, -1));
        bench.append(100, time_ms);
        bench.home.time.advance_ms(KEEP_MS as u32);
        assert_eq!(bench.planned(), None, "timestamp {time_ms}: it was just written");
        bench.home.time.advance_ms(1);
        assert_eq!(bench.planned(), Some(bench.end()), "timestamp {time_ms}: it is old");
    }
}

#[test]
fn a_timestamp_a_little_ahead_counts_as_in_kafka() {
    let bench = Bench::new(keep(KEEP_MS, -1));
    bench.append(100, bench.now_ms() + KEEP_MS / 2);
    bench.home.time.advance_ms(KEEP_MS as u32 + 1);
    assert_eq!(bench.planned(), None);
    bench.home.time.advance_ms(KEEP_MS as u32 / 2);
    assert_eq!(bench.planned(), Some(bench.end()));
}

#[test]
fn files_go_in_pieces_and_what_a_crash_leaves_of_them_goes_at_the_next_start() {
    let mut bench = Bench::new(keep(KEEP_MS, -1));
    bench.append(200, bench.now_ms());
    bench.home.time.advance_ms(2 * KEEP_MS as u32);
    bench.append(60, bench.now_ms());
    let start = bench.retain();
    assert!(start > Offset(100));
    let lengths = bench.files();
    assert!(!block_on(bench.store.remove_piece()).expect("nothing due"));
    block_on(bench.store.forget_dropped()).expect("two checkpoints");
    assert_eq!(bench.files(), lengths, "no step has been taken");
    assert!(block_on(bench.store.remove_piece()).expect("a piece"));
    let (base, before) = lengths[0];
    assert_eq!(bench.files()[0], (base, before - (16 << 10)), "one piece of the first file");
    // A power cut: no log misses what is half gone, and it does not come back.
    let disk = match &bench.home.disk {
        Disk::Sim(disk) => disk.crash(7),
        _ => unreachable!("simulated"),
    };
    bench.home.disk = Disk::Sim(disk);
    bench.reopen();
    assert_eq!(bench.log.borrow().log_start(), start);
    assert_eq!(read_all(&bench.log, start, 4000).len() as i64, bench.end().0 - start.0);
    assert!(bench.files().iter().any(|(base, _)| *base < start.0), "left over");
    block_on(bench.store.sweep()).expect("sweep");
    while bench.store.has_removals() {
        block_on(bench.store.remove_piece()).expect("a piece");
    }
    let left: Vec<i64> = bench.files().iter().map(|(base, _)| *base).collect();
    let known: Vec<i64> =
        segment_ends(&bench.log.borrow()).iter().map(|(base, _)| base.0).collect();
    assert_eq!(left, known);
    assert_eq!(read_all(&bench.log, start, 4000).len() as i64, bench.end().0 - start.0);
}

#[test]
fn files_stay_for_readers_until_their_delay_is_over() {
    let bench = Bench::new(LogConfig { file_delete_delay_ms: 60_000, ..keep(-1, 0) });
    bench.append(100, bench.now_ms());
    // A reader that began before.
    let plan = { bench.log.borrow().plan_read(Offset(0), bench.end(), 4000) };
    assert_eq!(bench.retain(), bench.end());
    block_on(bench.store.forget_dropped()).expect("two checkpoints");
    let lengths = bench.files();
    bench.home.time.advance_ms(59_999);
    assert!(!block_on(bench.store.remove_piece()).expect("nothing due"));
    assert_eq!(bench.files(), lengths);
    assert!(!block_on(plan.read()).expect("its files are there").is_empty());
    bench.home.time.advance_ms(1);
    while block_on(bench.store.remove_piece()).expect("a piece") {}
    assert!(bench.files().len() < lengths.len());
}

#[test]
fn a_deleted_partition_of_many_bytes_goes_in_pieces() {
    let bench = Bench::new(keep(-1, -1));
    bench.append(200, bench.now_ms());
    let dir = bench.store.files().partition_dir(tp(1, 0));
    let retired = dir.with_file_name("0-delete");
    let bytes_in = |dir| {
        let names = block_on(bench.home.disk.list(dir)).unwrap_or_default();
        names.iter().map(|entry| entry.len).sum::<u64>()
    };
    let bytes = || bytes_in(&dir) + bytes_in(&retired);
    let before = bytes();
    block_on(bench.store.delete_logs(&[tp(1, 0)])).expect("delete");
    assert!(bytes() > before - (32 << 10), "a piece at most");
    let mut pieces = 0;
    while bench.store.has_removals() {
        let left = bytes();
        block_on(bench.store.remove_piece()).expect("a piece");
        assert!(left - bytes() <= 32 << 10, "a piece at most");
        pieces += 1;
    }
    assert!(pieces > 10);
    for dir in [&dir, &retired] {
        assert!(!block_on(bench.home.disk.exists(dir)).expect("looked"));
    }
}

#[test]
fn what_a_crash_left_of_a_deleted_partition_goes_after_the_next_start() {
    let mut bench = Bench::new(keep(-1, -1));
    bench.append(200, bench.now_ms());
    let topic_dir = bench.store.files().partition_dir(tp(1, 0));
    let topic_dir = topic_dir.parent().expect("the topic's").to_owned();
    bench.home.live.borrow_mut().remove(&tp(1, 0));
    block_on(bench.store.delete_logs(&[tp(1, 0)])).expect("delete");
    block_on(bench.store.remove_piece()).expect("a piece");
    assert!(bench.store.has_removals());
    let disk = match &bench.home.disk {
        Disk::Sim(disk) => disk.crash(3),
        _ => unreachable!("simulated"),
    };
    bench.home.disk = Disk::Sim(disk);
    let store = bench.home.open();
    assert!(block_on(bench.home.disk.exists(&topic_dir)).expect("looked"));
    assert!(!store.has_removals());
    block_on(store.sweep()).expect("sweep");
    while store.has_removals() {
        block_on(store.remove_piece()).expect("a piece");
    }
    assert!(!block_on(bench.home.disk.exists(&topic_dir)).expect("looked"));
}

#[test]
fn what_was_doomed_under_a_name_does_not_take_the_next_segment_of_that_name() {
    let config = LogConfig { file_delete_delay_ms: 1_000, ..keep(-1, -1) };
    let mut bench = Bench::new(config);
    let truncate = |bench: &Bench| {
        bench.log.borrow_mut().truncate_to(bench.store.journal(), Offset(0));
        commit_all(&bench.store);
    };
    bench.append(20, bench.now_ms());
    assert_eq!(bench.files().len(), 1);
    truncate(&bench);
    block_on(bench.store.forget_dropped()).expect("checkpoints");
    assert!(bench.store.has_removals(), "its file goes in a second");
    // The same name again, and a checkpoint that says so.
    bench.append(20, bench.now_ms());
    block_on(bench.store.checkpoint()).expect("checkpoint");
    truncate(&bench);
    bench.home.time.advance_ms(2_000);
    block_on(bench.store.remove_piece()).expect("removal");
    assert_eq!(bench.files().len(), 1, "a checkpoint names it");
    bench.reopen();
    assert_eq!(bench.end(), Offset(0));
}
