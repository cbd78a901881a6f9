//! What `thalweg-logdump` says of a directory, before a broker has touched it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shell::during;

/// The dump, beside this program.
pub fn program() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(during("looking for myself"))?;
    Ok(me.with_file_name("thalweg-logdump"))
}

/// Journals that end in a torn group. A broken promise is damage anywhere, and more than one torn
/// group in a journal: only one write of it is under way at a time.
pub fn torn_journals(program: &Path, data: &Path) -> Result<usize, String> {
    let output = Command::new(program).arg(data).arg("--json").output();
    let output = output.map_err(during(program.display()))?;
    torn_in(&String::from_utf8_lossy(&output.stdout))
}

fn torn_in(told: &str) -> Result<usize, String> {
    let mut torn: HashMap<String, usize> = HashMap::new();
    let mut journals = 0;
    for line in told.lines() {
        let file: Value = serde_json::from_str(line).map_err(during(line))?;
        let findings = file["findings"].as_array().map_or(&[][..], Vec::as_slice);
        if file["verdict"] == "damaged" {
            return Err(format!("the dump finds {} damaged: {findings:?}", file["path"]));
        }
        if file["kind"] == "journal" {
            journals += 1;
            let shard = Path::new(file["path"].as_str().unwrap_or_default()).parent();
            let shard = shard.unwrap_or(Path::new("")).to_string_lossy().into_owned();
            let count = findings.iter().filter(|finding| finding["verdict"] == "torn").count();
            *torn.entry(shard).or_default() += count;
        }
    }
    if journals == 0 {
        return Err("the dump finds no journal".to_owned());
    }
    match torn.iter().find(|(_, count)| **count > 1) {
        Some((journal, count)) => Err(format!("{count} torn groups in {journal}")),
        None => Ok(torn.values().sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, path: &str, verdict: &str) -> String {
        let findings = match verdict {
            "sound" => String::new(),
            found => format!(r#"{{"verdict":"{found}","what":"w","means":"m","pos":1}}"#),
        };
        format!(
            r#"{{"type":"file","kind":"{kind}","path":"{path}","verdict":"{verdict}","findings":[{findings}]}}"#
        )
    }

    #[test]
    fn a_torn_group_is_allowed_in_each_journal_but_not_two_in_one_and_no_damage() {
        let told = |files: &[String]| torn_in(&files.join("\n"));
        let torn = |path| file("journal", path, "torn");
        assert_eq!(told(&[torn("journal/0/000.journal"), torn("journal/1/000.journal")]), Ok(2));
        let segment = file("segment", "topics/a/0/0.log", "torn");
        assert_eq!(told(&[segment, file("journal", "journal/0/000.journal", "sound")]), Ok(0));
        assert!(told(&[]).is_err(), "nothing was looked at");
        assert!(told(&[torn("journal/0/000.journal"), torn("journal/0/001.journal")]).is_err());
        assert!(told(&[file("segment", "topics/a/0/0.log", "damaged")]).is_err());
        assert!(told(&["not JSON".to_owned()]).is_err());
    }
}
