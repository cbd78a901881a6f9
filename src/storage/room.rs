//! The room that a store's file system has, and what happens while there is too little.
//!
//! While less than the reserve is free, appends are refused before they are staged: what was
//! acknowledged can then still go from the journal into segments, checkpoints can be written and
//! records be deleted. Should a write meet a full file system all the same (somebody else fills it,
//! or a quota ends), the step that met it waits and tries again; nothing is lost by that, because
//! what goes into segments stays in the journal until it is there. A *sync* that fails is never
//! tried again, whatever its reason.
//! Looked at by time and by bytes, never on the data path, which reads one flag.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::signal::Event;
use crate::io::disk::{Disk, DiskRoom, is_out_of_room};

use super::error::{DiskFull, StorageError};
use super::latch::FailureLatch;

/// A reserve that nobody set is at most this part of the file system: a small one must not be
/// refused as a whole.
const RESERVE_PART_MAX: u64 = 20;

/// Appends are taken again when this part of the reserve is free beyond it: no flutter at the edge.
const RETURN_PART: u64 = 16;

/// Bytes between two looks, at least and at most: a quarter of what is free beyond the reserve.
const STEP_BYTES: (u64, u64) = (1 << 20, 256 << 20);

/// Bytes of a file system that must stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// So many, or a twentieth of the file system if that is less.
    AtMost(u64),
    /// Exactly so many; 0: none.
    Exactly(u64),
}

impl Reserve {
    fn bytes_of(self, total_bytes: u64) -> u64 {
        match self {
            Reserve::AtMost(bytes) => bytes.min(total_bytes / RESERVE_PART_MAX),
            Reserve::Exactly(bytes) => bytes,
        }
    }
}

/// One store's view of its file system. Single-threaded.
pub(super) struct Room {
    disk: Disk,
    dir: PathBuf,
    reserve: Reserve,
    latch: Rc<FailureLatch>,
    /// Less than the reserve was free.
    is_low: Cell<bool>,
    /// A write found no room, and no look since then has seen every retry succeed.
    is_stuck: Cell<bool>,
    /// Writes that found no room since the last look.
    misses: Cell<u64>,
    /// Both of the above together: what appends ask.
    refuses: Cell<bool>,
    bytes_at_look: Cell<u64>,
    step_bytes: Cell<u64>,
    retry: Event,
}

impl Room {
    fn new(disk: Disk, dir: PathBuf, reserve: Reserve, latch: Rc<FailureLatch>) -> Room {
        Room {
            disk,
            dir,
            reserve,
            latch,
            is_low: Cell::new(false),
            is_stuck: Cell::new(false),
            misses: Cell::new(0),
            refuses: Cell::new(false),
            bytes_at_look: Cell::new(0),
            step_bytes: Cell::new(STEP_BYTES.0),
            retry: Event::new(),
        }
    }

    /// The room of a store that opens.
    pub(super) fn look_first(
        disk: Disk,
        dir: PathBuf,
        reserve: Reserve,
        latch: Rc<FailureLatch>,
    ) -> Rc<Room> {
        let room = Room::new(disk, dir, reserve, latch);
        room.look();
        Rc::new(room)
    }

    /// # Errors
    /// Appends are refused now.
    pub(super) fn check(&self) -> Result<(), DiskFull> {
        if self.refuses.get() { Err(DiskFull) } else { Ok(()) }
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuses.get()
    }

    /// Whether a write found no room and is not done yet.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.get()
    }

    /// Looks if enough was written since the last look that the reserve may have been reached.
    pub(super) fn look_after(&self, bytes_written: u64) {
        if bytes_written.saturating_sub(self.bytes_at_look.get()) >= self.step_bytes.get() {
            self.bytes_at_look.set(bytes_written);
            self.look();
        }
    }

    /// Asks the file system, and lets who waits try again.
    pub(super) fn look(&self) {
        let room = match self.disk.room(&self.dir) {
            Ok(room) => room,
            // Whatever is wrong: the writes will say it.
            Err(error) => return tracing::debug!(%error, "the room of a data directory is unknown"),
        };
        let reserve = self.reserve.bytes_of(room.total_bytes);
        let needed = if self.is_low.get() { reserve + reserve / RETURN_PART } else { reserve };
        self.is_low.set(room.free_bytes < needed);
        let beyond = room.free_bytes.saturating_sub(reserve);
        self.step_bytes.set((beyond / 4).clamp(STEP_BYTES.0, STEP_BYTES.1));
        self.is_stuck.set(self.misses.replace(0) > 0);
        self.settle(Some(room));
        self.retry.notify();
    }

    /// Notes that a write found no room, and waits until it may be tried again.
    ///
    /// # Errors
    /// `Failed`, or `NoRoom` if the store closes.
    pub(super) async fn until_retry(&self) -> Result<(), StorageError> {
        self.until_retry_or(&Event::new()).await
    }

    /// As [`Room::until_retry`], or until `other` happens.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn until_retry_or(&self, other: &Event) -> Result<(), StorageError> {
        self.misses.set(self.misses.get() + 1);
        self.is_stuck.set(true);
        self.settle(None);
        self.latch.check()?;
        self.latch.check_open().map_err(|_| StorageError::NoRoom)?;
        futures_lite::future::or(self.latch.or_wait(&self.retry), other.wait()).await;
        Ok(())
    }

    /// Does `work`, again and again while it finds no room. For work that may be begun anew.
    ///
    /// # Errors
    /// Any other error of `work`; the store failed or closes.
    pub(super) async fn retried<T>(
        &self,
        mut work: impl AsyncFnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match work().await {
                Err(error) if is_out_of_room(&error) => {
                    self.until_retry().await.map_err(|_| error)?;
                }
                done => return done,
            }
        }
    }

    /// Notified at each look.
    pub(super) fn retry(&self) -> &Event {
        &self.retry
    }

    fn settle(&self, room: Option<DiskRoom>) {
        let refuses = self.is_low.get() || self.is_stuck.get();
        if self.refuses.replace(refuses) == refuses || !self.latch.health().note_full(refuses) {
            return;
        }
        let room = room.map_or_else(|| self.disk.room(&self.dir), Ok);
        let Ok(DiskRoom { total_bytes, free_bytes }) = room else { return };
        let (dir, reserve_bytes) = (self.dir.display(), self.reserve.bytes_of(total_bytes));
        if refuses {
            let cause = if self.is_low.get() { "the reserve is reached" } else { "a write failed" };
            tracing::warn!(
                %dir, free_bytes, reserve_bytes, total_bytes, cause,
                "the disk is full: produce is refused, everything else goes on"
            );
        } else {
            tracing::info!(
                %dir, free_bytes, reserve_bytes, total_bytes,
                "the disk has room again: produce is taken"
            );
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.refuses.get() {
            self.latch.health().note_full(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::sim_disk::SimDisk;
    use crate::storage::DirectoryHealth;

    const MIB: u64 = 1 << 20;

    fn room(disk: &Rc<SimDisk>, reserve: Reserve) -> Room {
        Room::new(Disk::Sim(disk.clone()), "/".into(), reserve, Rc::default())
    }

    #[test]
    fn appends_are_refused_below_the_reserve_and_taken_again_a_little_above_it() {
        let disk = SimDisk::new();
        let room = room(&disk, Reserve::Exactly(16 * MIB));
        let at = |bytes: u64| {
            disk.set_capacity(Some(bytes));
            room.look();
            room.check().is_ok()
        };
        assert!(at(100 * MIB) && at(16 * MIB));
        assert!(!at(16 * MIB - 4096), "below the reserve");
        assert!(room.latch.health().is_full());
        assert!(!at(16 * MIB), "not yet: the edge does not flutter");
        assert!(at(17 * MIB));
        assert!(!room.latch.health().is_full());
    }

    #[test]
    fn a_reserve_that_nobody_set_leaves_a_small_file_system_its_use() {
        assert_eq!(Reserve::AtMost(1 << 30).bytes_of(40 * MIB), 2 * MIB);
        assert_eq!(Reserve::AtMost(1 << 30).bytes_of(1 << 40), 1 << 30);
        assert_eq!(Reserve::Exactly(1 << 30).bytes_of(40 * MIB), 1 << 30);
        let disk = SimDisk::new();
        let none = room(&disk, Reserve::Exactly(0));
        disk.set_capacity(Some(0));
        none.look();
        assert!(none.check().is_ok(), "0 switches the reserve off");
    }

    #[test]
    fn the_nearer_the_reserve_the_more_often_bytes_cause_a_look() {
        let disk = SimDisk::new();
        let room = room(&disk, Reserve::Exactly(16 * MIB));
        disk.set_capacity(Some(1000 * MIB));
        room.look_after(MIB);
        disk.set_capacity(Some(MIB));
        room.look_after(200 * MIB);
        assert!(room.check().is_ok(), "there was room for four times as much");
        room.look_after(300 * MIB);
        assert!(room.check().is_err());
        disk.set_capacity(Some(1000 * MIB));
        room.look_after(300 * MIB);
        assert!(room.check().is_err(), "nothing was written since");
        room.look_after(301 * MIB);
        assert!(room.check().is_ok());
    }

    #[test]
    fn one_store_with_a_full_disk_makes_the_directory_full_until_it_has_room_or_goes() {
        let disk = SimDisk::new();
        let health: Arc<DirectoryHealth> = Arc::default();
        let room = || {
            let reserve = Reserve::Exactly(MIB);
            let latch = Rc::new(FailureLatch::of(health.clone()));
            Room::new(Disk::Sim(disk.clone()), "/".into(), reserve, latch)
        };
        let (first, second) = (room(), room());
        disk.set_capacity(Some(0));
        first.look();
        second.look();
        disk.set_capacity(None);
        first.look();
        assert!(health.is_full(), "the second has not looked");
        drop(second);
        assert!(!health.is_full());
    }
}
