//! Where lines go: text for people or one JSON object a line, and what is remembered of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg::storage::dump::{FileReport, Verdict};

/// Who prints.
pub struct Printer<'a> {
    out: &'a mut dyn Write,
    is_json: bool,
    root: PathBuf,
    worst: Verdict,
    files: u64,
    is_closed: bool,
    failed: Option<io::Error>,
}

impl<'a> Printer<'a> {
    /// Prints to `out`; paths are shown from `root` on.
    pub fn new(out: &'a mut dyn Write, is_json: bool, root: &Path) -> Printer<'a> {
        let root = root.to_owned();
        let worst = Verdict::Sound;
        Printer { out, is_json, root, worst, files: 0, is_closed: false, failed: None }
    }

    /// The worst verdict so far.
    pub fn worst(&self) -> Verdict {
        self.worst
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A path as it is shown.
    pub fn short(&self, path: &Path) -> String {
        let short = path.strip_prefix(&self.root).unwrap_or(path);
        let text = short.display().to_string();
        if text.is_empty() { ".".to_owned() } else { text }
    }

    /// One line, in the form that was asked for.
    pub fn line(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        if self.is_closed {
            return;
        }
        let line = if self.is_json { json().to_string() } else { text() };
        if let Err(error) = writeln!(self.out, "{line}") {
            self.is_closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failed = Some(error);
            }
        }
    }

    /// What is said of a file, with its findings.
    pub fn report(&mut self, report: &FileReport) {
        self.files += 1;
        let verdict = report.verdict();
        self.worst = self.worst.max(verdict);
        let path = self.short(&report.path);
        let findings: Vec<Value> = report
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "verdict": finding.verdict.name(), "pos": finding.pos,
                    "what": finding.what, "means": finding.means,
                })
            })
            .collect();
        self.line(
            || format!("{:<10} {:>12} {path}  {}", verdict.name(), report.bytes, report.summary),
            || {
                json!({
                    "type": "file", "path": path, "kind": report.kind.name(),
                    "bytes": report.bytes, "verdict": verdict.name(), "summary": report.summary,
                    "findings": findings, "findings_left_out": report.findings_left_out,
                })
            },
        );
        if self.is_json {
            return;
        }
        for finding in &report.findings {
            let at = finding.pos.map_or(String::new(), |pos| format!("byte {pos}: "));
            let (verdict, what, means) = (finding.verdict.name(), &finding.what, &finding.means);
            self.line(|| format!("  {verdict}: {at}{what}"), || Value::Null);
            self.line(|| format!("    means: {means}"), || Value::Null);
        }
        if report.findings_left_out > 0 {
            let left = report.findings_left_out;
            self.line(|| format!("  … and {left} findings more"), || Value::Null);
        }
    }

    /// The last line.
    ///
    /// # Errors
    /// Something could not be printed.
    pub fn end(mut self) -> io::Result<Verdict> {
        let (worst, files) = (self.worst, self.files);
        self.line(
            || format!("verdict: {} ({files} files)", worst.name()),
            || json!({"type": "verdict", "verdict": worst.name(), "files": files}),
        );
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(worst),
        }
    }
}
