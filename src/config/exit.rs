//! How the process ends: what scripts and service managers may rely on.

/// Exit codes of `thalweg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for the broker: stopped cleanly, the next start scans nothing.
    Done = 0,
    /// Something that has no code of its own.
    Other = 1,
    /// The command line or a setting is wrong. Nothing was touched.
    Usage = 2,
    /// This machine lacks something: io_uring, lockable memory, descriptors.
    Preflight = 3,
    /// Another process uses a data directory.
    Locked = 4,
    /// A data directory cannot be used: unwritable, damaged, of a later version, another broker's,
    /// or missing.
    Directory = 5,
    /// The listener's address cannot be bound.
    Bind = 6,
    /// A write or sync failed while running. Acknowledged records are safe; nothing was
    /// acknowledged after the failure.
    Storage = 7,
    /// The stop took longer than `shutdown.timeout.ms`; the next start recovers.
    StopTimeout = 8,
}

impl Exit {
    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        std::process::ExitCode::from(exit.code())
    }
}
