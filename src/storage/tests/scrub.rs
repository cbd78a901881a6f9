//! The scrub finds what a disk has let rot in closed segments, says where, and disturbs nobody.

use super::*;
use crate::io::sim_disk::SimDisk;
use crate::io::{SimFault, SimOp};
use crate::storage::{Damage, Scrubbed};

/// A store with closed segments, with small batches and such as are larger than a piece.
fn filled() -> (Home, Rc<SimDisk>, Rc<Store>) {
    let (home, disk) = Home::simulated(StoreConfig { read_cache_bytes: 0, ..small_config() });
    home.live(tp(1, 0), LogConfig { segment_bytes: 40 << 10, ..LogConfig::default() });
    home.live(tp(1, 1), LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() });
    let store = home.open();
    for (partition, count, bytes) in [(0, 60, 1900), (1, 8, 400_000)] {
        let log = home.log(&store, tp(1, partition));
        for tag in 0..count {
            log.borrow_mut().append(store.journal(), &batch(tag, 1, bytes, 0), leader(0));
            commit(&store);
            background(&store).expect("background");
        }
    }
    (home, disk, store)
}

fn scrub(store: &Store) -> Scrubbed {
    let mut pass = store.begin_scrub();
    let mut all = Scrubbed::default();
    while let Some(piece) = block_on(store.scrub_piece(&mut pass)).expect("scrubs") {
        all.bytes += piece.bytes;
        all.damage.extend(piece.damage);
    }
    all
}

fn damage_of(store: &Store) -> Vec<Damage> {
    scrub(store).damage
}

fn closed_files(home: &Home, partition: i32) -> Vec<(PathBuf, u64)> {
    let dir = PathBuf::from(format!("/data/topics/{}/{partition}", "01".repeat(16)));
    let files = block_on(home.disk.list(&dir)).expect("listed");
    let logs = files.iter().filter(|file| file.name.ends_with(".log"));
    let mut logs: Vec<_> = logs.map(|file| (dir.join(&file.name), file.len)).collect();
    logs.pop();
    logs
}

#[test]
fn a_sound_store_has_no_damage_and_all_that_is_closed_is_read() {
    let (home, _, store) = filled();
    let closed: u64 = [0, 1]
        .into_iter()
        .flat_map(|partition| closed_files(&home, partition))
        .map(|(_, len)| len)
        .sum();
    let scrubbed = scrub(&store);
    assert_eq!(scrubbed.damage, []);
    assert!(closed > 2_000_000 && scrubbed.bytes >= closed, "{} of {closed}", scrubbed.bytes);
    assert!(scrubbed.bytes < closed + closed / 5, "no more than that: {}", scrubbed.bytes);
}

#[test]
fn every_flipped_bit_of_a_header_or_batch_is_found_where_it_is() {
    let (home, disk, store) = filled();
    let mut random = super::world::Random::new(5);
    let mut found = 0;
    for (partition, stride) in [(0, 211), (1, 49_999)] {
        for (path, len) in closed_files(&home, partition) {
            let content = super::damage::bytes_of(&home, &path);
            for pos in (0..len).step_by(stride) {
                disk.flip_bit(&path, pos, random.below(8) as u8).expect("flipped");
                let flipped = super::damage::bytes_of(&home, &path);
                let damage = damage_of(&store);
                if is_padding(&content, pos as usize) {
                    assert_eq!(damage, [], "{} byte {pos} is nobody's", path.display());
                } else {
                    assert_eq!(damage.len(), 1, "{} byte {pos}: {damage:?}", path.display());
                    assert_eq!(damage[0].path, path);
                    assert!(damage[0].pos <= pos, "{pos}: {damage:?}");
                    assert!(damage[0].offsets.is_some() || damage[0].pos == pos / 4096 * 4096);
                    found += 1;
                }
                let at = pos as usize;
                let bit = (content[at] ^ flipped[at]).trailing_zeros() as u8;
                disk.flip_bit(&path, pos, bit).expect("flipped back");
            }
        }
    }
    assert!(found > 300, "{found}");
    assert_eq!(damage_of(&store), []);
}

/// Whether the byte lies behind the batches of its block.
fn is_padding(content: &[u8], pos: usize) -> bool {
    let mut at = 0;
    loop {
        let payload = u32::from_le_bytes(content[at + 28..at + 32].try_into().expect("4")) as usize;
        let end = at + (80 + payload).next_multiple_of(4096);
        if pos < end {
            return pos >= at + 80 + payload;
        }
        at = end;
    }
}

#[test]
fn a_file_that_is_short_missing_or_unreadable_is_reported_and_the_others_are_read() {
    let (home, disk, store) = filled();
    let files = closed_files(&home, 0);
    let options = crate::io::disk::OpenOptions { write: true, ..Default::default() };
    let short = block_on(home.disk.open(&files[0].0, options)).expect("open");
    block_on(short.truncate(4096)).expect("cut");
    block_on(home.disk.remove_file(&files[1].0)).expect("removed");
    let damage = damage_of(&store);
    let reasons: Vec<_> = damage.iter().map(|it| (it.path.clone(), it.reason)).collect();
    assert_eq!(reasons.len(), 2, "{damage:?}");
    assert_eq!(reasons[0], (files[0].0.clone(), "the file is shorter than it was"));
    assert_eq!(reasons[1], (files[1].0.clone(), "the file is missing"));
    disk.plan_fault(SimOp::Read, 1, false, SimFault::Error(libc::EIO));
    let damage = damage_of(&store);
    assert!(damage.iter().any(|it| it.reason == "the device cannot read it"), "{damage:?}");
    assert!(store.failed().is_none(), "a read that fails fails no store");
    let health = store.health();
    assert!(health.damaged_blocks() >= 5 && health.scrubbed_bytes() > 0, "it is counted");
}

#[test]
fn a_damaged_snapshot_is_found() {
    let (home, disk, store) = filled();
    let (path, _) = closed_files(&home, 0).remove(0);
    let snapshot = path.with_extension("snapshot");
    let len = super::damage::bytes_of(&home, &snapshot).len() as u64;
    for pos in 0..len {
        disk.flip_bit(&snapshot, pos, 3).expect("flipped");
        let damage = damage_of(&store);
        assert!(damage.len() == 1 && damage[0].path == snapshot, "byte {pos}: {damage:?}");
        disk.flip_bit(&snapshot, pos, 3).expect("flipped back");
    }
}

#[test]
fn segments_that_leave_their_log_during_a_pass_are_no_damage() {
    let (home, _, store) = filled();
    let log = home.log(&store, tp(1, 0));
    let mut pass = store.begin_scrub();
    block_on(store.scrub_piece(&mut pass)).expect("scrubs");
    log.borrow_mut().advance_log_start(store.journal(), Offset(60));
    commit_all(&store);
    log.borrow_mut().drop_segments_before(Offset(60));
    home.time.advance_ms(100_000);
    block_on(store.forget_dropped()).expect("forgotten");
    home.time.advance_ms(100_000);
    while block_on(store.remove_piece()).expect("removed") {}
    assert!(closed_files(&home, 0).is_empty());
    while let Some(piece) = block_on(store.scrub_piece(&mut pass)).expect("scrubs") {
        assert_eq!(piece.damage, []);
    }
    block_on(store.delete_logs(&[tp(1, 1)])).expect("deleted");
    assert_eq!(damage_of(&store), []);
}

#[test]
fn a_pass_opens_its_own_files_and_ends_with_the_store() {
    let (_, _, store) = filled();
    let open = store.files().open_count();
    scrub(&store);
    assert_eq!(store.files().open_count(), open, "readers keep theirs");
    let mut pass = store.begin_scrub();
    store.begin_close();
    let ended = block_on(store.scrub_piece(&mut pass));
    assert!(matches!(ended, Err(StorageError::Closing)), "{ended:?}");
}
