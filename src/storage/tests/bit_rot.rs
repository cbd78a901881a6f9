//! One flipped bit, anywhere in any file: whatever is read is what was written, or an error. And
//! files that are no files of ours: cut short, of random bytes, of a later version.

use std::collections::BTreeMap;

use super::damage::{bytes_of, overwrite};
use super::world::Random;
use super::*;
use crate::base::crc::crc32c;
use crate::io::disk::OpenOptions;
use crate::io::sim_disk::SimDisk;

/// A directory as a kill left it: closed and open segments, both copies of both checkpoints, groups
/// to replay. Everything is durable, so that a copy of the disk is the disk.
struct Left {
    home: Home,
    disk: Rc<SimDisk>,
    /// What each log held.
    logs: BTreeMap<TopicPartition, Vec<Bytes>>,
    /// All files with their contents.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Left {
    fn new() -> Left {
        let config = StoreConfig { read_cache_bytes: 0, ..small_config() };
        let (home, disk) = Home::simulated(config);
        let mut logs = BTreeMap::new();
        for partition in 0..2 {
            let tp = tp(1, partition);
            home.live(tp, LogConfig { segment_bytes: 40 << 10, ..LogConfig::default() });
            logs.insert(tp, Vec::new());
        }
        let store = home.open();
        for tag in 0..110 {
            for tp in logs.keys() {
                let log = home.log(&store, *tp);
                let built = batch(tag, 2, 400 + (tag as usize % 5) * 300, tag as i64);
                log.borrow_mut().append(store.journal(), &built, leader(1));
            }
            commit(&store);
            if tag < 100 {
                background(&store).expect("background");
            }
        }
        for (tp, held) in &mut logs {
            *held = read_all(&home.log(&store, *tp), Offset(0), 1 << 20);
            assert_eq!(held.len(), 110);
        }
        drop(store);
        let mut files = BTreeMap::new();
        collect(&home, Path::new("/data"), &mut files);
        for path in files.keys() {
            let options = OpenOptions { write: true, ..OpenOptions::default() };
            let file = block_on(home.disk.open(path, options)).expect("open");
            block_on(file.datasync()).expect("synced");
            for dir in path.ancestors().skip(1) {
                block_on(home.disk.sync_dir(dir)).expect("synced");
            }
        }
        Left { home, disk, logs, files }
    }

    /// The same directory on a disk of its own.
    fn copy(&self) -> (Home, Rc<SimDisk>) {
        let disk = self.disk.crash(0);
        (self.home.on(disk.clone()), disk)
    }

    fn of_kind(&self, kind: Kind) -> Vec<&PathBuf> {
        self.files.keys().filter(|path| Kind::of(path) == kind).collect()
    }

    /// A start with what `home` holds now. A refusal changes nothing; else whatever is read is what
    /// was written. Says what was noticed.
    fn start(&self, home: &Home) -> Noticed {
        let mut before = BTreeMap::new();
        collect(home, Path::new("/data"), &mut before);
        let store = match home.recover_and_open() {
            Ok((store, _)) => store,
            Err(problem) => {
                let mut after = BTreeMap::new();
                collect(home, Path::new("/data"), &mut after);
                assert!(before == after, "a refusal changes nothing: {problem}");
                return Noticed::Refused(problem);
            }
        };
        let mut missing = 0;
        for (tp, held) in &self.logs {
            let log = home.log(&store, *tp);
            let mut next = log.borrow().log_start();
            let mut number = 0;
            while next < log.borrow().log_end() {
                let plan = { log.borrow().plan_read(next, Offset(i64::MAX), 3000) };
                match block_on(plan.read()) {
                    Ok(slices) => {
                        let bytes = slices.concat();
                        assert!(!bytes.is_empty(), "{tp}: nothing at {next}");
                        for stored in stored_batches(&bytes) {
                            let stored = stored.expect("whole");
                            assert_eq!(stored.bytes(), held[number], "{tp}: {next}");
                            next = stored.last_offset().plus(1);
                            number += 1;
                        }
                    }
                    Err(StorageError::Corrupt { .. }) => {
                        missing += 1;
                        next = next.plus(2);
                        number += 1;
                    }
                    Err(problem) => panic!("{tp}: {problem}"),
                }
            }
            missing += held.len() - number;
        }
        if missing > 0 { Noticed::Missing(missing) } else { Noticed::Whole }
    }
}

/// What a start and reading everything showed.
#[derive(Debug)]
enum Noticed {
    Whole,
    Missing(usize),
    Refused(RecoveryError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Journal,
    Base,
    Checkpoint,
    Segment,
    Index,
    Snapshot,
}

impl Kind {
    fn of(path: &Path) -> Kind {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        match path.extension().and_then(|it| it.to_str()) {
            Some("journal") => Kind::Journal,
            Some("log") => Kind::Segment,
            Some("index") => Kind::Index,
            Some("snapshot") => Kind::Snapshot,
            _ if name.starts_with("base") => Kind::Base,
            _ => Kind::Checkpoint,
        }
    }
}

const KINDS: [Kind; 6] =
    [Kind::Journal, Kind::Base, Kind::Checkpoint, Kind::Segment, Kind::Index, Kind::Snapshot];

fn collect(home: &Home, dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in block_on(home.disk.list(dir)).expect("listed") {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            collect(home, &path, into);
        } else {
            into.insert(path.clone(), bytes_of(home, &path));
        }
    }
}

pub(super) fn resize(home: &Home, path: &Path, len: u64) {
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let file = block_on(home.disk.open(path, options)).expect("open");
    block_on(file.truncate(len)).expect("cut");
    block_on(file.datasync()).expect("synced");
}

#[test]
fn one_flipped_bit_in_any_file_is_never_read_as_something_else() {
    let left = Left::new();
    let mut random = Random::new(11);
    let mut seen: BTreeMap<Kind, [usize; 3]> = BTreeMap::new();
    for (path, content) in &left.files {
        let kind = Kind::of(path);
        let samples = content.len().min(match kind {
            Kind::Journal | Kind::Base | Kind::Checkpoint => 60,
            Kind::Segment => 12,
            Kind::Index | Kind::Snapshot => 6,
        });
        for _ in 0..samples {
            let (home, disk) = left.copy();
            let pos = random.below(content.len() as u64);
            disk.flip_bit(path, pos, random.below(8) as u8).expect("flipped");
            let counts = seen.entry(kind).or_default();
            match left.start(&home) {
                Noticed::Whole => counts[0] += 1,
                Noticed::Missing(batches) => {
                    // One block of a segment, or the last group of the journal.
                    assert!(batches <= 12, "{} byte {pos}: {batches}", path.display());
                    assert!(matches!(kind, Kind::Segment | Kind::Journal), "{}", path.display());
                    counts[1] += 1;
                }
                Noticed::Refused(problem) => {
                    let is_said = matches!(problem, RecoveryError::Corrupt { .. });
                    assert!(is_said && kind == Kind::Journal, "{} {problem}", path.display());
                    counts[2] += 1;
                }
            }
        }
    }
    println!("as written, partly damaged, refused: {seen:?}");
    assert_eq!(seen.len(), KINDS.len(), "{seen:?}");
    assert!(seen[&Kind::Segment][1] > 20 && seen[&Kind::Journal][2] > 3, "{seen:?}");
    for derived in [Kind::Base, Kind::Checkpoint, Kind::Index, Kind::Snapshot] {
        assert_eq!(seen[&derived][1..], [0, 0], "{derived:?} is there twice, or made anew");
    }
}

#[test]
fn a_flipped_bit_of_a_checkpoint_is_found_at_every_byte() {
    let left = Left::new();
    for name in ["base", "0"] {
        let copies =
            ["a", "b"].map(|copy| PathBuf::from(format!("/data/checkpoint/{name}.{copy}")));
        let len = copies.iter().map(|path| left.files[path].len()).max().expect("two") as u64;
        let stride = if len > 600 { 7 } else { 1 };
        for pos in (0..len).step_by(stride) {
            let (home, disk) = left.copy();
            for path in &copies {
                let inside = pos.min(left.files[path].len() as u64 - 1);
                disk.flip_bit(path, inside, (pos % 8) as u8).expect("flipped");
            }
            // Were one of them believed, there would be no reason to refuse.
            match left.start(&home) {
                Noticed::Refused(_) => {}
                other => panic!("{name} byte {pos}: {other:?}"),
            }
        }
    }
}

#[test]
fn files_cut_at_any_length_are_refused_or_leave_what_is_read_right() {
    let left = Left::new();
    for kind in KINDS {
        let path = left.of_kind(kind)[0].clone();
        let len = left.files[&path].len();
        let stride = if len > 2000 { len / 60 + 1 } else { 1 };
        for cut in (0..len).step_by(stride) {
            let (home, _) = left.copy();
            resize(&home, &path, cut as u64);
            let noticed = left.start(&home);
            match (kind, &noticed) {
                // The other copy, or what it is made from, is there.
                (Kind::Base | Kind::Checkpoint | Kind::Index | Kind::Snapshot, Noticed::Whole) => {}
                (Kind::Segment, Noticed::Whole | Noticed::Missing(_) | Noticed::Refused(_)) => {}
                (Kind::Journal, Noticed::Whole | Noticed::Refused(_)) => {}
                other => panic!("{} cut at {cut}: {other:?}", path.display()),
            }
        }
    }
}

#[test]
fn files_of_random_bytes_are_refused_or_leave_what_is_read_right() {
    let left = Left::new();
    let mut random = Random::new(3);
    for (path, content) in &left.files {
        for _ in 0..3 {
            let (home, _) = left.copy();
            let bytes: Vec<u8> = (0..content.len()).map(|_| random.next() as u8).collect();
            overwrite(&home, path, 0, &bytes);
            let noticed = left.start(&home);
            match (Kind::of(path), &noticed) {
                (Kind::Journal | Kind::Segment, Noticed::Refused(_) | Noticed::Missing(_)) => {}
                (_, Noticed::Whole) => {}
                other => panic!("{}: {other:?}", path.display()),
            }
        }
    }
}

/// Sets the version of a file's first structure, and the CRC that covers it.
fn of_version(kind: Kind, content: &mut [u8], version: u16) {
    let crc_of = |content: &[u8], range: std::ops::Range<usize>| crc32c(&content[range]);
    content[4..6].copy_from_slice(&version.to_le_bytes());
    match kind {
        Kind::Journal => {
            let crc = crc_of(content, 0..48);
            content[48..52].copy_from_slice(&crc.to_le_bytes());
        }
        Kind::Base | Kind::Checkpoint | Kind::Snapshot => {
            let crc = crate::base::crc::crc32c_append(crc_of(content, 0..44), &content[48..]);
            content[44..48].copy_from_slice(&crc.to_le_bytes());
        }
        Kind::Segment => {
            let crc = crc_of(content, 0..76);
            content[76..80].copy_from_slice(&crc.to_le_bytes());
        }
        Kind::Index => unreachable!("an index has no version"),
    }
}

#[test]
fn files_of_a_later_version_are_refused_or_left_alone_and_nothing_is_changed() {
    let left = Left::new();
    for kind in [Kind::Journal, Kind::Base, Kind::Checkpoint, Kind::Segment, Kind::Snapshot] {
        let (home, _) = left.copy();
        for path in left.of_kind(kind) {
            let mut content = left.files[path].clone();
            of_version(kind, &mut content, 77);
            overwrite(&home, path, 0, &content);
        }
        let noticed = left.start(&home);
        match (kind, &noticed) {
            (
                Kind::Journal | Kind::Base | Kind::Checkpoint,
                Noticed::Refused(RecoveryError::UnknownVersion { version: 77, path }),
            ) => assert_eq!(Kind::of(path), kind),
            // Found when it is read, as damage.
            (Kind::Segment, Noticed::Missing(_)) => {}
            (Kind::Snapshot, Noticed::Whole) => {}
            other => panic!("{other:?}"),
        }
    }
}
