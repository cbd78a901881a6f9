//! Where settings come from: raw texts by name from a TOML file, the environment and flags.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Beginning of the environment variables that are settings.
pub const ENVIRONMENT_PREFIX: &str = "THALWEG_";

/// The variable that names the settings file, as `--config` does.
pub const CONFIG_VARIABLE: &str = "THALWEG_CONFIG";

/// Variables with these beginnings belong to tests and tools and are no settings.
const FOREIGN_PREFIXES: [&str; 3] = ["THALWEG_TEST_", "THALWEG_BENCH_", "THALWEG_DEV_"];

/// Where a setting's value comes from, the weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The settings file.
    File {
        /// Which file.
        path: PathBuf,
        /// Line of the value, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, as it was given.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Environment(variable) => write!(f, "environment {variable}"),
            Source::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A setting as somebody wrote it: not yet known, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawSetting {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) source: Source,
}

/// Reads the settings file. Tables and dotted keys are the same thing: `[log] retention.ms = 5`,
/// `log.retention.ms = 5` and `"log.retention.ms" = 5` all name one setting.
pub(super) fn from_file(path: &Path) -> Result<Vec<RawSetting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::ReadFile { path: path.to_owned(), source })?;
    from_toml(&text, path)
}

pub(super) fn from_toml(text: &str, path: &Path) -> Result<Vec<RawSetting>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::ParseFile {
        path: path.to_owned(),
        text: error.to_string().trim_end().to_owned(),
    })?;
    let mut found = Vec::new();
    flatten(table.get_ref(), "", &mut |name, value, at| {
        let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let source = Source::File { path: path.to_owned(), line };
        let value = plain_text(value).ok_or_else(|| ConfigError::NotAValue {
            name: name.to_owned(),
            origin: source.clone(),
        })?;
        found.push(RawSetting { name: name.to_owned(), value, source });
        Ok(())
    })?;
    Ok(found)
}

type Visit<'a> = dyn FnMut(&str, &DeValue<'_>, usize) -> Result<(), ConfigError> + 'a;

fn flatten(table: &DeTable<'_>, prefix: &str, visit: &mut Visit<'_>) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(inner, &name, visit)?,
            scalar => visit(&name, scalar, value.span().start)?,
        }
    }
    Ok(())
}

/// A value as one writes it in a flag; lists with commas between their items.
fn plain_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Integer(number) => {
            let value = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
            value.ok().map(|value| value.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| plain_text(item.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Table(_) | DeValue::Datetime(_) => None,
    }
}

/// The variable that sets `name`: `log.retention.ms` is `THALWEG_LOG_RETENTION_MS`.
#[must_use]
pub fn environment_variable(name: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", name.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// The environment of this process. Variables that are not UTF-8 are left out: none of ours is, and
/// the standard iterator would panic at them.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Picks the settings out of the environment. Variables that name no known setting keep their own
/// name, so that the error shows what was written.
pub(super) fn from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    known_names: &[&str],
) -> Vec<RawSetting> {
    let is_ours = |variable: &str| {
        variable.starts_with(ENVIRONMENT_PREFIX)
            && variable != CONFIG_VARIABLE
            && !FOREIGN_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
    };
    let ours = variables.into_iter().filter(|(variable, _)| is_ours(variable));
    let raw = ours.map(|(variable, value)| {
        let known = known_names.iter().find(|name| environment_variable(name) == variable);
        let guess = || variable[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace('_', ".");
        let name = known.map_or_else(guess, |name| (*name).to_owned());
        RawSetting { name, value, source: Source::Environment(variable) }
    });
    raw.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(String, String, usize)> {
        let line = |source: &Source| match source {
            Source::File { line, .. } => *line,
            _ => 0,
        };
        from_toml(text, Path::new("f.toml"))
            .unwrap()
            .into_iter()
            .map(|raw| (raw.name, raw.value, line(&raw.source)))
            .collect()
    }

    #[test]
    fn tables_dotted_keys_and_quoted_keys_name_the_same_setting() {
        for text in [
            "\n[log.retention]\nms = 5",
            "\n\nlog.retention.ms = 5",
            "\n\n\"log.retention.ms\" = 5",
        ] {
            assert_eq!(parse(text), [("log.retention.ms".to_owned(), "5".to_owned(), 3)], "{text}");
        }
    }

    #[test]
    fn every_kind_of_value_becomes_the_text_of_a_flag() {
        let text = "a = true\nb = 1_000\nc = 0.5\nd = 'x'\ne = [0, 2]\nf = 0x10";
        let values: Vec<String> = parse(text).into_iter().map(|(_, value, _)| value).collect();
        assert_eq!(values, ["true", "1000", "0.5", "x", "0,2", "16"]);
        let error = from_toml("a = 1979-05-27", Path::new("f")).unwrap_err();
        assert!(matches!(error, ConfigError::NotAValue { .. }), "{error}");
        let error = from_toml("a = ", Path::new("f.toml")).unwrap_err().to_string();
        assert!(error.contains("f.toml"), "{error}");
    }

    #[test]
    fn variables_are_matched_by_name_and_those_of_tests_are_left_alone() {
        let variables = [
            ("THALWEG_LOG_RETENTION_MS", "5"),
            ("THALWEG_NO_SUCH", "1"),
            ("THALWEG_CONFIG", "x"),
            ("THALWEG_TEST_KAFKA", "y"),
            ("PATH", "z"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let raw = from_environment(variables, &["log.retention.ms"]);
        let names: Vec<&str> = raw.iter().map(|raw| raw.name.as_str()).collect();
        assert_eq!(names, ["log.retention.ms", "no.such"]);
    }
}
