//! Bugs that are planted on purpose, to see that the tests find them: one at a time, chosen by a
//! test for its thread or by `THALWEG_TEST_PLANTED_BUG` for a process.
//!
//! Only in builds with the feature `planted-bugs`: elsewhere neither this file nor any of the
//! places that ask it is compiled. No broker of a build with it may hold anybody's data.

use std::cell::Cell;
use std::sync::OnceLock;

/// Names the bug of a process.
pub const VARIABLE: &str = "THALWEG_TEST_PLANTED_BUG";

/// A bug that a storage engine has had somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A durable group is written without being synced.
    AckBeforeSync,
    /// New segments and partitions: their names are never synced.
    MissingDirectorySync,
    /// New journal files: their names are never synced.
    MissingJournalDirectorySync,
    /// Whatever ends the chain of groups is a torn tail.
    CorruptionAsTornTail,
    /// A group of an earlier use of a journal file goes on where the chain ended.
    StaleBlockAccepted,
    /// A log of which nothing is left begins again where its last segment began.
    OffsetReuse,
    /// An index is believed as it lies, whatever the log says.
    IndexNewerThanLog,
    /// A group is whole if its entries are: what they speak of is not looked at.
    HalfGroupAccepted,
    /// Journal files are used again when one copy of the checkpoint does not need them.
    JournalFreedTooEarly,
    /// Large batches go into a segment whose name may be lost.
    LargeBatchBeforeName,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 10] = [
        Bug::AckBeforeSync,
        Bug::MissingDirectorySync,
        Bug::MissingJournalDirectorySync,
        Bug::CorruptionAsTornTail,
        Bug::StaleBlockAccepted,
        Bug::OffsetReuse,
        Bug::IndexNewerThanLog,
        Bug::HalfGroupAccepted,
        Bug::JournalFreedTooEarly,
        Bug::LargeBatchBeforeName,
    ];

    /// The bug in words of the command line: `ack-before-sync`.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

thread_local! {
    static OF_THREAD: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants the bug in this thread, or none; beats the variable if it is one.
pub fn plant(bug: Option<Bug>) {
    OF_THREAD.set(bug);
}

/// Whether the bug is planted here.
///
/// # Panics
/// The variable names no bug.
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    OF_THREAD.get().or_else(of_process) == Some(bug)
}

fn of_process() -> Option<Bug> {
    static OF_PROCESS: OnceLock<Option<Bug>> = OnceLock::new();
    *OF_PROCESS.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        Some(bug.unwrap_or_else(|| panic!("{VARIABLE}={name}: there is no such bug")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_planted_in_its_thread_only() {
        assert_eq!(Bug::AckBeforeSync.name(), "ack-before-sync");
        plant(Some(Bug::OffsetReuse));
        assert!(is_planted(Bug::OffsetReuse) && !is_planted(Bug::AckBeforeSync));
        let elsewhere = std::thread::spawn(|| is_planted(Bug::OffsetReuse));
        assert!(!elsewhere.join().expect("no panic"));
        plant(None);
        assert!(!is_planted(Bug::OffsetReuse));
    }
}
