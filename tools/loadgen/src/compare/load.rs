//! Reading the JSON that runs left, and whether runs may be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde_json::Value;

use super::figures::Figure;
use crate::measure::encoded;
use crate::report::{SCHEMA_VERSION, hlog};

/// Runs that belong together.
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its runs, in the order in which they were named.
    pub runs: Vec<RunFile>,
}

/// A run that was read.
pub struct RunFile {
    /// Its file.
    pub path: PathBuf,
    /// Whole distributions by tag, from the JSON or from the `.hlog` beside it.
    pub histograms: BTreeMap<String, Histogram<u64>>,
    report: Value,
}

/// Reads `A.json`, `A1.json,A2.json` or `NAME=A1.json,...`.
///
/// # Errors
/// The file that cannot be read, and why.
pub fn group(text: &str) -> Result<Group, String> {
    // A file's own name may hold `=`.
    let named = text.split_once('=').filter(|(name, _)| !name.contains(['/', ',', '.']));
    let (name, files) = match named {
        Some((name, files)) if !Path::new(text).exists() => (Some(name), files),
        _ => (None, text),
    };
    let runs = files.split(',').map(|file| RunFile::read(Path::new(file.trim())));
    let runs = runs.collect::<Result<Vec<_>, String>>()?;
    let label = runs.first().map(|run| run.text("/label")).unwrap_or_default();
    let stem = || {
        let stem = runs.first().and_then(|run| run.path.file_stem());
        stem.map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let same = !label.is_empty() && runs.iter().all(|run| run.text("/label") == label);
    let own = if same { label } else { stem() };
    Ok(Group { name: name.map_or(own, str::to_owned), runs })
}

impl RunFile {
    fn read(path: &Path) -> Result<RunFile, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let report: Value =
            serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}"))?;
        if report.is_array() {
            return Err(format!("{shown} holds several reports; compare takes one run a file"));
        }
        if report.get("steps").is_some() {
            return Err(format!("{shown} is a search for saturation; compare takes runs"));
        }
        match report.get("schema_version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            Some(version) => {
                return Err(format!("{shown} has schema version {version}, not {SCHEMA_VERSION}"));
            }
            None => return Err(format!("{shown} is not a report of `thalweg-bench run`")),
        }
        if report.get("workload").is_none() || report.get("throughput").is_none() {
            return Err(format!("{shown} is not a report of `thalweg-bench run`"));
        }
        let histograms = histograms(path, &report)?;
        Ok(RunFile { path: path.to_owned(), histograms, report })
    }

    /// A figure of the run.
    pub fn figure(&self, figure: &Figure) -> Option<f64> {
        figure.of(&self.report)
    }

    fn text(&self, path: &str) -> String {
        self.report.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// What its acknowledgements meant.
    pub fn durability(&self) -> String {
        let mut parts = vec![format!("acks={}", self.text("/workload/acks"))];
        for name in ["flush.messages", "flush.ms", "min.insync.replicas"] {
            let value = self.text(&format!("/target/topic_configs/{name}"));
            match value.parse::<u64>() {
                // Kafka's default for never is the greatest number there is.
                Ok(it) if it > u64::from(u32::MAX) => parts.push(format!("{name}=never")),
                _ if value.is_empty() => {}
                _ => parts.push(format!("{name}={value}")),
            }
        }
        parts.join(", ")
    }

    /// Which broker it was, as far as it is known.
    pub fn broker(&self) -> String {
        let version = self.text("/target/host/version");
        if version.is_empty() { self.text("/target/bootstrap") } else { version }
    }

    fn warnings(&self) -> impl Iterator<Item = &str> {
        let all = self.report.get("warnings").and_then(Value::as_array);
        all.into_iter().flatten().filter_map(|it| it["kind"].as_str())
    }
}

/// From the report itself; reports of older tools have none, but may have an `.hlog` beside them.
fn histograms(path: &Path, report: &Value) -> Result<BTreeMap<String, Histogram<u64>>, String> {
    if let Some(encoded) = report.get("histograms").and_then(Value::as_object) {
        let read = |(tag, text): (&String, &Value)| {
            let decoded = encoded::decode(text.as_str().unwrap_or_default());
            let named = |error| format!("{}: histogram {tag}: {error}", path.display());
            Ok((tag.clone(), decoded.map_err(named)?))
        };
        return encoded.iter().map(read).collect();
    }
    let beside = path.with_extension("hlog");
    if !beside.exists() {
        return Ok(BTreeMap::new());
    }
    hlog::read(&beside).map_err(|error| format!("{}: {error}", beside.display()))
}

/// What differs between the runs besides what is compared: refused if it is the workload, unless
/// that is what was asked for; else told.
///
/// # Errors
/// The differences.
pub fn differences(groups: &[Group], force: bool) -> Result<Vec<String>, String> {
    let runs = || groups.iter().flat_map(|group| &group.runs);
    let mut told = Vec::new();
    let mut refuse = |what: String| {
        if force {
            told.push(what);
            return Ok(());
        }
        Err(format!("{what}\nThat is no comparison; --force makes it one all the same"))
    };
    let workloads = differing(runs(), "/workload");
    if !workloads.is_empty() {
        refuse(format!("the workloads differ: {}", workloads.join("; ")))?;
    }
    for group in groups {
        let terms = differing(group.runs.iter(), "/target/topic_configs");
        if !terms.is_empty() {
            let name = &group.name;
            refuse(format!("the topics of {name}'s runs differ: {}", terms.join("; ")))?;
        }
    }
    let terms: BTreeSet<String> = runs().map(RunFile::durability).collect();
    if terms.len() > 1 {
        told.push("the groups differ in what an acknowledgement means: see durability".to_owned());
    }
    for (path, what) in [
        ("/environment/cpu", "CPUs"),
        ("/environment/kernel", "kernels"),
        ("/environment/memory_bytes", "sizes of memory"),
        ("/generator/cores", "load cores"),
        ("/environment/tool_version", "versions of this tool"),
    ] {
        let seen: BTreeSet<String> = runs()
            .map(|run| run.report.pointer(path).map(ToString::to_string).unwrap_or_default())
            .collect();
        if seen.len() > 1 {
            let seen: Vec<String> = seen.into_iter().collect();
            told.push(format!("the runs had different {what}: {}", seen.join(", ")));
        }
    }
    for group in groups {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for kind in group.runs.iter().flat_map(|run| run.warnings().collect::<BTreeSet<_>>()) {
            *kinds.entry(kind).or_default() += 1;
        }
        for (kind, count) in kinds {
            let (name, all) = (&group.name, group.runs.len());
            told.push(format!("{name}: {count} of {all} runs came with the note `{kind}`"));
        }
    }
    Ok(told)
}

/// Fields of the object at `path` that are not the same in all runs, with their values.
fn differing<'a>(runs: impl Iterator<Item = &'a RunFile>, path: &str) -> Vec<String> {
    let mut fields: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let objects: Vec<_> =
        runs.map(|run| run.report.pointer(path).and_then(Value::as_object)).collect();
    for name in objects.iter().flatten().flat_map(|object| object.keys()) {
        for object in &objects {
            let value = object.and_then(|it| it.get(name));
            let text = value.map_or_else(|| "not there".to_owned(), ToString::to_string);
            fields.entry(name).or_default().insert(text);
        }
    }
    let several = fields.into_iter().filter(|(_, values)| values.len() > 1);
    several
        .map(|(name, values)| {
            format!("{name} is {}", values.into_iter().collect::<Vec<_>>().join(" or "))
        })
        .collect()
}
