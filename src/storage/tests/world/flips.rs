//! Starts on a disk with one flipped bit: it is found, or it does not matter.

use super::*;
use crate::io::disk::OpenOptions;

impl World {
    /// Notes what is durable and said to be so by a group on the disk: damage there must be found.
    /// Of a journal's very last durable group nobody speaks (docs/FORMAT.md).
    pub(super) fn note_attested(&mut self, stores: &Stores, group: &CommittedGroup) {
        // A sync alone writes no group.
        let writes = |member: &&crate::storage::store::CommittedMember| {
            member.written_end > self.models[&member.topic_partition].written
        };
        let Some(member) = group.members.iter().find(writes).filter(|_| group.durable) else {
            return;
        };
        let store = stores.of(member.topic_partition);
        for (tp, model) in &mut self.models {
            if Rc::ptr_eq(store, stores.of(*tp)) {
                model.attested = model.durable;
            }
        }
    }

    /// Flips a bit of some file on a copy of the disk and starts there: a refusal names damage, and
    /// without one nothing is missing that the disk can know of, and nothing is read that was not
    /// sent.
    pub(super) fn try_with_a_flipped_bit(&mut self) {
        let copy = self.disk.copy();
        let Some((path, pos)) = self.pick_byte(&copy) else { return };
        copy.flip_bit(&path, pos, self.random.below(8) as u8).expect("the file is that long");
        let home = Home {
            disk: Disk::Sim(copy),
            dir: self.home.dir.clone(),
            config: self.home.config.clone(),
            clock: self.home.clock.clone(),
            time: self.home.time.clone(),
            live: RefCell::new(self.home.live.borrow().clone()),
        };
        match home.recover_and_open_shards(1) {
            Ok((stores, _)) => self.check_damaged(&home, &Stores::new(stores), &path),
            Err(RecoveryError::Io { path, error }) => panic!("{}: {error}", path.display()),
            Err(error) => {
                let other = path.with_extension(if path.extension().is_some_and(|it| it == "a") {
                    "b"
                } else {
                    "a"
                });
                let spare = path.parent() == Some(&self.home.dir.join("checkpoint"))
                    && block_on(home.disk.exists(&other)).expect("looked up");
                assert!(!spare, "one copy of a checkpoint is enough: {error}");
                self.flips_refused += 1;
            }
        }
    }

    fn check_damaged(&self, home: &Home, stores: &Stores, path: &Path) {
        for (tp, model) in self.models.iter().filter(|(_, model)| !model.unsettled) {
            let log = home.log(stores.of(*tp), *tp);
            let (start, end) = (log.borrow().log_start(), log.borrow().log_end());
            let path = path.display();
            assert!(end >= model.attested, "{tp}: ends at {end}, damage of {path} unseen");
            assert!(start <= model.log_start, "{tp}: begins at {start} by damage of {path}");
            match try_read_all(&log, start, 20_000) {
                Ok(stored) => {
                    let expected = model.batches.iter();
                    let expected = expected.filter(|it| it.last >= start && it.last < end);
                    assert_eq!(stored.len(), expected.clone().count(), "{tp}: damage of {path}");
                    stored.iter().zip(expected).for_each(|(batch, sent)| check_batch(batch, sent));
                }
                Err(StorageError::Corrupt { .. }) => {}
                Err(error) => panic!("{tp}: {error} by damage of {path}"),
            }
        }
    }

    /// A byte of something that was written, mostly in a journal.
    fn pick_byte(&mut self, disk: &Rc<SimDisk>) -> Option<(PathBuf, u64)> {
        let disk = Disk::Sim(disk.clone());
        let root = match self.random.below(10) {
            0..5 => self.home.dir.join("journal"),
            5..7 => self.home.dir.join("checkpoint"),
            _ => self.home.dir.clone(),
        };
        let mut files = Vec::new();
        files_below(&disk, &root, &mut files);
        for _ in 0..20 {
            if files.is_empty() {
                return None;
            }
            let path = files[self.random.below(files.len() as u64) as usize].clone();
            let file = block_on(disk.open(&path, OpenOptions::default())).expect("open");
            let len = file.len().expect("its length");
            if len == 0 {
                continue;
            }
            let pos = self.random.below(len);
            let around = block_on(file.read_at(pos, 64)).expect("read");
            if around.iter().any(|byte| *byte != 0) {
                return Some((path, pos));
            }
        }
        None
    }
}

fn files_below(disk: &Disk, dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in block_on(disk.list(dir)).unwrap_or_default() {
        let path = dir.join(&entry.name);
        if entry.is_dir { files_below(disk, &path, into) } else { into.push(path) }
    }
}
