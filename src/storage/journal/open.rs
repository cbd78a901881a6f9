//! A journal that begins, and where a replay of it would.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::base::clock::Clock;
use crate::base::limits::BLOCK_ALIGN;
use crate::base::signal::Event;

use super::super::copy_ledger::CopyLedger;
use super::super::latch::FailureLatch;
use super::{Arena, FileSet, Journal, JournalState};

/// Where a replay must begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct ReplayFrom {
    pub(in crate::storage) file_seq: u64,
    pub(in crate::storage) pos: u64,
    pub(in crate::storage) group: u64,
}

/// What [`Journal::new`] needs beside the files.
pub(in crate::storage) struct JournalParts {
    pub(in crate::storage) latch: Rc<FailureLatch>,
    pub(in crate::storage) ledger: Rc<CopyLedger>,
    pub(in crate::storage) clock: Clock,
    pub(in crate::storage) group_bytes_max: usize,
    pub(in crate::storage) staged_bytes_max: usize,
    pub(in crate::storage) next_group: u64,
}

impl Journal {
    pub(in crate::storage) fn new(files: FileSet, parts: JournalParts) -> Journal {
        let state = JournalState {
            sealed: VecDeque::new(),
            filling: None,
            arena: Arena::default(),
            next_group: parts.next_group,
            buffer_bytes: 0,
            staged_bytes: 0,
            durable_through: parts.next_group - 1,
            dirty: Vec::new(),
            dirty_extents: FxHashMap::default(),
            dirty_due_ms: i64::MAX,
            sync_requested: false,
            in_flight: false,
            unplaced: None,
            unsealed: None,
            bytes_written: 0,
        };
        Journal {
            files,
            state: RefCell::new(state),
            staged: Event::new(),
            room: Event::new(),
            latch: parts.latch,
            ledger: parts.ledger,
            clock: parts.clock,
            group_bytes_max: parts.group_bytes_max.next_multiple_of(BLOCK_ALIGN),
            staged_bytes_max: parts.staged_bytes_max,
        }
    }

    pub(in crate::storage) fn files(&self) -> &FileSet {
        &self.files
    }
}
