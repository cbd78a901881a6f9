//! One script of requests, run against two brokers; the answers are compared, errors included.
//! What may differ, and why, stands in an allow-list.

mod allowed;
mod normalize;
mod script;
mod scripts;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use allowed::Allowed;
use script::{Outcome, Script};

/// Milliseconds since the epoch. They also make a prefix of topic names that no run had before.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn answers(address: &str, now_ms: i64) -> Script {
    let mut script = Script::new(address, &format!("d{now_ms}"), now_ms);
    scripts::run(&mut script);
    script
}

/// Prints what one broker answers.
pub fn ask(address: &str, filter: &str) -> bool {
    let script = answers(address, now_ms());
    for (case, outcome) in script.outcomes.iter().filter(|(case, _)| case.contains(filter)) {
        match outcome {
            Outcome::Answer(fields) => {
                println!("{case}");
                for (path, value) in fields {
                    println!("    {path} = {value}");
                }
            }
            other => println!("{case}: {other:?}"),
        }
    }
    report_troubles("the broker", &script)
}

/// Compares `b` with the referee `a`; `true` if every difference is allowed.
pub fn compare(a: &str, b: &str, allow: Option<&Path>) -> Result<bool, String> {
    let mut allowed = Allowed::read(allow)?;
    let now_ms = now_ms();
    let first = answers(a, now_ms);
    let second = answers(b, now_ms);
    let mut passed = report_troubles("a", &first) & report_troubles("b", &second);
    let mut differences = 0;
    for (case, expected) in &first.outcomes {
        let found = second.outcomes.iter().find(|(other, _)| other == case);
        for (field, expected, found) in differing(expected, found.map(|(_, outcome)| outcome)) {
            if !allowed.covers(case, &field, &expected, &found) {
                println!("{case} | {field} | a: {expected} | b: {found}");
                differences += 1;
            }
        }
    }
    for entry in allowed.unused() {
        println!("note: no difference was as allowed: {entry}");
    }
    println!(
        "{} cases, {} differences that are not allowed, {} that are",
        first.outcomes.len(),
        differences,
        allowed.count()
    );
    passed &= differences == 0 && !first.outcomes.is_empty();
    Ok(passed)
}

fn report_troubles(name: &str, script: &Script) -> bool {
    for trouble in &script.troubles {
        println!("{name}: {trouble}");
    }
    script.troubles.is_empty()
}

/// The fields in which two outcomes differ, with both values.
fn differing(expected: &Outcome, found: Option<&Outcome>) -> Vec<(String, String, String)> {
    let kind = |outcome: Option<&Outcome>| match outcome {
        None => "not asked".to_owned(),
        Some(Outcome::Answer(_)) => "answered".to_owned(),
        Some(other) => format!("{other:?}"),
    };
    if let (Outcome::Answer(expected), Some(Outcome::Answer(found))) = (expected, found) {
        let paths: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let value = |fields: &normalize::Fields, path: &String| {
            fields.get(path).cloned().unwrap_or_else(|| "(absent)".to_owned())
        };
        return paths
            .into_iter()
            .filter(|path| expected.get(*path) != found.get(*path))
            .map(|path| (path.clone(), value(expected, path), value(found, path)))
            .collect();
    }
    let (expected, found) = (kind(Some(expected)), kind(found));
    if expected == found { Vec::new() } else { vec![("outcome".to_owned(), expected, found)] }
}
