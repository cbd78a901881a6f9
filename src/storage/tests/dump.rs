//! What the dump says of a directory: sound ones, damaged ones, ends that a crash leaves, bytes that
//! are no directory at all. Recovery is the referee.

use std::fs;
use std::ops::Range;

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::world::Random;
use super::*;
use crate::base::crc::crc32c;
use crate::storage::checkpoint::{CHECKPOINT_MAGIC, frame};
use crate::storage::dump::{
    BatchSource, DataDir, EntryPlace, FileKind, FileReport, JournalItem, Verdict, Wanted,
    look_at_bytes,
};
use crate::storage::journal::format::{
    ENTRY_BYTES, EntryHeader, EntryKind, FIRST_GROUP_POS, FileHeader, GROUP_HEADER_BYTES,
    GroupHeader, entries_begin,
};

/// A directory on the real disk as a killed broker left it, and what its logs held.
struct Left {
    dir: tempfile::TempDir,
    home: Home,
    logs: Vec<(TopicPartition, Vec<Bytes>)>,
}

fn config() -> StoreConfig {
    StoreConfig {
        journal_file_bytes: 1 << 20,
        journal_files_max: 4,
        group_bytes_max: 256 << 10,
        block_bytes: 8 << 10,
        extent_bytes: 32 << 10,
        large_lane_bytes: 64 << 10,
        checkpoint_bytes: 1 << 40,
        write_behind_window_bytes: 1 << 40,
        ..StoreConfig::default()
    }
}

/// Two logs with closed and open segments, a checkpoint, and behind it small and large batches.
fn left_by_a_kill() -> Left {
    let dir = tempfile::tempdir().expect("temporary directory");
    let home = Home::new(Disk::Blocking, dir.path(), config());
    let log_config = LogConfig { segment_bytes: 160 << 10, ..LogConfig::default() };
    home.live(tp(1, 0), log_config.clone());
    home.live(tp(2, 3), log_config);
    let store = home.open();
    let logs = [tp(1, 0), tp(2, 3)].map(|tp| (tp, home.log(&store, tp)));
    let append = |tags: Range<u64>| {
        for tag in tags {
            for (tp, log) in &logs {
                let large = tag % 5 == 4 && tp.partition.0 == 0;
                let bytes = if large { 70 << 10 } else { 3000 };
                let batch = received(&batch(tag, 3, bytes / 3, 1000 + tag as i64));
                log.borrow_mut().append(store.journal(), &batch, leader(2));
            }
            commit_all(&store);
        }
    };
    append(0..12);
    background(&store).expect("background");
    block_on(store.checkpoint()).expect("checkpoint");
    append(12..24);
    let logs = logs.iter().map(|(tp, log)| (*tp, read_all(log, Offset(0), 1 << 20))).collect();
    Left { dir, home, logs }
}

impl Left {
    fn open(&self) -> DataDir {
        let live = self.home.live.borrow().keys().copied().collect();
        DataDir::open(self.dir.path(), Some(DIRECTORY_ID), Some(live)).expect("a directory")
    }

    fn reports(&self) -> Vec<FileReport> {
        let dir = self.open();
        let mut reports = dir.checkpoint_reports().to_vec();
        for shard in dir.shards() {
            reports.extend(dir.journal(shard, true, &mut |_| {}));
        }
        for tp in dir.partitions() {
            reports.extend(dir.partition(tp, true));
        }
        reports
    }

    /// Whether a start on a copy of the directory would be refused.
    fn is_refused(&self) -> bool {
        let copy = tempfile::tempdir().expect("temporary directory");
        copy_all(self.dir.path(), copy.path());
        let live = |tp: &TopicPartition| self.home.live.borrow().get(tp).cloned();
        let config = config();
        let recovery = recover(&Disk::Blocking, copy.path(), DIRECTORY_ID, &config, 0, &live);
        block_on(recovery).is_err()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        walk(self.dir.path(), &mut files);
        files.sort();
        files
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn copy_all(from: &Path, to: &Path) {
    let mut files = Vec::new();
    walk(from, &mut files);
    for file in files {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        fs::create_dir_all(target.parent().expect("a parent")).expect("create");
        fs::copy(&file, target).expect("copy");
    }
}

fn kind_of(path: &Path) -> FileKind {
    match path.extension().and_then(|it| it.to_str()) {
        Some("journal") => FileKind::Journal,
        Some("log") => FileKind::Segment,
        Some("index") => FileKind::Index,
        Some("snapshot") => FileKind::Snapshot,
        _ => FileKind::Checkpoint,
    }
}

fn of<'a>(reports: &'a [FileReport], path: &Path) -> &'a FileReport {
    let found = reports.iter().find(|report| report.path == path);
    found.unwrap_or_else(|| panic!("nothing is said of {}", path.display()))
}

/// Every range of a file that a checksum covers, by the format alone.
fn covered(path: &Path, bytes: &[u8], counted: u64) -> Vec<Range<usize>> {
    match kind_of(path) {
        FileKind::Journal => covered_of_journal(bytes),
        FileKind::Segment => covered_of_segment(&bytes[..counted as usize]),
        _ => std::iter::once(0..bytes.len()).collect(),
    }
}

fn covered_of_journal(bytes: &[u8]) -> Vec<Range<usize>> {
    if bytes[..FileHeader::BYTES].iter().all(|byte| *byte == 0) {
        return Vec::new();
    }
    let mut ranges: Vec<_> = std::iter::once(0..FileHeader::BYTES).collect();
    let mut pos = FIRST_GROUP_POS as usize;
    while let Some(header) = bytes.get(pos..).and_then(GroupHeader::peek) {
        ranges.push(pos..pos + GROUP_HEADER_BYTES);
        let table = pos + entries_begin(header.payload_bytes() as usize);
        let table = table..table + header.entry_count() as usize * ENTRY_BYTES;
        let entries = <[EntryHeader]>::ref_from_bytes(&bytes[table.clone()]).expect("entries");
        let batches = entries.iter().filter(|entry| entry.kind() == Some(EntryKind::Append));
        ranges.extend(batches.map(|it| pos + it.range().start..pos + it.range().end));
        ranges.push(table);
        pos += header.total_bytes() as usize;
    }
    ranges
}

fn covered_of_segment(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut ranges, mut pos) = (Vec::new(), 0);
    while pos < bytes.len() {
        assert_eq!(&bytes[pos..pos + 4], b"TWSB");
        let payload = u32::from_le_bytes(bytes[pos + 28..pos + 32].try_into().expect("four"));
        ranges.push(pos..pos + 80 + payload as usize);
        pos += (80 + payload as usize).next_multiple_of(4096);
    }
    ranges
}

#[test]
fn a_directory_that_was_killed_is_sound_and_shows_all_its_batches() {
    let left = left_by_a_kill();
    let before: Vec<_> = left.files().iter().map(|path| fs::read(path).expect("read")).collect();
    for report in left.reports() {
        assert_eq!(report.verdict(), Verdict::Sound, "{report:#?}");
    }
    let dir = left.open();
    let (mut sources, mut entries) = (Vec::new(), Vec::new());
    for (tp, written) in &left.logs {
        let mut found = Vec::new();
        let wanted = Wanted { offsets: 0..i64::MAX, content_bytes_max: 1 << 20 };
        let mut take = |info: &crate::storage::dump::BatchInfo, bytes: Option<&[u8]>| {
            assert!(info.is_valid);
            sources.push(info.source);
            found.push(Bytes::copy_from_slice(bytes.expect("small enough")));
            std::ops::ControlFlow::Continue(())
        };
        dir.batches(*tp, &wanted, &mut take).expect("read");
        assert!(found == *written, "{tp}: all batches in order");
    }
    for source in [BatchSource::Segment, BatchSource::Journal, BatchSource::LargeLane] {
        assert!(sources.contains(&source), "{source:?}");
    }
    dir.journal(0, true, &mut |item| {
        if let JournalItem::Entry(_, entry) = item {
            entries.push(entry.kind);
        }
    });
    assert!(entries.contains(&"append") && entries.contains(&"segment extent"), "{entries:?}");
    let after: Vec<_> = left.files().iter().map(|path| fs::read(path).expect("read")).collect();
    assert!(before == after, "not a byte was changed");
}

#[test]
fn the_offsets_that_were_asked_for_are_shown_and_no_others() {
    let left = left_by_a_kill();
    let dir = left.open();
    for (first, end) in [(0, 1), (7, 8), (10, 40), (60, 1000), (500, 600)] {
        let mut shown = Vec::new();
        let wanted = Wanted { offsets: first..end, content_bytes_max: 0 };
        let mut take = |info: &crate::storage::dump::BatchInfo, bytes: Option<&[u8]>| {
            assert!(bytes.is_none());
            shown.push((info.header.base_offset().0, info.header.last_offset().0));
            std::ops::ControlFlow::Continue(())
        };
        dir.batches(tp(1, 0), &wanted, &mut take).expect("read");
        let all = (0..24).map(|number| (number * 3, number * 3 + 2));
        let expected: Vec<_> = all.filter(|(a, b)| *a < end && *b >= first).collect();
        assert_eq!(shown, expected, "{first}..{end}");
    }
}

#[test]
fn every_flipped_bit_in_covered_bytes_is_found_and_judged_as_recovery_judges_it() {
    let left = left_by_a_kill();
    let mut random = Random::new(11);
    let mut refused = 0;
    for path in left.files() {
        let bytes = fs::read(&path).expect("read");
        let dir = left.open();
        let counted = |tp: &TopicPartition| {
            let log = dir.log(*tp)?;
            let own = log.segments.iter().find(|segment| {
                path == dir.partition_dir(*tp).join(format!("{:020}.log", segment.base_offset))
            });
            own.map(|segment| segment.file_bytes)
        };
        let counted = left.logs.iter().find_map(|(tp, _)| counted(tp)).unwrap_or(0);
        let mut ats: Vec<usize> = Vec::new();
        for range in covered(&path, &bytes, counted) {
            // The headers whole, of long ranges a sample.
            let (head, rest) = (range.start..range.end.min(range.start + 80), range.len());
            ats.extend(head.filter(|_| random.chance(if rest > 4096 { 30 } else { 8 })));
            ats.extend((0..3).map(|_| range.start + random.below(rest as u64) as usize));
        }
        for (number, at) in ats.iter().enumerate() {
            let mut bad = bytes.clone();
            bad[*at] ^= 1 << random.below(8);
            fs::write(&path, &bad).expect("write");
            let reports = left.reports();
            let report = of(&reports, &path);
            assert!(report.verdict() > Verdict::Sound, "byte {at} of {}", path.display());
            if number % 40 == 0 && matches!(kind_of(&path), FileKind::Journal) {
                let is_refused = left.is_refused();
                let said = report.verdict() >= Verdict::Unreadable;
                assert_eq!(said, is_refused, "byte {at} of {}: {report:#?}", path.display());
                refused += u64::from(is_refused);
            }
        }
        fs::write(&path, &bytes).expect("write");
    }
    assert!(refused > 0, "some of them were damage");
}

#[test]
fn a_flipped_bit_in_a_batch_of_the_large_lane_is_told_of_the_journal_that_names_it() {
    let left = left_by_a_kill();
    let mut places = Vec::new();
    let dir = left.open();
    dir.journal(0, true, &mut |item| {
        if let JournalItem::Entry(group, entry) = item
            && let EntryPlace::Segment { segment, pos, bytes } = entry.place
            && group.is_replayed
        {
            let folder = dir.partition_dir(entry.topic_partition);
            places.push((folder.join(format!("{:020}.log", segment.0)), pos, bytes));
        }
    });
    assert!(!places.is_empty());
    let journal = left.dir.path().join("journal/0/000.journal");
    let mut random = Random::new(5);
    for (path, pos, len) in places {
        let bytes = fs::read(&path).expect("read");
        for _ in 0..12 {
            let mut bad = bytes.clone();
            bad[(pos + random.below(80 + len)) as usize] ^= 1 << random.below(8);
            fs::write(&path, &bad).expect("write");
            let reports = left.reports();
            let verdict = of(&reports, &journal).verdict();
            assert!(verdict > Verdict::Sound, "{reports:#?}");
            assert_eq!(verdict == Verdict::Damaged, left.is_refused());
        }
        fs::write(&path, &bytes).expect("write");
    }
}

#[test]
fn a_journal_that_is_cut_anywhere_is_torn_or_damaged_as_recovery_says() {
    let left = left_by_a_kill();
    let path = left.dir.path().join("journal/0/000.journal");
    let bytes = fs::read(&path).expect("read");
    let used = covered_of_journal(&bytes).last().expect("groups").end;
    let mut random = Random::new(3);
    let mut said = Vec::new();
    for number in 0..40 {
        // What was lost reads as zeros, or is not there.
        let cut = random.below(used as u64) as usize;
        let mut bad = bytes.clone();
        if number % 2 == 0 {
            bad.truncate(cut)
        } else {
            bad[cut..used].fill(0)
        }
        fs::write(&path, &bad).expect("write");
        let reports = left.reports();
        let verdict = reports.iter().map(FileReport::verdict).max().expect("reports");
        assert_eq!(verdict >= Verdict::Unreadable, left.is_refused(), "cut at {cut}");
        if bad.len() < bytes.len() {
            let findings = &of(&reports, &path).findings;
            let what = format!("the file ends at byte {cut}, but ");
            let told = findings.iter().find(|finding| finding.what.starts_with(&what));
            let told = told.unwrap_or_else(|| panic!("cut at {cut}: {findings:?}"));
            assert_eq!((told.verdict, told.pos), (Verdict::Damaged, Some(cut as u64)));
        }
        said.push(verdict);
    }
    assert!(said.contains(&Verdict::Torn), "{said:?}");
}

#[test]
fn small_files_that_are_cut_at_any_byte_or_missing_are_told_of() {
    let left = left_by_a_kill();
    for path in left.files() {
        let kind = kind_of(&path);
        let mut bytes = fs::read(&path).expect("read");
        if kind == FileKind::Segment {
            // What is reserved behind the blocks is nothing that could be missed.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end.next_multiple_of(4096));
        }
        if kind == FileKind::Journal || bytes.is_empty() {
            continue;
        }
        if kind == FileKind::Segment && left.open().log(tp(1, 0)).is_none() {
            continue;
        }
        let step = if bytes.len() > 4096 { bytes.len() / 37 } else { 1 };
        for cut in (0..bytes.len()).step_by(step) {
            let alone = look_at_bytes(&path, kind, &bytes[..cut]);
            let is_whole = kind == FileKind::Segment && cut < 4096;
            let is_entries = kind == FileKind::Index;
            if !is_whole && !is_entries && kind != FileKind::Segment {
                assert_eq!(alone.verdict(), Verdict::Damaged, "{} at {cut}", path.display());
            }
            if cut % (8 * step) == 0 {
                fs::write(&path, &bytes[..cut]).expect("write");
                let worst = left.reports().iter().map(FileReport::verdict).max();
                assert!(worst > Some(Verdict::Sound), "{} at {cut}", path.display());
            }
        }
        fs::remove_file(&path).expect("remove");
        let worst = left.reports().iter().map(FileReport::verdict).max();
        let may_be_missing = kind == FileKind::Checkpoint; // the first checkpoint has no other copy
        assert!(may_be_missing || worst > Some(Verdict::Sound), "{} missing", path.display());
        fs::write(&path, &bytes).expect("write");
    }
}

#[test]
fn files_of_a_later_version_are_told_from_damaged_ones() {
    let mut checkpoint = frame(CHECKPOINT_MAGIC, 1, DIRECTORY_ID, &[1, 2, 3, 4]);
    checkpoint[4] = 9;
    let crc = crc32c(&[&checkpoint[..44], &checkpoint[48..]].concat());
    checkpoint[44..48].copy_from_slice(&crc.to_le_bytes());
    let mut block = vec![0; 4096];
    block[..4].copy_from_slice(b"TWSB");
    block[4] = 9;
    let crc = crc32c(&block[..76]);
    block[76..80].copy_from_slice(&crc.to_le_bytes());
    let mut journal = vec![0; 8192];
    journal[..4].copy_from_slice(b"TWJF");
    journal[4] = 9;
    let crc = crc32c(&journal[..48]);
    journal[48..52].copy_from_slice(&crc.to_le_bytes());
    let files = [
        (FileKind::Checkpoint, checkpoint),
        (FileKind::Segment, block),
        (FileKind::Journal, journal),
    ];
    for (kind, bytes) in files {
        let report = look_at_bytes(Path::new("x"), kind, &bytes);
        assert_eq!(report.verdict(), Verdict::Unreadable, "{report:#?}");
        let what = &report.findings[0].what;
        assert!(what.contains("format version 9"), "{what}");
    }
}

#[test]
fn the_name_of_a_damaged_place_says_which_offsets_are_lost() {
    let left = left_by_a_kill();
    let dir = left.open();
    let first = dir.log(tp(2, 3)).expect("known").segments[0].base_offset;
    let path = dir.partition_dir(tp(2, 3)).join(format!("{first:020}.log"));
    let mut bytes = fs::read(&path).expect("read");
    bytes[100] ^= 1;
    fs::write(&path, &bytes).expect("write");
    let reports = left.open().partition(tp(2, 3), true);
    let finding = &of(&reports, &path).findings[0];
    assert_eq!(finding.verdict, Verdict::Damaged);
    assert!(finding.means.starts_with("offsets 0 to "), "{finding:?}");
    bytes[100] ^= 1;
    bytes[40] ^= 1;
    fs::write(&path, &bytes).expect("write");
    let reports = left.open().partition(tp(2, 3), false);
    let finding = &of(&reports, &path).findings[0];
    assert_eq!((finding.verdict, finding.pos), (Verdict::Damaged, Some(0)));
    assert!(finding.means.starts_with("offsets 0 to "), "{finding:?}");
}

#[test]
fn after_any_life_that_ends_with_a_kill_nothing_is_damaged_and_the_batches_are_the_logs() {
    for seed in 0..25 {
        let mut random = Random::new(seed);
        let dir = tempfile::tempdir().expect("temporary directory");
        let home = Home::new(Disk::Blocking, dir.path(), config());
        let log_config = LogConfig { segment_bytes: 160 << 10, ..LogConfig::default() };
        home.live(tp(1, 0), log_config.clone());
        home.live(tp(2, 3), log_config);
        let mut left = Left { dir, home, logs: Vec::new() };
        for life in 0..4 {
            left.logs = live_once(&left.home, &mut random, life);
            for report in left.reports() {
                let is_fine = report.verdict() <= Verdict::Torn;
                assert!(is_fine, "seed {seed} life {life}: {report:#?}");
            }
            let opened = left.open();
            for (tp, written) in &left.logs {
                let mut found = Vec::new();
                let wanted = Wanted { offsets: 0..i64::MAX, content_bytes_max: 1 << 20 };
                let mut take = |_: &crate::storage::dump::BatchInfo, bytes: Option<&[u8]>| {
                    found.push(Bytes::copy_from_slice(bytes.expect("small enough")));
                    std::ops::ControlFlow::Continue(())
                };
                opened.batches(*tp, &wanted, &mut take).expect("read");
                let what = (found.len(), written.len());
                assert!(found == *written, "seed {seed} life {life} {tp}: {what:?}");
            }
        }
    }
}

/// A life of appends, cuts at both ends, and background work, ended by a kill or in order. What
/// the logs held at its end.
fn live_once(home: &Home, random: &mut Random, life: i32) -> Vec<(TopicPartition, Vec<Bytes>)> {
    let store = home.open();
    let logs = [tp(1, 0), tp(2, 3)].map(|tp| (tp, home.log(&store, tp)));
    for step in 0..30 {
        let (_, log) = &logs[random.below(2) as usize];
        let end = log.borrow().log_end();
        match random.below(20) {
            0 => drop(log.borrow_mut().truncate_to(store.journal(), Offset(end.0 * 2 / 3))),
            1 => log.borrow_mut().advance_log_start(store.journal(), Offset(end.0 / 3)),
            2 => background(&store).expect("background"),
            3 => block_on(store.checkpoint()).expect("checkpoint"),
            kind => {
                let bytes = if kind < 7 { 70 << 10 } else { 2500 };
                let batch = received(&batch(step, 1, bytes, 1000));
                log.borrow_mut().append(store.journal(), &batch, leader(life));
            }
        }
        commit_all(&store);
    }
    let held = logs.iter().map(|(tp, log)| {
        let start = log.borrow().log_start();
        (*tp, read_all(log, start, 1 << 20))
    });
    let held = held.collect();
    if random.chance(30) {
        drop(logs);
        block_on(store.close()).expect("close");
    }
    held
}

#[test]
fn what_is_left_of_a_deleted_partition_is_no_damage() {
    let left = left_by_a_kill();
    let gone = left.open().partition_dir(tp(1, 0));
    fs::remove_dir_all(&gone).expect("remove");
    let worst = |left: &Left| left.reports().iter().map(FileReport::verdict).max();
    assert_eq!(worst(&left), Some(Verdict::Damaged), "it is missed while it exists");
    left.home.live.borrow_mut().remove(&tp(1, 0));
    assert_eq!(worst(&left), Some(Verdict::Stale));
    assert!(!left.is_refused());
}

#[test]
fn what_cannot_be_listed_does_not_pass_for_empty() {
    let left = left_by_a_kill();
    let journal = left.dir.path().join("journal");
    fs::remove_dir_all(&journal).expect("remove");
    fs::write(&journal, b"no directory").expect("write");
    let reports = left.reports();
    assert_eq!(of(&reports, &journal).verdict(), Verdict::Unreadable);
}

proptest! {
    #[test]
    fn any_bytes_get_a_verdict(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..20_000),
        magic in 0..5_usize,
        zeros in any::<bool>(),
    ) {
        if zeros {
            bytes.iter_mut().skip(120).for_each(|byte| *byte = 0);
        }
        let magic = [b"TWJF", b"TWCP", b"TWSS", b"TWSB", b"xxxx"][magic];
        if bytes.len() > 4200 {
            bytes[..4].copy_from_slice(magic);
            bytes[4096..4100].copy_from_slice(b"TWJG");
        }
        let kinds = [
            FileKind::Journal, FileKind::Checkpoint, FileKind::Snapshot, FileKind::Segment,
            FileKind::Index,
        ];
        for kind in kinds {
            let report = look_at_bytes(Path::new("x"), kind, &bytes);
            if matches!(kind, FileKind::Checkpoint | FileKind::Snapshot) {
                prop_assert_eq!(report.verdict(), Verdict::Damaged);
            }
        }
    }
}
