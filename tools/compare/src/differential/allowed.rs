//! The differences that are accepted, each with its reason.

use std::path::Path;

use serde::Deserialize;

/// One accepted difference. `case` and `field` may hold `*` for any text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    case: String,
    field: String,
    /// The referee's value, if only that one is accepted.
    kafka: Option<String>,
    /// Our value, if only that one is accepted.
    ours: Option<String>,
    reason: String,
    #[serde(skip)]
    used: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    #[serde(default)]
    allow: Vec<Entry>,
}

impl Allowed {
    pub fn read(path: Option<&Path>) -> Result<Allowed, String> {
        let Some(path) = path else { return Ok(Allowed::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("reading {}: {error}", path.display()))?;
        let allowed: Allowed =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        match allowed.allow.iter().find(|entry| entry.reason.trim().is_empty()) {
            Some(entry) => Err(format!("{}: no reason", entry.case)),
            None => Ok(allowed),
        }
    }

    /// Whether the difference is accepted.
    pub fn covers(&mut self, case: &str, field: &str, kafka: &str, ours: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let entry = self.allow.iter_mut().find(|entry| {
            matches(&entry.case, case)
                && matches(&entry.field, field)
                && is(&entry.kafka, kafka)
                && is(&entry.ours, ours)
        });
        match entry {
            Some(entry) => {
                entry.used += 1;
                true
            }
            None => false,
        }
    }

    pub fn count(&self) -> u64 {
        self.allow.iter().map(|entry| entry.used).sum()
    }

    /// Entries that accepted nothing.
    pub fn unused(&self) -> impl Iterator<Item = String> + '_ {
        let unused = self.allow.iter().filter(|entry| entry.used == 0);
        unused.map(|entry| format!("{} | {}", entry.case, entry.field))
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("a*c", "abc") && matches("*", "") && matches("a*b*", "aXbY"));
        assert!(!matches("a*c", "abd") && !matches("a", "ab") && !matches("*b", "a"));
    }

    #[test]
    fn an_entry_covers_only_what_it_names() {
        let text = "[[allow]]\ncase = \"fetch *\"\nfield = \"x\"\nours = \"1\"\nreason = \"why\"\n";
        let mut allowed: Allowed = toml::from_str(text).expect("valid");
        assert!(allowed.covers("fetch v4", "x", "0", "1"));
        assert!(!allowed.covers("fetch v4", "x", "0", "2"));
        assert!(!allowed.covers("fetch v4", "y", "0", "1"));
        assert_eq!((allowed.count(), allowed.unused().count()), (1, 0));
    }
}
