//! The journal's files: one written, spares written before they are needed, old ones used again.
//!
//! Invariant: a file's length is durable before its header says it, and a new file has its name only
//! when it has its header. While it may hold groups that are needed it is never shortened, and a spare
//! never below its header block: so a file that is shorter was cut by somebody else.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use zerocopy::IntoBytes;

use crate::base::limits::BLOCK_ALIGN;
#[cfg(feature = "planted-bugs")]
use crate::base::planted::{Bug, is_planted};
use crate::base::signal::Event;
use crate::io::buf::IoBuf;
use crate::io::disk::{Disk, OpenOptions, is_out_of_room};
use crate::io::file::File;

use super::super::room::Room;
use super::format::{FILE_PREWRITTEN, FIRST_GROUP_POS, FileHeader};

/// Spares are written in pieces of this size: large enough for the device, small enough not to
/// stand long before a commit.
const PREWRITE_BYTES: usize = 1 << 20;

const NEW_SUFFIX: &str = ".new";

/// A journal file that recovery found and drained: free to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct SpareFile {
    pub(in crate::storage) number: u32,
    pub(in crate::storage) len: u64,
    pub(in crate::storage) prewritten: bool,
}

/// Name of the file with this number.
pub(in crate::storage) fn file_name(number: u32) -> String {
    format!("{number:03}.journal")
}

/// Number of a file of this name, if it is a journal file.
pub(in crate::storage) fn file_number(name: &str) -> Option<u32> {
    name.strip_suffix(".journal")?.parse().ok()
}

/// Name of a file that is being made.
fn new_file_name(number: u32) -> String {
    format!("{}{NEW_SUFFIX}", file_name(number))
}

/// What the files are and where they lie.
#[derive(Clone)]
pub(in crate::storage) struct FileSetConfig {
    pub(in crate::storage) disk: Disk,
    pub(in crate::storage) dir: PathBuf,
    pub(in crate::storage) directory_id: [u8; 16],
    pub(in crate::storage) file_bytes: u64,
    pub(in crate::storage) files_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    /// Being prepared by some step.
    Busy,
    /// Holds groups that recovery may need.
    Live {
        file_seq: u64,
    },
}

struct Slot {
    number: u32,
    /// 0: there is no such file, or it is made anew.
    len: u64,
    prewritten: bool,
    used: Use,
}

struct Active {
    slot: usize,
    file: File,
    file_seq: u64,
    pos: u64,
    len: u64,
}

struct Files {
    slots: Vec<Slot>,
    active: Option<Active>,
    next_file_seq: u64,
    starved: bool,
}

/// A place for a group.
pub(in crate::storage) struct Placed {
    pub(in crate::storage) file: File,
    pub(in crate::storage) file_seq: u64,
    pub(in crate::storage) pos: u64,
}

/// The files of one journal.
pub(in crate::storage) struct FileSet {
    config: FileSetConfig,
    room: Rc<Room>,
    files: RefCell<Files>,
    changed: Event,
}

impl FileSet {
    pub(in crate::storage) fn new(
        config: FileSetConfig,
        room: Rc<Room>,
        spares: &[SpareFile],
        next_file_seq: u64,
    ) -> FileSet {
        let slots = spares
            .iter()
            .map(|spare| Slot {
                number: spare.number,
                len: spare.len,
                prewritten: spare.prewritten,
                used: Use::Free,
            })
            .collect();
        let files = Files { slots, active: None, next_file_seq, starved: false };
        FileSet { config, room, files: RefCell::new(files), changed: Event::new() }
    }

    /// A place for `len` bytes, in the active file or, when they do not fit, in the next one, which
    /// then begins with `group`. Waits for a free file if all are live.
    pub(in crate::storage) async fn place(&self, len: u64, group: u64) -> io::Result<Placed> {
        if let Some(placed) = self.place_in_active(len) {
            return Ok(placed);
        }
        while let Err(error) = self.activate(len, group).await {
            if !is_out_of_room(&error) {
                return Err(error);
            }
            // A file that is freed is as good as room.
            self.files.borrow_mut().starved = true;
            self.changed.notify();
            self.room.until_retry_or(&self.changed).await.map_err(|_| error)?;
        }
        Ok(self.place_in_active(len).expect("a file was made long enough"))
    }

    /// Gives back what a place has beyond its first `used` bytes; nothing was placed behind it.
    pub(in crate::storage) fn give_back(&self, placed: &Placed, used: u64) {
        let mut files = self.files.borrow_mut();
        let active = files.active.as_mut().filter(|active| active.file_seq == placed.file_seq);
        active.expect("groups are placed one at a time").pos = placed.pos + used;
    }

    /// The file system's room.
    pub(in crate::storage) fn room(&self) -> &Room {
        &self.room
    }

    /// Makes sure that a file is active, and removes what a crash left of files that were being made.
    pub(in crate::storage) async fn start(&self, next_group: u64) -> io::Result<()> {
        for entry in self.config.disk.list(&self.config.dir).await? {
            let made = entry.name.strip_suffix(NEW_SUFFIX).and_then(file_number);
            if made.is_some() && !entry.is_dir {
                self.config.disk.remove_file(&self.config.dir.join(&entry.name)).await?;
            }
        }
        self.activate(0, next_group).await
    }

    /// The active file's sequence and the next free position in it.
    pub(in crate::storage) fn head(&self) -> (u64, u64) {
        let files = self.files.borrow();
        let active = files.active.as_ref().expect("a store that is open has an active file");
        (active.file_seq, active.pos)
    }

    /// Whether a commit waits for a free file.
    pub(in crate::storage) fn is_starved(&self) -> bool {
        self.files.borrow().starved
    }

    /// Frees the files before `file_seq`: nobody will replay them.
    pub(in crate::storage) fn release_before(&self, file_seq: u64) {
        let mut files = self.files.borrow_mut();
        let active = files.active.as_ref().map(|active| active.slot);
        let mut freed = false;
        for (index, slot) in files.slots.iter_mut().enumerate() {
            let old = matches!(slot.used, Use::Live { file_seq: seq } if seq < file_seq);
            if old && Some(index) != active {
                slot.used = Use::Free;
                freed = true;
            }
        }
        drop(files);
        if freed {
            self.changed.notify();
        }
    }

    /// Whether a spare is missing and may be made.
    pub(in crate::storage) fn wants_spare(&self) -> bool {
        self.pick_to_prewrite().is_some()
    }

    /// Writes one spare, if one is missing: every block once, so that later overwrites need no
    /// allocation and no commit of the file system (6-8 thousand durable writes a second against
    /// 1.3-4 into merely reserved blocks).
    pub(in crate::storage) async fn prewrite(&self) -> io::Result<()> {
        let Some((index, number, len)) = self.pick_to_prewrite() else { return Ok(()) };
        let (index, known_len) = self.claim(index, number);
        let result = self.prewrite_file(number, known_len == 0, len).await;
        let len = match &result {
            Ok(()) => len,
            Err(_) => self.shorten(number, known_len).await,
        };
        let mut files = self.files.borrow_mut();
        let slot = &mut files.slots[index];
        (slot.used, slot.len, slot.prewritten) = (Use::Free, len, result.is_ok());
        drop(files);
        self.changed.notify();
        result
    }

    /// Gives the space of one spare back to the file system, which has no room: a checkpoint that
    /// can be written frees more. Says whether there was one.
    pub(in crate::storage) async fn give_back_spare(&self) -> bool {
        let claimed = {
            let mut files = self.files.borrow_mut();
            let mut spares = files.slots.iter_mut().enumerate();
            let spare = spares.find(|(_, slot)| slot.used == Use::Free && slot.has_space());
            spare.map(|(index, slot)| {
                slot.used = Use::Busy;
                (index, slot.number, slot.len)
            })
        };
        let Some((index, number, known_len)) = claimed else { return false };
        let len = self.shorten(number, known_len).await;
        let mut files = self.files.borrow_mut();
        (files.slots[index].len, files.slots[index].prewritten) = (len, false);
        files.slots[index].used = Use::Free;
        len > 0
    }

    /// Gives back what a file that holds nothing takes. Returns the length to go on with: 0, and the
    /// file is made anew, if it is not known.
    async fn shorten(&self, number: u32, known_len: u64) -> u64 {
        if known_len == 0 {
            // What cannot be removed goes at the next start, or is used for the next attempt.
            let path = self.config.dir.join(new_file_name(number));
            let _ = self.config.disk.remove_file(&path).await;
            return 0;
        }
        let shortened = async {
            let file = self.open(number, false).await?;
            // An attempt to begin it may have left a header that says more, as one in use.
            file.write_at(self.header_block((0, 0), FIRST_GROUP_POS, 0), 0, true).await?;
            file.truncate(FIRST_GROUP_POS).await
        };
        if shortened.await.is_ok() { FIRST_GROUP_POS } else { 0 }
    }

    fn place_in_active(&self, len: u64) -> Option<Placed> {
        let mut files = self.files.borrow_mut();
        let active = files.active.as_mut()?;
        if active.pos + len > active.len {
            return None;
        }
        let pos = active.pos;
        active.pos += len;
        Some(Placed { file: active.file.clone(), file_seq: active.file_seq, pos })
    }

    async fn activate(&self, len: u64, group: u64) -> io::Result<()> {
        let (index, number, known_len, prewritten) = self.claim_free().await;
        let activated = self.activate_slot(index, (number, known_len, prewritten), len, group);
        let result = activated.await;
        if result.as_ref().is_err_and(is_out_of_room) {
            if known_len == 0 {
                self.shorten(number, 0).await;
            }
            self.files.borrow_mut().slots[index].used = Use::Free;
        }
        result
    }

    async fn activate_slot(
        &self,
        index: usize,
        (number, known_len, prewritten): (u32, u64, bool),
        len: u64,
        group: u64,
    ) -> io::Result<()> {
        let want = (FIRST_GROUP_POS + len).next_multiple_of(BLOCK_ALIGN as u64);
        let file_len = known_len.max(self.config.file_bytes).max(want);
        let is_new = known_len == 0;
        let file = self.open(number, is_new).await?;
        if file_len != known_len
            && let Err(error) = file.allocate(file_len).await
        {
            // No header says more than that; it may be longer if this fails, too.
            let _ = file.truncate(known_len).await;
            return Err(error);
        }
        let prewritten = prewritten && file_len == known_len;
        if !prewritten {
            file.datasync().await?; // its length
        }
        let file_seq = {
            let mut files = self.files.borrow_mut();
            files.next_file_seq += 1;
            files.next_file_seq - 1
        };
        let flags = if prewritten { FILE_PREWRITTEN } else { 0 };
        // Durable before any group: an unreadable header then means that the file holds nothing.
        let header = self.header_block((file_seq, group), file_len, flags);
        file.write_at(header, 0, true).await?;
        if is_new {
            self.name_new(number).await?;
        }
        let mut files = self.files.borrow_mut();
        if let Some(old) = files.active.take() {
            // It was written to its end, whatever it was before.
            files.slots[old.slot].prewritten = true;
        }
        let slot = &mut files.slots[index];
        slot.len = file_len;
        slot.used = Use::Live { file_seq };
        files.active =
            Some(Active { slot: index, file, file_seq, pos: FIRST_GROUP_POS, len: file_len });
        drop(files);
        self.changed.notify();
        Ok(())
    }

    /// Takes the best free slot, or makes one, or waits.
    async fn claim_free(&self) -> (usize, u32, u64, bool) {
        loop {
            {
                let mut files = self.files.borrow_mut();
                let free = |slot: &Slot| slot.used == Use::Free;
                let pick = files
                    .slots
                    .iter()
                    .position(|slot| free(slot) && slot.prewritten)
                    .or_else(|| files.slots.iter().position(|slot| free(slot) && slot.has_space()))
                    .or_else(|| files.slots.iter().position(free));
                let index = match pick {
                    Some(index) => Some(index),
                    None if files.slots.len() < self.config.files_max => Some(files.add_slot()),
                    None => None,
                };
                if let Some(index) = index {
                    files.starved = false;
                    let slot = &mut files.slots[index];
                    slot.used = Use::Busy;
                    return (index, slot.number, slot.len, slot.prewritten);
                }
                files.starved = true;
            }
            self.changed.notify();
            self.changed.wait().await;
        }
    }

    /// Waits until something about the files changes (a file was freed, or is missed).
    pub(in crate::storage) fn changed(&self) -> &Event {
        &self.changed
    }

    /// Slot, number and length of a file to write before it is needed.
    fn pick_to_prewrite(&self) -> Option<(Option<usize>, u32, u64)> {
        let files = self.files.borrow();
        // Whoever waits for a file gets a free one as it is.
        let ready = |slot: &Slot| slot.prewritten && slot.used == Use::Free;
        if files.starved || files.slots.iter().any(ready) {
            return None;
        }
        let raw = files.slots.iter().position(|slot| slot.used == Use::Free);
        if let Some(index) = raw {
            let slot = &files.slots[index];
            return Some((Some(index), slot.number, slot.len.max(self.config.file_bytes)));
        }
        (files.slots.len() < self.config.files_max)
            .then(|| (None, files.next_number(), self.config.file_bytes))
    }

    /// The slot to prewrite, now taken, and its length before.
    fn claim(&self, index: Option<usize>, number: u32) -> (usize, u64) {
        let mut files = self.files.borrow_mut();
        let index = index.unwrap_or_else(|| files.add_slot());
        let slot = &mut files.slots[index];
        debug_assert_eq!(slot.number, number);
        slot.used = Use::Busy;
        (index, slot.len)
    }

    async fn prewrite_file(&self, number: u32, is_new: bool, len: u64) -> io::Result<()> {
        let file = self.open(number, is_new).await?;
        file.allocate(len).await?;
        let mut zeros = IoBuf::alloc(PREWRITE_BYTES);
        zeros.fill(0);
        let zeros: Bytes = zeros.freeze(PREWRITE_BYTES);
        let mut pos = 0;
        // The old header goes first: a file that was half overwritten must not look whole.
        while pos < len {
            let piece = (len - pos).min(PREWRITE_BYTES as u64) as usize;
            file.write_at(zeros.slice(..piece), pos, false).await?;
            pos += piece as u64;
            futures_lite::future::yield_now().await;
        }
        file.datasync().await?;
        // Sequence 0 was never used: the header only remembers that the blocks are written.
        file.write_at(self.header_block((0, 0), len, FILE_PREWRITTEN), 0, true).await?;
        if is_new { self.name_new(number).await } else { Ok(()) }
    }

    /// Gives a file that was made its name.
    async fn name_new(&self, number: u32) -> io::Result<()> {
        let [from, to] = [new_file_name(number), file_name(number)];
        let dir = &self.config.dir;
        self.config.disk.rename(&dir.join(from), &dir.join(to)).await?;
        self.sync_names().await
    }

    async fn sync_names(&self) -> io::Result<()> {
        #[cfg(feature = "planted-bugs")]
        if is_planted(Bug::MissingJournalDirectorySync) {
            return Ok(());
        }
        self.config.disk.sync_dir(&self.config.dir).await
    }

    fn header_block(&self, numbers: (u64, u64), file_bytes: u64, flags: u16) -> Bytes {
        let header = FileHeader::new(self.config.directory_id, numbers, file_bytes, flags);
        let mut block = IoBuf::alloc(BLOCK_ALIGN);
        block[..FileHeader::BYTES].copy_from_slice(header.as_bytes());
        block[FileHeader::BYTES..].fill(0);
        block.freeze(BLOCK_ALIGN)
    }

    async fn open(&self, number: u32, is_new: bool) -> io::Result<File> {
        let name = if is_new { new_file_name(number) } else { file_name(number) };
        let options = OpenOptions { write: true, create: is_new, direct: true };
        self.config.disk.open(&self.config.dir.join(name), options).await
    }
}

impl Slot {
    /// Whether there is more than the header's block.
    fn has_space(&self) -> bool {
        self.len > FIRST_GROUP_POS
    }
}

impl Files {
    fn next_number(&self) -> u32 {
        self.slots.iter().map(|slot| slot.number + 1).max().unwrap_or(0)
    }

    fn add_slot(&mut self) -> usize {
        let number = self.next_number();
        self.slots.push(Slot { number, len: 0, prewritten: false, used: Use::Busy });
        self.slots.len() - 1
    }
}
