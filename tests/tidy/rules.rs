//! The rules about single files: floors, banned names, `unsafe`, sizes and headers.

use crate::source::{Source, is_word, item_end};

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub message: String,
}

impl Finding {
    pub fn new(path: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, message: message.into() }
    }
}

/// A module of `src` and its floor: it uses lower floors only, and neighbours never see each other.
pub struct Module {
    pub name: &'static str,
    pub floor: u8,
    /// Lower floors that it must not name all the same.
    pub blind_to: &'static [&'static str],
}

const fn module(name: &'static str, floor: u8, blind_to: &'static [&'static str]) -> Module {
    Module { name, floor, blind_to }
}

/// The floors (docs/ARCHITECTURE.md).
pub const FLOORS: [Module; 13] = [
    module("base", 0, &[]),
    module("config", 1, &[]),
    module("record", 1, &[]),
    module("io", 1, &[]),
    module("security", 1, &[]),
    module("protocol", 2, &["config"]),
    module("storage", 2, &[]),
    module("partition", 3, &["protocol"]),
    module("shard", 4, &[]),
    module("cluster", 5, &[]),
    module("coordinator", 6, &[]),
    module("server", 7, &[]),
    module("admin", 7, &[]),
];

/// Crates that only some modules may name, and why.
pub const OWNED_CRATES: [(&str, &[&str], &str); 5] = [
    ("glommio", &["io", "shard"], "the runtime stays behind `src/io` and `src/shard`"),
    ("io_uring", &["io"], "devices live in `src/io`"),
    ("kafka_wire", &["protocol"], "the codec crate stays behind `src/protocol`"),
    ("kafka_wire_core", &["protocol"], "the codec crate stays behind `src/protocol`"),
    ("kafka_protocol", &[], "it must not decode bytes from the network; tests may use it"),
];

pub const FILE_LINES_MAX: usize = 600;
pub const FUNCTION_LINES_MAX: usize = 70;

/// `use` and other paths against [`FLOORS`]. `lib.rs` and `main.rs` see everything.
pub fn floors(source: &Source) -> Vec<Finding> {
    let Some(own_name) = source.module().first().cloned() else {
        return Vec::new();
    };
    let Some(own) = FLOORS.iter().find(|module| module.name == own_name) else {
        let message = format!("`{own_name}` has no floor: give it one in tests/tidy/rules.rs");
        return vec![Finding::new(&source.path, 1, message)];
    };
    let mut findings = Vec::new();
    for named in source.named() {
        let Some(used) = named.path.first().filter(|used| **used != own_name) else {
            continue;
        };
        let message = match FLOORS.iter().find(|module| module.name == used) {
            None => format!("`crate::{used}` is not a module with a floor"),
            Some(module) if own.blind_to.contains(&module.name) => {
                format!("`{own_name}` must not name `{used}`")
            }
            Some(module) if module.floor == own.floor => {
                format!("`{own_name}` and `{used}` are neighbours on floor {}", own.floor)
            }
            Some(module) if module.floor > own.floor => format!(
                "`{own_name}` (floor {}) must not use `{used}` (floor {})",
                own.floor, module.floor
            ),
            Some(_) => continue,
        };
        findings.push(Finding::new(&source.path, named.line, message));
    }
    findings
}

/// The crates of [`OWNED_CRATES`] in other places than theirs; test code is free.
pub fn owned_crates(source: &Source) -> Vec<Finding> {
    let own_name = source.module().first().cloned().unwrap_or_default();
    let mut findings = Vec::new();
    for token in &source.tokens {
        let owned = OWNED_CRATES.iter().find(|(name, _, _)| *name == token.text);
        let Some((name, owners, why)) = owned else { continue };
        let in_test = is_test_file(&source.path) || source.test_lines.contains(&token.line);
        if !owners.contains(&own_name.as_str()) && !in_test {
            let message = format!("`{name}` is named here, but {why}");
            findings.push(Finding::new(&source.path, token.line, message));
        }
    }
    findings
}

/// Whether the whole file is tests: `foo/tests.rs`, `foo_tests.rs`, or in a folder `tests`.
fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// Where `unsafe` stands, for the folders that keep it in one place.
const UNSAFE_PLACES: [(&str, &str); 2] =
    [("src/", "src/io/"), ("benches/floor/", "benches/floor/src/ring/")];

/// `unsafe` in `src` stands in `src/io` only, in the floor program in its ring; anywhere, each has
/// its SAFETY line.
pub fn unsafe_code(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let outside = UNSAFE_PLACES
        .iter()
        .find(|(folder, place)| source.path.starts_with(folder) && !source.path.starts_with(place));
    for (index, token) in source.tokens.iter().enumerate() {
        if token.text != "unsafe" {
            continue;
        }
        if let Some((_, place)) = outside {
            let place = place.trim_end_matches('/');
            let message = format!("`unsafe` outside {place}: put it behind a safe call there");
            findings.push(Finding::new(&source.path, token.line, message));
            continue;
        }
        let declares = source.tokens.get(index + 1).is_some_and(|next| next.text == "fn");
        let wanted = if declares { "# Safety" } else { "SAFETY:" };
        if !explained(source, token.line, wanted) {
            let message = format!("`unsafe` without a `{wanted}` comment above it");
            findings.push(Finding::new(&source.path, token.line, message));
        }
    }
    findings
}

/// Whether `wanted` stands in a comment on the line, or in the comments right above the statement
/// to which the line belongs.
fn explained(source: &Source, line: usize, wanted: &str) -> bool {
    if source.comment(line).contains(wanted) {
        return true;
    }
    let mut above = line - 1;
    // Up to the first line of a statement that is broken over several, and over its attributes.
    while above > 0 && source.has_code(above) {
        let code = source.code[above - 1].trim_end();
        if code.ends_with(';') || code.ends_with('{') || code.ends_with('}') {
            return false;
        }
        above -= 1;
    }
    while above > 0 && !source.has_code(above) && !source.comment(above).is_empty() {
        if source.comment(above).contains(wanted) {
            return true;
        }
        above -= 1;
    }
    false
}

/// Files up to [`FILE_LINES_MAX`] lines of code, functions up to [`FUNCTION_LINES_MAX`]; test code
/// is not counted.
pub fn sizes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.code_lines();
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines of code, at most {FILE_LINES_MAX}");
        findings.push(Finding::new(&source.path, 1, message));
    }
    for (index, pair) in source.tokens.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        let skipped = keyword.text != "fn" || !is_word(&name.text);
        if skipped || source.test_lines.contains(&keyword.line) {
            continue;
        }
        let last_line = source.tokens[item_end(&source.tokens, index)].line;
        let lines = (keyword.line..=last_line).filter(|line| source.has_code(*line)).count();
        if lines > FUNCTION_LINES_MAX {
            let message =
                format!("`{}` has {lines} lines, at most {FUNCTION_LINES_MAX}", name.text);
            findings.push(Finding::new(&source.path, keyword.line, message));
        }
    }
    findings
}

/// Every `mod.rs`, crate root and module file opens with `//!`; what a `mod.rs` says is more than
/// one line: what it is, what it is not, on which core it lives, invariants, callers.
pub fn header(source: &Source) -> Vec<Finding> {
    let header_lines = source.comments.iter().take_while(|line| line.starts_with("//!")).count();
    if header_lines == 0 {
        return vec![Finding::new(&source.path, 1, "the file must open with `//!`")];
    }
    let is_module = source.path.starts_with("src/") && source.path.ends_with("/mod.rs");
    if is_module && header_lines < 3 && !is_test_file(&source.path) {
        let message = "a module says what it is, what it is not, on which core it lives, its \
                       invariants and its callers";
        return vec![Finding::new(&source.path, 1, message)];
    }
    Vec::new()
}
