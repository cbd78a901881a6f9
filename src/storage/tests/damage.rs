//! Torn tails are forgotten, corruption is refused, stale bytes are never taken for new ones.

use super::bit_rot::resize;
use super::*;
use crate::io::disk::OpenOptions;
use crate::io::sim_disk::SimDisk;
use crate::io::{SimFault, SimOp};
use crate::storage::journal::format::{FIRST_GROUP_POS, FileHeader, GroupHeader};

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
    let Disk::Sim(disk) = &home.disk else { panic!("simulated") };
    // On a copy, so that the directory can be looked at again.
    home.on(disk.crash(4)).recover_and_open().map(|_| ())
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
fn a_journal_file_that_was_cut_at_any_length_refuses_the_directory_and_says_where_it_ends() {
    // No checkpoint names any of the files: only the files themselves can tell.
    let (home, disk, _) = killed(40, 9000);
    let dir = Path::new("/data/journal/0");
    let names = block_on(home.disk.list(dir)).expect("list");
    let used = |path: &PathBuf| !groups_in(&bytes_of(&home, path)).is_empty();
    let files = names.iter().map(|entry| dir.join(&entry.name)).filter(used);
    let files: Vec<PathBuf> = files.collect();
    assert!(files.len() >= 2, "{names:?}");
    for path in files {
        let len = bytes_of(&home, &path).len() as u64;
        let borders = (0..len).step_by(4096).flat_map(|border| [border, border + 1, border + 4095]);
        for cut in (0..600).chain(borders) {
            let copy = home.on(disk.copy());
            resize(&copy, &path, cut);
            let refused = copy.recover_and_open().map(|_| ());
            let Err(RecoveryError::Corrupt { path: named, reason }) = refused else {
                panic!("{} cut at {cut}: {refused:?}", path.display());
            };
            assert_eq!(named, path);
            let header = FileHeader::BYTES as u64;
            let was = if cut < header { 4096 } else { len };
            assert!(reason.starts_with(&format!("it ends at byte {cut}, but ")), "{reason}");
            assert!(reason.ends_with(&format!(" {was} bytes")), "{reason}");
            for entry in &names {
                let path_of = dir.join(&entry.name);
                let before = bytes_of(&home, &path_of);
                let kept = if path_of == path { cut as usize } else { before.len() };
                assert!(bytes_of(&copy, &path_of) == before[..kept], "nothing is changed");
            }
        }
    }
}

#[test]
fn a_spare_journal_file_that_was_cut_is_written_anew() {
    let (home, _) = Home::simulated(small_config());
    home.live(tp(1, 0), LogConfig::default());
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    log.borrow_mut().append(store.journal(), &batch(1, 1, 900, 0), leader(0));
    commit(&store);
    block_on(store.prewrite()).expect("a spare");
    drop((log, store));
    let spare = Path::new("/data/journal/0/001.journal");
    for cut in [60, 4095, 4096, 5000, 8192, 100_000] {
        resize(&home, spare, cut);
        let store = home.open();
        let log = home.log(&store, tp(1, 0));
        for tag in 0..40 {
            log.borrow_mut().append(store.journal(), &batch(tag, 1, 9000, 0), leader(0));
            commit(&store);
        }
        block_on(store.close()).expect("closed");
    }
    let again = home.open();
    assert_eq!(home.log(&again, tp(1, 0)).borrow().log_end(), Offset(1 + 6 * 40));
}

#[test]
fn a_journal_file_that_was_half_begun_and_is_given_back_is_a_spare_of_the_next_start() {
    let (home, disk, _) = killed(0, 0);
    let store = home.open();
    let files = store.journal().files();
    block_on(files.prewrite()).expect("a spare");
    assert!(block_on(files.give_back_spare()));
    // Its header gets there, and the disk says that it did not.
    disk.plan_fault(SimOp::Write, 0, false, SimFault::Partial(libc::ENOSPC));
    block_on(files.start(9)).expect_err("no room");
    disk.plan_fault(SimOp::Write, 0, false, SimFault::Error(libc::ENOSPC));
    block_on(files.prewrite()).expect_err("there is none");
    drop(store);
    assert_eq!(recovered_end(&home).expect("a start"), Offset(0));
}

#[test]
fn a_journal_file_that_could_not_be_begun_at_first_is_found_again() {
    let (home, disk, _) = killed(0, 0);
    let store = home.open();
    let log = home.log(&store, tp(1, 0));
    // It cannot be named for want of room: the next attempt takes another sequence.
    let full = SimFault::Error(libc::ENOSPC);
    for tag in 0..35 {
        if tag == 5 {
            disk.plan_fault(SimOp::Name, 0, false, full);
        }
        log.borrow_mut().append(store.journal(), &batch(tag, 1, 9000, 0), leader(0));
        let mut committed = pin!(store.commit_group());
        if block_on(poll_once(&mut committed)).is_none() {
            store.look_at_room();
            block_on(committed).expect("committed");
        }
    }
    assert_eq!(disk.faults_met().len(), 1);
    assert!(store.failed().is_none(), "{:?}", store.failed());
    drop((log, store));
    for seed in 0..20 {
        let copy = home.on(disk.crash(seed));
        assert_eq!(recovered_end(&copy).expect("a start"), Offset(35));
    }
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
