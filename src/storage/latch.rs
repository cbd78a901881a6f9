//! The latch that the first failed write or sync closes for good.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::signal::Event;

use super::error::StorageError;
use super::health::DirectoryHealth;

/// After a failed write or sync nobody can say what reached the device, and a second sync may
/// succeed without having written anything (fsyncgate; seen with O_DIRECT on ext4 and XFS). So the
/// first failure is remembered until the process ends and nothing is acknowledged after it.
#[derive(Default)]
pub(super) struct FailureLatch {
    reason: RefCell<Option<Rc<str>>>,
    closing: Cell<bool>,
    /// Told of the failure: the whole directory is offline, on every core.
    health: Arc<DirectoryHealth>,
    /// Notified when either of the two above changes.
    tripped: Event,
}

impl FailureLatch {
    /// The latch of one core's part of a directory.
    pub(super) fn of(health: Arc<DirectoryHealth>) -> FailureLatch {
        FailureLatch { health, ..FailureLatch::default() }
    }

    /// From now on, who has nothing to do ends instead of waiting for work.
    pub(super) fn begin_close(&self) {
        self.closing.set(true);
        self.tripped.notify();
    }

    /// # Errors
    /// `Failed` if the latch is closed, `Closing` after [`FailureLatch::begin_close`].
    pub(super) fn check_open(&self) -> Result<(), StorageError> {
        self.check()?;
        if self.closing.get() { Err(StorageError::Closing) } else { Ok(()) }
    }

    /// Waits until the latch is closed, or the store closes.
    pub(super) async fn until_over(&self) {
        while self.check_open().is_ok() {
            self.tripped.wait().await;
        }
    }

    /// Closes the latch (the first reason stays) and returns the error to give.
    pub(super) fn trip(&self, what: &str, error: &io::Error) -> StorageError {
        let reason = {
            let mut held = self.reason.borrow_mut();
            if held.is_none() {
                tracing::error!(what, %error, "a write or sync failed: the store is failed for good");
            }
            held.get_or_insert_with(|| format!("{what}: {error}").into()).clone()
        };
        self.health.set_offline(&reason);
        self.tripped.notify();
        StorageError::Failed(reason)
    }

    /// Closes the latch because another core's part of the directory has failed.
    pub(super) fn trip_with_directory(&self) {
        let reason = self.health.offline_reason().unwrap_or("another core's part of it failed");
        self.reason.borrow_mut().get_or_insert_with(|| reason.into());
        self.tripped.notify();
    }

    pub(super) fn health(&self) -> &Arc<DirectoryHealth> {
        &self.health
    }

    /// Why the store failed, if it has.
    pub(super) fn reason(&self) -> Option<Rc<str>> {
        self.reason.borrow().clone()
    }

    /// # Errors
    /// `Failed` if the latch is closed.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        self.reason().map_or(Ok(()), |reason| Err(StorageError::Failed(reason)))
    }

    /// Waits for `event` or for the latch to close, whichever comes first.
    pub(super) async fn or_wait(&self, event: &Event) {
        futures_lite::future::or(event.wait(), self.tripped.wait()).await;
    }
}
