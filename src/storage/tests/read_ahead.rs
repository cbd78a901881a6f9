//! Reading old data in order.

use super::*;
use crate::io::SimOp;

const BATCHES: u64 = 200;

/// A log of many small batches whose bytes are all in segments and nowhere else.
fn old_log(home: &Home) -> (Rc<Store>, Rc<RefCell<Log>>) {
    home.live(tp(1, 0), LogConfig { segment_bytes: 96 << 10, ..LogConfig::default() });
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..BATCHES {
        log.borrow_mut().append(store.journal(), &batch(tag, 2, 500, 1000), leader(0));
        commit_all(&store);
        background(&store).expect("background");
    }
    block_on(store.clone().close()).expect("close");
    drop((log, store));
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    (store, log)
}

#[test]
fn a_reader_that_goes_on_in_order_reads_each_byte_of_the_disk_once_and_in_large_pieces() {
    let ahead = StoreConfig { read_cache_bytes: 0, ..small_config() };
    let none = StoreConfig { read_ahead_bytes: 0, ..ahead.clone() };
    let [(with, expected), (without, also_expected)] = [ahead, none].map(|config| {
        let (home, disk) = Home::simulated(config);
        let (_store, log) = old_log(&home);
        let before = disk.op_count(SimOp::Read);
        let read = read_all(&log, Offset(0), 3000);
        (disk.op_count(SimOp::Read) - before, read)
    });
    assert_eq!(expected.len(), 200);
    assert_eq!(expected, also_expected);
    // 200 batches of 1.1 KiB, two in an answer: 100 answers, each of them a read without it. With
    // it: two reads of each of three segments until the order shows, one for the rest, an index.
    assert!(without >= 100, "{without} reads without read-ahead");
    assert!(with <= 15, "{with} reads with read-ahead");
}

#[test]
fn readers_at_many_places_get_what_is_there_however_little_room_there_is() {
    let (home, _) = Home::simulated(StoreConfig { read_cache_bytes: 0, ..small_config() });
    let (_store, log) = old_log(&home);
    let all = read_all(&log, Offset(0), 1 << 20);
    for read_ahead_bytes in [0, 9 << 10, 20 << 10, 8 << 20] {
        let config = StoreConfig { read_cache_bytes: 0, read_ahead_bytes, ..small_config() };
        let (home, _) = Home::simulated(config);
        let (_store, log) = old_log(&home);
        let mut nexts: Vec<i64> = (0..20).map(|reader| reader * 17).collect();
        let mut random = world::Random::new(read_ahead_bytes as u64);
        while nexts.iter().any(|next| *next < 400) {
            let reader = random.below(20) as usize;
            let bytes_max = 1 + random.below(20_000) as usize;
            let plan = log.borrow().plan_read(Offset(nexts[reader]), Offset(400), bytes_max);
            for slice in block_on(plan.read()).expect("read") {
                for batch in stored_batches(&slice) {
                    let batch = batch.expect("whole batches");
                    let number = usize::try_from(nexts[reader] / 2).expect("an offset");
                    assert_eq!(batch.bytes(), all[number], "offset {}", nexts[reader]);
                    // Readers that start inside of a batch get it whole.
                    nexts[reader] = batch.last_offset().0 + 1;
                }
            }
        }
    }
}

#[test]
fn what_was_read_of_a_segment_is_forgotten_when_its_name_is_used_again() {
    let (home, _) = Home::simulated(StoreConfig { read_cache_bytes: 0, ..small_config() });
    let (store, log) = old_log(&home);
    let reads = |from| {
        let plan = { log.borrow().plan_read(Offset(from), Offset(i64::MAX), 3000) };
        block_on(plan.read()).expect("read").concat()
    };
    // The reader goes on, so what comes next is in memory.
    assert!((0..20).all(|answer| !reads(answer * 4).is_empty()));
    log.borrow_mut().truncate_to(store.journal(), Offset(0));
    for tag in 0..BATCHES {
        log.borrow_mut().append(store.journal(), &batch(1000 + tag, 2, 500, 1000), leader(1));
        commit_all(&store);
        background(&store).expect("background");
    }
    let renewed = reads(80);
    let value = (1000_u64 + 40).to_be_bytes();
    assert!(renewed.windows(8).any(|bytes| bytes == value), "records from before the truncation");
}
