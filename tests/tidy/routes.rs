//! docs/ROUTES.md against the code: each route's files and items exist, a route is short enough to
//! read in one sitting, and its files use no module that the document does not name.
//!
//! The document holds one `##` chapter for each route (its title names the way of a produce or of
//! a fetch) with a table whose rows name stops as `` `server/listener.rs :: accept` `` (paths from
//! `src/`; the item is a function, a type, or `Type::method`). One more chapter, whose title
//! begins with "Beside", lists in backticks the files or folders that the routes' files may use
//! without being part of them, each with its reason.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::Finding;
use crate::source::Source;

pub const ROUTES_PATH: &str = "docs/ROUTES.md";
pub const ROUTE_LINES_MAX: usize = 2_500;

/// Modules that every route may use.
const ALWAYS: [&str; 3] = ["base", "record", "io"];

/// A stop of a route.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// From the root of the checkout.
    pub path: String,
    pub item: String,
    pub line: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub title: String,
    pub stops: Vec<Stop>,
}

impl Route {
    pub fn files(&self) -> BTreeSet<&str> {
        self.stops.iter().map(|stop| stop.path.as_str()).collect()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Routes {
    pub routes: Vec<Route>,
    /// Files and folders (with a `/` at the end) beside the routes, and their lines.
    pub beside: Vec<(String, usize)>,
}

/// Reads the document.
pub fn parse(text: &str) -> Routes {
    let mut routes = Routes::default();
    let mut beside = false;
    let mut on_route = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            beside = title.starts_with("Beside");
            on_route = title.starts_with("The way of a");
            if on_route {
                routes.routes.push(Route { title: title.to_owned(), stops: Vec::new() });
            }
        } else if line.starts_with('|') {
            let quoted = line.split('`').skip(1).step_by(2);
            for name in quoted {
                if let (true, Some((path, item))) = (on_route, name.split_once(" :: ")) {
                    let stop = Stop {
                        path: format!("src/{}", path.trim()),
                        item: item.trim().to_owned(),
                        line: index + 1,
                    };
                    routes.routes.last_mut().expect("a chapter is open").stops.push(stop);
                } else if beside && (name.ends_with(".rs") || name.ends_with('/')) {
                    routes.beside.push((format!("src/{name}"), index + 1));
                }
            }
        }
    }
    routes
}

/// The sum of one route.
#[derive(Debug, PartialEq, Eq)]
pub struct Total {
    pub title: String,
    pub files: usize,
    pub lines: usize,
}

/// Checks the document against `sources`, the files of the package by path.
pub fn check(text: &str, sources: &BTreeMap<String, Source>) -> (Vec<Finding>, Vec<Total>) {
    let routes = parse(text);
    let mut findings = Vec::new();
    let mut totals = Vec::new();
    if routes.routes.len() != 2 {
        let message = format!("two chapters `## The way of a …`, not {}", routes.routes.len());
        findings.push(Finding::new(ROUTES_PATH, 1, message));
    }
    for (path, line) in &routes.beside {
        let exists = match path.strip_suffix('/') {
            Some(_) => sources.keys().any(|file| file.starts_with(path.as_str())),
            None => sources.contains_key(path),
        };
        if !exists {
            findings.push(Finding::new(ROUTES_PATH, *line, format!("`{path}` does not exist")));
        }
    }
    for route in &routes.routes {
        findings.extend(missing(route, sources));
        findings.extend(unlisted(route, &routes, sources));
        let files = route.files();
        let lines =
            files.iter().filter_map(|path| sources.get(*path)).map(Source::code_lines).sum();
        if route.stops.is_empty() {
            findings.push(Finding::new(ROUTES_PATH, 1, format!("{}: no stops", route.title)));
        }
        if lines > ROUTE_LINES_MAX {
            let message =
                format!("{}: {lines} lines of code, at most {ROUTE_LINES_MAX}", route.title);
            findings.push(Finding::new(ROUTES_PATH, 1, message));
        }
        totals.push(Total { title: route.title.clone(), files: files.len(), lines });
    }
    (findings, totals)
}

/// Stops whose file or item is not there.
fn missing(route: &Route, sources: &BTreeMap<String, Source>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for stop in &route.stops {
        let message = match sources.get(&stop.path) {
            None => format!("`{}` does not exist", stop.path),
            Some(source) if !declares(source, &stop.item) => {
                format!("`{}` declares no `{}`", stop.path, stop.item)
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(ROUTES_PATH, stop.line, message));
    }
    findings
}

/// Whether the file declares the item: a name, or `Type::method`.
fn declares(source: &Source, item: &str) -> bool {
    const KEYWORDS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "union"];
    let (owner, name) = match item.rsplit_once("::") {
        Some((owner, name)) => (Some(owner), name),
        None => (None, item),
    };
    let declared = source
        .tokens
        .windows(2)
        .any(|pair| KEYWORDS.contains(&pair[0].text.as_str()) && pair[1].text == name);
    let owned = owner.is_none_or(|owner| source.tokens.iter().any(|token| token.text == owner));
    declared && owned
}

/// Paths in a route's files that lead to files which neither the route nor the chapter "Beside"
/// names, outside [`ALWAYS`].
fn unlisted(route: &Route, routes: &Routes, sources: &BTreeMap<String, Source>) -> Vec<Finding> {
    let files = route.files();
    let listed = |target: &str| {
        let beside = |(path, _): &(String, usize)| {
            path == target || (path.ends_with('/') && target.starts_with(path.as_str()))
        };
        files.contains(target) || routes.beside.iter().any(beside)
    };
    let mut findings = Vec::new();
    for source in files.iter().filter_map(|path| sources.get(*path)) {
        for named in source.named() {
            let free = named.path.first().is_none_or(|first| ALWAYS.contains(&first.as_str()));
            if free || source.test_lines.contains(&named.line) {
                continue;
            }
            for target in targets(&named.path, sources) {
                if target != source.path && !listed(&target) {
                    let message = format!(
                        "`{}` is on \"{}\" and uses `{}` ({target}), which docs/ROUTES.md does not \
                         name",
                        source.path,
                        route.title,
                        named.path.join("::")
                    );
                    findings.push(Finding::new(&source.path, named.line, message));
                }
            }
        }
    }
    findings
}

/// The files that a path leads to: the deepest module file that its segments name, or, where that
/// module re-exports the next segment from a child, the child's file. A glob over a module leads
/// to the module's own file.
fn targets(path: &[String], sources: &BTreeMap<String, Source>) -> Vec<String> {
    for len in (1..=path.len()).rev() {
        let stem = format!("src/{}", path[..len].join("/"));
        let candidates = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
        let Some(file) = candidates.into_iter().find(|file| sources.contains_key(file)) else {
            continue;
        };
        let Some(item) = path.get(len) else {
            return vec![file];
        };
        let source = &sources[&file];
        let reexports: Vec<String> = source
            .named()
            .into_iter()
            .filter(|named| named.path.len() > len + 1 && named.path.last() == Some(item))
            .flat_map(|named| targets(&named.path, sources))
            .collect();
        return if reexports.is_empty() { vec![file] } else { reexports };
    }
    Vec::new()
}
