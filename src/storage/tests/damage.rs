//! Torn tails are forgotten, corruption is refused, stale bytes are never taken for new ones.

use super::*;
use crate::io::disk::OpenOptions;
use crate::io::sim_disk::SimDisk;
use crate::storage::journal::format::{FIRST_GROUP_POS, GroupHeader};

/// A store with one log, killed after `groups` groups of one batch each in its journal.
fn killed(groups: u64, value_bytes: usize) -> (Home, Rc<SimDisk>, Vec<Bytes>) {
    let config = StoreConfig {
        write_behind_window_bytes: 1 << 40,
        checkpoint_bytes: 1 << 40,
        ..small_config()
    };
    let (home, disk) = Home::simulated(config);
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    for tag in 0..groups {
        log.borrow_mut().append(store.journal(), &batch(tag, 1, value_bytes, 0), leader(0));
        commit(&store);
    }
    let written = read_all(&log, Offset(0), 1 << 20);
    (home, disk, written)
}

pub(super) fn bytes_of(home: &Home, path: &Path) -> Vec<u8> {
    let file = block_on(home.disk.open(path, OpenOptions::default())).expect("open");
    let len = file.len().expect("len") as usize;
    block_on(file.read_at(0, len)).expect("read").to_vec()
}

pub(super) fn overwrite(home: &Home, path: &Path, pos: u64, bytes: &[u8]) {
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let file = block_on(home.disk.open(path, options)).expect("open");
    block_on(file.write_at(Bytes::copy_from_slice(bytes), pos, true)).expect("write");
}

/// Places of the groups of the newest use of a journal file.
fn groups_in(bytes: &[u8]) -> Vec<(u64, usize, usize)> {
    let mut groups = Vec::new();
    let mut pos = FIRST_GROUP_POS as usize;
    while let Some(header) = bytes.get(pos..).and_then(GroupHeader::peek) {
        let len = header.total_bytes() as usize;
        groups.push((header.group(), pos, len));
        pos += len;
    }
    groups
}

fn recovered_end(home: &Home) -> Result<Offset, RecoveryError> {
    let (store, _) = home.recover_and_open()?;
    let end = home.log(&store, tp(1, 0)).borrow().log_end();
    Ok(end)
}

const JOURNAL: &str = "/data/journal/0/000.journal";

#[test]
fn a_tail_that_is_torn_at_any_sector_is_forgotten_and_nothing_before_it() {
    for fill in [0_u8, 0xA5] {
        for sector in 0.. {
            let (home, _, written) = killed(5, 9000);
            let path = Path::new(JOURNAL);
            let bytes = bytes_of(&home, path);
            let (_, pos, len) = *groups_in(&bytes).last().expect("groups");
            let cut = sector * 512;
            if cut >= len {
                break;
            }
            overwrite(&home, path, (pos + cut) as u64, &vec![fill; len - cut]);
            let end = recovered_end(&home).expect("a torn tail is no corruption");
            // What is cut off behind the last entry is padding.
            let whole = bytes[pos + cut..pos + len].iter().all(|byte| *byte == 0);
            assert_eq!(end, Offset(if whole { 5 } else { 4 }), "sector {sector}");
            let store = home.open();
            let log = home.log(&store, tp(1, 0));
            assert_eq!(read_all(&log, Offset(0), 1 << 20), written[..end.0 as usize]);
        }
    }
}

#[test]
fn a_damaged_group_before_a_durable_one_refuses_the_directory_and_changes_nothing() {
    let (home, disk, _) = killed(6, 700);
    let path = Path::new(JOURNAL);
    let bytes = bytes_of(&home, path);
    let groups = groups_in(&bytes);
    assert_eq!(groups.len(), 6);
    // The last but one may be damaged unseen only by itself: the last says that it was durable.
    for (_, pos, len) in &groups[..5] {
        for at in (*pos..pos + len).step_by(61) {
            disk.flip_bit(path, at as u64, 5).expect("flip");
            let damaged = bytes_of(&home, path);
            let used = at < pos + 64 + 700 + 80; // header, batch, entry; padding is nobody's
            match recover_only(&home) {
                Err(RecoveryError::Corrupt { .. }) => {
                    assert_eq!(bytes_of(&home, path), damaged, "nothing is changed");
                }
                Ok(()) if !used => {}
                other => panic!("byte {at}: {other:?}"),
            }
            disk.flip_bit(path, at as u64, 5).expect("flip back");
            if !used {
                break; // the padding's recovery drained the journal
            }
        }
    }
}

fn recover_only(home: &Home) -> Result<(), RecoveryError> {
    let before = home.disk.clone();
    let Disk::Sim(disk) = &before else { panic!("simulated") };
    // On a copy, so that the directory can be looked at again.
    let copy = Home {
        disk: Disk::Sim(disk.crash(4)),
        dir: home.dir.clone(),
        config: home.config.clone(),
        clock: home.clock.clone(),
        time: home.time.clone(),
        live: RefCell::new(home.live.borrow().clone()),
    };
    copy.recover_and_open().map(|_| ())
}

#[test]
fn a_damaged_header_of_a_journal_file_is_no_empty_journal() {
    let (home, disk, _) = killed(6, 700);
    disk.flip_bit(Path::new(JOURNAL), 20, 0).expect("flip");
    let refused = recovered_end(&home);
    assert!(matches!(refused, Err(RecoveryError::Corrupt { .. })), "{refused:?}");
    // Also where the chain goes on into the file from an earlier one.
    let (home, disk, _) = killed(40, 9000);
    let names = block_on(home.disk.list(Path::new("/data/journal/0"))).expect("list");
    assert!(names.len() >= 2, "{names:?}");
    let last = Path::new("/data/journal/0").join(&names[names.len() - 1].name);
    disk.flip_bit(&last, 20, 0).expect("flip");
    let refused = recovered_end(&home);
    assert!(matches!(refused, Err(RecoveryError::Corrupt { .. })), "{refused:?}");
}

#[test]
fn groups_of_an_earlier_use_of_a_file_are_never_taken_for_new_ones() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let mut sent = 0;
    // Every life ends at another place of the recycled files, full of whole old groups behind it.
    for life in 0..25 {
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        assert_eq!(log.borrow().log_end(), Offset(sent), "life {life}");
        for _ in 0..(life * 7) % 40 + 1 {
            log.borrow_mut().append(store.journal(), &batch(sent as u64, 1, 900, 0), leader(0));
            commit(&store);
            background(&store).expect("background");
            sent += 1;
        }
    }
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    let all = read_all(&log, Offset(0), 1 << 20);
    assert_eq!(all.len() as i64, sent);
}

#[test]
fn either_copy_of_a_checkpoint_alone_is_enough() {
    // Stopped at many places, so that some lie just after files were freed and taken again.
    for count in (300..360).step_by(4) {
        for (name, copy) in [("0", "a"), ("0", "b"), ("base", "a"), ("base", "b")] {
            let (home, disk) = Home::simulated(small_config());
            home.live(tp(1, 0), LogConfig { segment_bytes: 32 << 10, ..LogConfig::default() });
            let store = home.open();
            let log = home.log(&store, tp(1, 0));
            for tag in 0..count {
                log.borrow_mut().append(store.journal(), &batch(tag, 1, 900, 0), leader(0));
                commit(&store);
                background(&store).expect("background");
                // Spares are overwritten as soon as they are free.
                while store.journal().files().wants_spare() {
                    block_on(store.prewrite()).expect("spare");
                }
            }
            drop((log, store));
            let path = PathBuf::from(format!("/data/checkpoint/{name}.{copy}"));
            let len = bytes_of(&home, &path).len() as u64;
            disk.flip_bit(&path, len / 2, 1).expect("flip");
            let store = home.open();
            let log = home.log(&store, tp(1, 0));
            let found = read_all(&log, Offset(0), 1 << 20).len();
            assert_eq!(found, count as usize, "without {name}.{copy}");
        }
    }
}

#[test]
fn without_any_readable_copy_of_a_checkpoint_the_directory_is_refused() {
    for name in ["0", "base"] {
        let (home, disk) = Home::simulated(small_config());
        home.live(tp(1, 0), LogConfig::default());
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        for tag in 0..400 {
            log.borrow_mut().append(store.journal(), &batch(tag, 1, 900, 0), leader(0));
            commit(&store);
            background(&store).expect("background");
        }
        drop((log, store));
        for copy in ["a", "b"] {
            let path = PathBuf::from(format!("/data/checkpoint/{name}.{copy}"));
            disk.flip_bit(&path, 50, 1).expect("flip");
        }
        let refused = recovered_end(&home);
        assert!(matches!(refused, Err(RecoveryError::Corrupt { .. })), "{name}: {refused:?}");
    }
}

#[test]
fn a_checkpoint_cut_anywhere_or_of_random_bytes_is_not_believed() {
    let (home, _, _) = killed(3, 100);
    let path = Path::new("/data/checkpoint/base.a");
    let whole = bytes_of(&home, path);
    let mut random = super::world::Random::new(1);
    for cut in 0..whole.len() {
        let mut bytes = whole.clone();
        for byte in &mut bytes[cut..] {
            *byte = random.next() as u8;
        }
        overwrite(&home, path, 0, &bytes);
        assert!(recover_only(&home).is_ok(), "the other copy is used: cut at {cut}");
    }
}
