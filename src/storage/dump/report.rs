//! What is said of a file: plain data, printed by the tool.

use std::path::PathBuf;

/// Findings kept of one file: what is broken a thousand times is told a few times, and counted.
const FINDINGS_MAX: usize = 50;

/// What a file is worth, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All that was looked at is what was written.
    Sound,
    /// Derived, or not needed any more: the broker rebuilds it or does not read it.
    Stale,
    /// It ends in something that nobody was told of; a crash leaves such ends, and the next start
    /// forgets them.
    Torn,
    /// It could not be read, or not be judged.
    Unreadable,
    /// Something that was durable is not what was written.
    Damaged,
}

impl Verdict {
    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Sound => "sound",
            Verdict::Stale => "stale",
            Verdict::Torn => "torn",
            Verdict::Unreadable => "unreadable",
            Verdict::Damaged => "damaged",
        }
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `thalweg.meta`.
    Identity,
    /// `metadata.redb`.
    Metadata,
    /// A copy of a checkpoint.
    Checkpoint,
    /// A file of a shard's journal.
    Journal,
    /// A segment's blocks.
    Segment,
    /// A segment's index.
    Index,
    /// What is kept beside a sealed segment.
    Snapshot,
    /// A directory that a file is missing from.
    Directory,
}

impl FileKind {
    /// One word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileKind::Identity => "identity",
            FileKind::Metadata => "metadata",
            FileKind::Checkpoint => "checkpoint",
            FileKind::Journal => "journal",
            FileKind::Segment => "segment",
            FileKind::Index => "index",
            FileKind::Snapshot => "snapshot",
            FileKind::Directory => "directory",
        }
    }
}

/// One thing that is not as it ought to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub verdict: Verdict,
    /// The byte of the file, if it is about one.
    pub pos: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What that means for who owns the data.
    pub means: String,
}

/// What is said of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Which file.
    pub path: PathBuf,
    /// What it is for.
    pub kind: FileKind,
    /// Its length in bytes.
    pub bytes: u64,
    /// What is in it, in a few words.
    pub summary: String,
    /// What is wrong with it, in the order of its bytes.
    pub findings: Vec<Finding>,
    /// Findings that were too many to be kept.
    pub findings_left_out: u64,
    worst: Verdict,
}

impl FileReport {
    /// A report of a file of which nothing is known yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, kind: FileKind, bytes: u64) -> FileReport {
        FileReport {
            path: path.into(),
            kind,
            bytes,
            summary: String::new(),
            findings: Vec::new(),
            findings_left_out: 0,
            worst: Verdict::Sound,
        }
    }

    /// A report of a file that could not be read.
    #[must_use]
    pub fn unreadable(
        path: impl Into<PathBuf>,
        kind: FileKind,
        error: &std::io::Error,
    ) -> FileReport {
        let mut report = FileReport::new(path, kind, 0);
        report.note_unreadable(error);
        report
    }

    /// The worst of its findings.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.worst
    }

    /// Adds a finding.
    pub fn note(
        &mut self,
        verdict: Verdict,
        pos: impl Into<Option<u64>>,
        what: impl Into<String>,
        means: impl Into<String>,
    ) {
        self.worst = self.worst.max(verdict);
        if self.findings.len() >= FINDINGS_MAX {
            self.findings_left_out += 1;
            return;
        }
        let (pos, what, means) = (pos.into(), what.into(), means.into());
        self.findings.push(Finding { verdict, pos, what, means });
    }

    /// Nobody needs the file any more: whatever is wrong with it costs nothing.
    pub(super) fn make_unneeded(&mut self, why: &str) {
        self.summary.push_str("; ");
        self.summary.push_str(why);
        self.worst = self.worst.min(Verdict::Stale);
        for finding in &mut self.findings {
            finding.verdict = finding.verdict.min(Verdict::Stale);
            finding.means = format!("nothing: {why}");
        }
    }

    pub(super) fn note_unreadable(&mut self, error: &std::io::Error) {
        let means = "nothing is said of what could not be read";
        self.note(Verdict::Unreadable, None, format!("it cannot be read: {error}"), means);
    }

    pub(super) fn note_version(&mut self, found: u16, known: u16) {
        let what = format!("it has format version {found}; this program knows version {known}");
        let means = "written by a later version: a broker of this version refuses the directory";
        self.note(Verdict::Unreadable, None, what, means);
    }
}
