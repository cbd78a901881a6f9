//! The rules of the house, read from the source: floors, owned crates, `unsafe`, sizes, headers,
//! and docs/ROUTES.md. Prints `file:line: what is wrong`; `cargo test --test tidy -- --nocapture`
//! also shows the routes' totals. The tables are in tidy/rules.rs.

#[path = "tidy/routes.rs"]
mod routes;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::Finding;
use source::Source;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files under `folder`, by path from the root.
fn sources(folder: &str) -> BTreeMap<String, Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.map(|entry| entry.expect("a directory entry").path()) {
            // A cargo target folder of a tool that is built on its own (fuzz) is not ours.
            if entry.is_dir() && !entry.ends_with("target") {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let mut sources = BTreeMap::new();
    for file in found {
        let text = fs::read_to_string(&file).expect("a source file");
        let path = file.strip_prefix(root()).expect("under the root").to_string_lossy();
        sources.insert(path.clone().into_owned(), Source::new(&path, &text));
    }
    sources
}

fn everywhere() -> BTreeMap<String, Source> {
    ["src", "tools", "tests", "benches"].iter().flat_map(|folder| sources(folder)).collect()
}

#[track_caller]
fn assert_tidy(mut findings: Vec<Finding>) {
    findings.sort();
    for Finding { path, line, message } in &findings {
        eprintln!("{path}:{line}: {message}");
    }
    assert!(findings.is_empty(), "{} findings", findings.len());
}

#[test]
fn a_module_uses_lower_floors_only() {
    assert_tidy(sources("src").values().flat_map(rules::floors).collect());
}

#[test]
fn owned_crates_stay_behind_their_modules() {
    assert_tidy(sources("src").values().flat_map(rules::owned_crates).collect());
}

#[test]
fn unsafe_stands_in_io_and_says_why_it_is_sound() {
    assert_tidy(everywhere().values().flat_map(rules::unsafe_code).collect());
}

#[test]
fn files_and_functions_fit_on_a_few_screens() {
    assert_tidy(everywhere().values().flat_map(rules::sizes).collect());
}

#[test]
fn every_file_says_what_it_is() {
    assert_tidy(everywhere().values().flat_map(rules::header).collect());
}

#[test]
fn the_two_routes_are_short_and_as_documented() {
    let text = fs::read_to_string(root().join(routes::ROUTES_PATH)).expect("docs/ROUTES.md");
    let (findings, totals) = routes::check(&text, &sources("src"));
    for total in totals {
        println!(
            "{}: {} lines of code in {} files (at most {})",
            total.title,
            total.lines,
            total.files,
            routes::ROUTE_LINES_MAX
        );
    }
    assert_tidy(findings);
}

mod of_tidy_itself {
    //! What tidy finds in samples.

    use super::*;

    fn messages(findings: Vec<Finding>) -> Vec<String> {
        findings
            .into_iter()
            .map(|finding| format!("{}: {}", finding.line, finding.message))
            .collect()
    }

    fn named(path: &str, text: &str) -> Vec<String> {
        Source::new(path, text).named().into_iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn a_wrong_way_use_is_found_with_its_line() {
        let text = "//! x\nuse std::rc::Rc;\nuse crate::{\n    base::ids::Offset,\n    partition::Partition,\n};\n";
        let found = messages(rules::floors(&Source::new("src/storage/log.rs", text)));
        assert_eq!(found, ["5: `storage` (floor 2) must not use `partition` (floor 3)"]);
    }

    #[test]
    fn a_path_in_an_expression_is_as_good_as_a_use() {
        let text = "fn f() {\n    let log = crate::server::handlers::list();\n}\n";
        let found = messages(rules::floors(&Source::new("src/shard/mod.rs", text)));
        assert_eq!(found, ["2: `shard` (floor 4) must not use `server` (floor 7)"]);
    }

    #[test]
    fn neighbours_and_blind_spots_are_found() {
        let source = Source::new("src/storage/log.rs", "use crate::protocol::frame;");
        let found = messages(rules::floors(&source));
        assert_eq!(found, ["1: `storage` and `protocol` are neighbours on floor 2"]);
        let source = Source::new("src/partition/append.rs", "use super::super::protocol::frame;");
        assert_eq!(messages(rules::floors(&source)), ["1: `partition` must not name `protocol`"]);
        let source = Source::new("src/protocol/frame.rs", "use crate::config::Config;");
        assert_eq!(messages(rules::floors(&source)), ["1: `protocol` must not name `config`"]);
    }

    #[test]
    fn a_module_without_a_floor_is_found() {
        let source = Source::new("src/utils/mod.rs", "");
        assert_eq!(rules::floors(&source).len(), 1);
        let source = Source::new("src/server/mod.rs", "use crate::utils::x;");
        assert_eq!(
            messages(rules::floors(&source)),
            ["1: `crate::utils` is not a module with a floor"]
        );
    }

    #[test]
    fn comments_strings_and_visibility_are_not_uses() {
        let text = "// use crate::server::x;\n/* crate::server /* nested */ crate::server */\n\
                    const A: &str = \"crate::server::x\";\nconst B: &str = r#\"a \" crate::server\"#;\n\
                    const C: char = '\"'; pub(crate) fn f<'a>(x: &'a u8) {}\nuse crate::base::ids;\n";
        assert_eq!(named("src/io/buf.rs", text), ["base::ids"]);
    }

    #[test]
    fn use_trees_supers_and_children_are_resolved() {
        let text = "mod child;\npub use child::{Thing, deep::{self, Other as Alias}};\n\
                    use super::neighbour::X;\nuse bytes::{Buf, Bytes};\nmod tests {\n    \
                    use super::*;\n    use super::super::neighbour::Y;\n}\nuse self::child::Z;\n";
        assert_eq!(
            named("src/storage/log/mod.rs", text),
            [
                "storage::log::child::Thing",
                "storage::log::child::deep",
                "storage::log::child::deep::Other",
                "storage::neighbour::X",
                "storage::log::*",
                "storage::neighbour::Y",
                "storage::log::child::Z",
            ]
        );
    }

    #[test]
    fn owned_crates_are_found_outside_tests() {
        let text = "use glommio::Task;\n#[cfg(test)]\nmod tests {\n    use kafka_wire::X;\n}\n";
        let found = rules::owned_crates(&Source::new("src/partition/mod.rs", text));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1]);
        assert!(rules::owned_crates(&Source::new("src/shard/mod.rs", text)).is_empty());
    }

    #[test]
    fn unsafe_is_found_outside_io_and_without_its_reason() {
        let bare = "fn f() {\n    let x =\n        unsafe { g() };\n}\n";
        let reasoned = "fn f() {\n    // SAFETY: g has no\n    // preconditions.\n    let x =\n        unsafe { g() };\n}\n";
        let lines = |path: &str, text: &str| -> Vec<usize> {
            rules::unsafe_code(&Source::new(path, text)).iter().map(|found| found.line).collect()
        };
        assert_eq!(lines("src/io/a.rs", bare), [3]);
        assert!(lines("src/io/a.rs", reasoned).is_empty());
        assert_eq!(lines("src/server/a.rs", reasoned), [5]);
        assert!(lines("tests/a.rs", reasoned).is_empty());
        assert!(lines("benches/floor/src/ring/a.rs", reasoned).is_empty());
        assert_eq!(lines("benches/floor/src/large.rs", reasoned), [5]);
        assert!(lines("src/server/a.rs", "#![deny(unsafe_code)] // unsafe").is_empty());
    }

    #[test]
    fn sizes_count_code_and_leave_tests_out() {
        let body = "    call();\n".repeat(rules::FUNCTION_LINES_MAX - 2);
        let fits = format!("fn f() {{\n{body}\n    // why\n}}\n");
        let long = format!("fn g(a: [u8; 4]) {{\n    call();\n{body}}}\n");
        assert!(rules::sizes(&Source::new("src/a.rs", &fits)).is_empty());
        assert_eq!(rules::sizes(&Source::new("src/a.rs", &long)).len(), 1);
        let test = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert!(rules::sizes(&Source::new("src/a.rs", &test)).is_empty());
        let file = "use a;\n".repeat(rules::FILE_LINES_MAX + 1);
        assert_eq!(rules::sizes(&Source::new("src/a.rs", &file)).len(), 1);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(rules::header(&Source::new("src/a.rs", "use b;\n")).len(), 1);
        assert_eq!(rules::header(&Source::new("src/a/mod.rs", "//! A.\n")).len(), 1);
        assert!(rules::header(&Source::new("src/a.rs", "//! A.\n")).is_empty());
    }

    const ROUTES: &str = "# Routes\n\n## The way of a produce\n\n| # | stop | what |\n| --- | --- | --- |\n\
        | 1 | `server/listener.rs :: accept` | x |\n| 2 | `shard/router.rs :: Router::append` | y |\n\n\
        ## The way of a fetch\n\n| # | stop | what |\n| 1 | `server/listener.rs :: accept` | x |\n\n\
        ## Beside the routes\n\n| file | why |\n| `config.rs` | settings |\n";

    fn sample(listener: &str) -> BTreeMap<String, Source> {
        [
            ("src/server/listener.rs", listener),
            ("src/server/metadata.rs", "pub fn answer() {}"),
            (
                "src/shard/mod.rs",
                "mod router;\nmod mesh;\npub use router::Router;\npub use mesh::Mesh;",
            ),
            ("src/shard/router.rs", "pub struct Router;\nimpl Router {\n    pub fn append() {}\n}"),
            ("src/shard/mesh.rs", "pub struct Mesh;"),
            ("src/config.rs", "pub struct Config;"),
        ]
        .into_iter()
        .map(|(path, text)| (path.to_owned(), Source::new(path, text)))
        .collect()
    }

    #[test]
    fn the_routes_add_up() {
        let listener = "use crate::config::Config;\nuse crate::base::ids;\nfn accept() {}";
        let (findings, totals) = routes::check(ROUTES, &sample(listener));
        assert_eq!(findings, []);
        let sums: Vec<_> = totals.iter().map(|total| (total.files, total.lines)).collect();
        assert_eq!(sums, [(2, 7), (1, 3)]);
    }

    #[test]
    fn a_missing_file_or_item_is_found() {
        let text = ROUTES.replace("Router::append", "Router::read").replace("config", "settings");
        let (findings, _) = routes::check(&text, &sample("fn other() {}"));
        let found = messages(findings);
        assert_eq!(
            found,
            [
                "18: `src/settings.rs` does not exist",
                "7: `src/server/listener.rs` declares no `accept`",
                "8: `src/shard/router.rs` declares no `Router::read`",
                "13: `src/server/listener.rs` declares no `accept`",
            ]
        );
    }

    #[test]
    fn an_unlisted_module_is_found_through_reexports() {
        let listener =
            "use crate::shard::{Mesh, Router};\nfn accept() { super::metadata::answer() }";
        let (findings, _) = routes::check(ROUTES, &sample(listener));
        let found: Vec<_> = findings
            .iter()
            .map(|finding| (finding.line, finding.message.split(['(', ')']).nth(1).unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                (1, "src/shard/mesh.rs"),
                (2, "src/server/metadata.rs"),
                // On the way of a fetch the router is not listed either.
                (1, "src/shard/mesh.rs"),
                (1, "src/shard/router.rs"),
                (2, "src/server/metadata.rs"),
            ]
        );
    }
}
