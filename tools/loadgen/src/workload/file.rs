//! Workloads as TOML: the keys of one workload at the top, and `[[workload]]` tables for several,
//! each of which has the keys at the top unless it says otherwise.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::Workload;

/// Reads the workloads of `path`; of several, those with one of `names`, if any are given.
///
/// # Errors
/// A sentence with the file, and the line where there is one: unreadable, not TOML, unknown keys,
/// values that are none, a name that is not there.
pub fn read(path: &Path, names: &[String]) -> Result<Vec<Workload>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let all = parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if names.is_empty() {
        return Ok(all);
    }
    if let Some(missing) = names.iter().find(|name| all.iter().all(|it| it.name != **name)) {
        let there: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
        let path = path.display();
        return Err(format!("{path} has no workload `{missing}`; it has {there:?}"));
    }
    Ok(all.into_iter().filter(|it| names.contains(&it.name)).collect())
}

/// Reads workloads from `text`.
///
/// # Errors
/// What is wrong, with its line.
pub fn parse(text: &str) -> Result<Vec<Workload>, String> {
    let told = |mut error: toml::de::Error| {
        error.set_input(Some(text));
        error.to_string().trim_end().to_owned()
    };
    let table = DeTable::parse(text).map_err(told)?;
    let span = table.span();
    let (mut common, mut tables) = (DeTable::new(), Vec::new());
    for (key, value) in table.into_inner() {
        if key.get_ref() == "workload" {
            tables = several(text, value)?;
        } else {
            insert(text, &mut common, key, value)?;
        }
    }
    let workload = |keys: DeTable<'_>| {
        Workload::deserialize(Deserializer::from(Spanned::new(span.clone(), keys))).map_err(told)
    };
    if tables.is_empty() {
        return Ok(vec![workload(common)?]);
    }
    let mut found: Vec<Workload> = Vec::new();
    for (table, at) in tables {
        let mut own = DeTable::new();
        for (key, value) in table {
            insert(text, &mut own, key, value)?;
        }
        let mut keys = common.clone();
        for (key, value) in own {
            // Replacing a value keeps the old key with its place; both have to go.
            keys.remove(&key);
            keys.insert(key, value);
        }
        let workload = workload(keys)?;
        if workload.name.is_empty() || found.iter().any(|it| it.name == workload.name) {
            return Err(format!(
                "line {}: each [[workload]] needs a `name` of its own",
                line(text, at)
            ));
        }
        found.push(workload);
    }
    Ok(found)
}

/// The tables of `[[workload]]`, each with its place in the text.
fn several<'i>(
    text: &str,
    value: Spanned<DeValue<'i>>,
) -> Result<Vec<(DeTable<'i>, usize)>, String> {
    let at = value.span().start;
    let what = || format!("line {}: `workload` is a list of tables, [[workload]]", line(text, at));
    let DeValue::Array(array) = value.into_inner() else { return Err(what()) };
    let tables = array.into_iter().map(|item| {
        let at = item.span().start;
        match item.into_inner() {
            DeValue::Table(table) => Ok((table, at)),
            _ => Err(what()),
        }
    });
    tables.collect()
}

/// Keys are read as flags are written, too: `record-bytes` is `record_bytes`.
fn insert<'i>(
    text: &str,
    table: &mut DeTable<'i>,
    key: Spanned<std::borrow::Cow<'i, str>>,
    value: Spanned<DeValue<'i>>,
) -> Result<(), String> {
    let span = key.span();
    let name = Spanned::new(span.clone(), key.into_inner().replace('-', "_").into());
    match table.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(format!("line {}: this key is there twice", line(text, span.start))),
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// `workload` as a file that reads back as it is.
#[must_use]
pub fn write(workload: &Workload) -> String {
    toml::to_string(workload).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;

    #[test]
    fn an_unknown_key_is_an_error_that_names_its_line() {
        let error = parse("producers = 2\n\nproducer = 3\n").expect_err("unknown");
        assert!(error.contains("line 3") && error.contains("`producer`"), "{error}");
        let nested = "rate = \"1MB/s\"\n[[workload]]\nname = \"a\"\nbatchrecords = 3\n";
        let error = parse(nested).expect_err("unknown");
        assert!(error.contains("line 4") && error.contains("`batchrecords`"), "{error}");
    }

    #[test]
    fn a_value_that_is_none_is_an_error_that_names_its_line() {
        for (text, line, word) in [
            ("producers = 2\nrate = \"fast\"\n", "line 2", "100MB/s"),
            ("producers = -1\n", "line 1", ""),
            ("acks = 2\n", "line 1", "all"),
            ("warmup = \"5\"\n", "line 1", "500ms"),
            ("\n\n[[workload]]\nname = \"a\"\nsteps = [\"1MB/s\"]\n", "line 5", "step"),
            ("rate = \n", "line 1", ""),
            ("workload = 3\n", "line 1", "[[workload]]"),
            ("\n[[workload]]\nrate = \"max\"\n", "line 2", "name"),
            ("[[workload]]\nname = \"a\"\n[[workload]]\nname = \"a\"\n", "line 3", "name"),
            ("in-flight = 1\nin_flight = 2\n", "line 2", "twice"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(line) && error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn workloads_of_a_file_share_what_stands_at_its_top() {
        let text = "producers = 4\nrate = \"10MB/s\"\n[[workload]]\nname = \"a\"\n[[workload]]\n\
                    name = \"b\"\nrate = \"5k/s\"\n";
        let [a, b] = &parse(text).expect("two")[..] else { panic!("not two") };
        assert_eq!((a.name.as_str(), a.producers, a.rate), ("a", 4, Rate::BytesPerSecond(10e6)));
        assert_eq!((b.name.as_str(), b.producers, b.rate), ("b", 4, Rate::RecordsPerSecond(5e3)));
    }

    #[test]
    fn the_workload_that_is_explained_reads_back() {
        let text = "name = \"x\"\nrecord-bytes = \"lognormal:1KiB,0.7\"\nkeys = \"zipf:1.2\"\n\
                    steps = [\"1MB/s:1s\", \"2MB/s:250ms\"]\ncompression = \"zstd\"\nbacklog = \"1GB\"\n";
        let all = parse(text).expect("one");
        let written = write(&all[0]);
        assert_eq!(parse(&written).expect("reads back"), all, "{written}");
        assert_eq!(parse(&write(&Workload::default())).expect("reads"), [Workload::default()]);
    }

    #[test]
    fn every_workload_that_comes_with_the_tool_is_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("the folder") {
            let path = entry.expect("an entry").path();
            for workload in read(&path, &[]).expect("a workload file") {
                let flaw = workload.settled().flaw();
                assert_eq!(flaw, None, "{}", path.display());
                count += 1;
            }
        }
        assert!(count >= 8, "{count} workloads");
    }
}
