//! An answer as a flat list of fields, with what differs between any two brokers taken out: ids,
//! addresses, times, texts.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::batch::HEADER_BYTES;

const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// Fields of an answer by their path, such as `topics[0].partitions[1].error_code`.
pub type Fields = BTreeMap<String, String>;

/// Replaces topic ids by the names of their topics.
#[derive(Default)]
pub struct Names {
    topic_ids: BTreeMap<String, String>,
}

impl Names {
    /// The fields of an answer.
    pub fn fields(&mut self, answer: &impl Debug) -> Fields {
        let mut fields = Fields::new();
        let flat = flatten(&format!("{answer:#?}"));
        for (path, value) in &flat {
            // `topics[NAME].topic_id`; without a name a list element has a number.
            let place = path.strip_suffix("].topic_id").and_then(|path| path.rsplit_once('['));
            if let Some((_, name)) = place.filter(|(_, name)| name.parse::<u32>().is_err()) {
                self.register(value.clone(), name.to_owned());
            }
        }
        for (path, value) in flat {
            let name = field_name(&path);
            if name == "records" && value.starts_with("b\"") {
                for (field, value) in self.batches(&unescape(&value)) {
                    fields.insert(format!("{path}.{field}"), value);
                }
                continue;
            }
            if let Some(value) = self.normalize(name, value) {
                fields.insert(path, value);
            }
        }
        fields
    }

    /// Says which topic an id belongs to.
    pub fn register(&mut self, id: String, name: String) {
        if id != NIL {
            self.topic_ids.insert(id, name);
        }
    }

    fn normalize(&self, name: &str, value: String) -> Option<String> {
        let number: Option<i64> = value.parse().ok();
        let set = number.is_some_and(|number| number >= 0);
        match name {
            "throttle_time_ms" => None,
            "host" | "port" | "rack" | "cluster_id" if value != "None" => Some(format!("<{name}>")),
            "broker_id" | "controller_id" | "leader_id" | "node_id" | "replica_nodes"
            | "isr_nodes"
                if set =>
            {
                Some("<node>".to_owned())
            }
            "leader_epoch" | "current_leader_epoch" | "epoch" if set => Some("<epoch>".to_owned()),
            "session_id" if number.is_some_and(|number| number > 0) => Some("<session>".to_owned()),
            "log_append_time_ms" if set => Some("<time>".to_owned()),
            "error_message" | "documentation" | "batch_index_error_message"
                if !matches!(value.as_str(), "None" | "\"\"") =>
            {
                Some("<text>".to_owned())
            }
            "producer_id" if set => Some("<producer>".to_owned()),
            "topic_id" if value != NIL => Some(match self.topic_ids.get(&value) {
                Some(name) => format!("<id of {name}>"),
                None => "<an unknown id>".to_owned(),
            }),
            _ => Some(value),
        }
    }

    /// The batches of a fetch, without leader epochs and CRCs (which cover the producer's id).
    fn batches(&self, mut bytes: &[u8]) -> Fields {
        let mut fields = Fields::new();
        let mut index = 0;
        while bytes.len() >= HEADER_BYTES {
            let int = |at: usize, len: usize| {
                bytes[at..at + len].iter().fold(0i64, |sum, byte| sum << 8 | i64::from(*byte))
            };
            let end = (int(8, 4).max(0) as usize).saturating_add(12).min(bytes.len());
            if end < HEADER_BYTES {
                break;
            }
            let producer = self.normalize("producer_id", int(43, 8).to_string());
            for (name, value) in [
                ("base_offset", int(0, 8).to_string()),
                ("length", int(8, 4).to_string()),
                ("magic", int(16, 1).to_string()),
                ("attributes", format!("{:#x}", int(21, 2))),
                ("last_offset_delta", (int(23, 4) as i32).to_string()),
                ("base_timestamp", int(27, 8).to_string()),
                ("max_timestamp", int(35, 8).to_string()),
                ("producer_id", producer.unwrap_or_default()),
                ("producer_epoch", (int(51, 2) as i16).to_string()),
                ("base_sequence", (int(53, 4) as i32).to_string()),
                ("count", (int(57, 4) as i32).to_string()),
                ("records", format!("{:08x}", crc32c::crc32c(&bytes[HEADER_BYTES..end]))),
            ] {
                fields.insert(format!("batch[{index}].{name}"), value);
            }
            bytes = &bytes[end..];
            index += 1;
        }
        fields.insert("bytes_behind_batches".to_owned(), bytes.len().to_string());
        fields
    }
}

/// The last field of a path, without the place in a list (which may hold dots).
fn field_name(path: &str) -> &str {
    let inner = path.strip_suffix(']').and_then(|inner| inner.rsplit_once('['));
    let path = inner.map_or(path, |(list, _)| list);
    path.rsplit('.').next().unwrap_or_default()
}

/// The leaves of a value's pretty `Debug` text, each with its path.
fn flatten(debug: &str) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    Tree::read(&mut debug.lines()).leaves(String::new(), &mut leaves);
    leaves
}

/// A value as its pretty `Debug` text shows it. Parentheses (`Some(`, newtypes) add nothing.
#[derive(Clone)]
enum Tree {
    Leaf(String),
    Fields(Vec<(String, Tree)>),
    List(Vec<Tree>),
}

impl Tree {
    fn read<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Tree {
        let line = lines.next().unwrap_or_default();
        Tree::read_value(line.trim().trim_end_matches(','), lines)
    }

    fn read_value<'a>(text: &str, lines: &mut impl Iterator<Item = &'a str>) -> Tree {
        let opened = if text.starts_with('"') { None } else { text.chars().last() };
        match opened {
            Some('(') => {
                let inner = Tree::read(lines);
                lines.next();
                inner
            }
            Some('[') => {
                let mut elements = Vec::new();
                while let Some(line) = lines.next().map(|line| line.trim().trim_end_matches(','))
                    && line != "]"
                {
                    elements.push(Tree::read_value(line, lines));
                }
                Tree::List(elements)
            }
            Some('{') => {
                let mut fields = Vec::new();
                while let Some(line) = lines.next().map(|line| line.trim().trim_end_matches(','))
                    && line != "}"
                {
                    let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                    fields.push((name.to_owned(), Tree::read_value(value, lines)));
                }
                Tree::Fields(fields)
            }
            _ => Tree::Leaf(text.to_owned()),
        }
    }

    /// What tells an element of a list from its neighbours, whatever else it says. Answers name
    /// what they are about: where an element stands in its list says nothing.
    fn identity(&self) -> Option<String> {
        const NAMES: [&str; 8] = [
            "name",
            "topic",
            "topic_name",
            "partition_index",
            "partition",
            "index",
            "resource_name",
            "api_key",
        ];
        let Tree::Fields(fields) = self else { return None };
        NAMES.iter().find_map(|name| match fields.iter().find(|(field, _)| field == name) {
            Some((_, Tree::Leaf(text))) if !matches!(text.as_str(), "None" | "\"\"") => {
                Some(text.trim_matches('"').to_owned())
            }
            _ => None,
        })
    }

    fn leaves(&self, path: String, found: &mut Vec<(String, String)>) {
        match self {
            Tree::Leaf(text) if !path.ends_with("unknown_tagged_fields") => {
                found.push((path, text.clone()));
            }
            Tree::Leaf(_) => {}
            Tree::Fields(fields) => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    value.leaves(format!("{path}{dot}{name}"), found);
                }
            }
            Tree::List(elements) => {
                let names: Vec<_> = elements.iter().map(Tree::identity).collect();
                let mut nameless = 0;
                for (index, element) in elements.iter().enumerate() {
                    let name = names[index].as_ref();
                    let once = name.filter(|name| {
                        names.iter().flatten().filter(|other| other == name).count() == 1
                    });
                    let place = once.cloned().unwrap_or_else(|| {
                        nameless += 1;
                        (nameless - 1).to_string()
                    });
                    element.leaves(format!("{path}[{place}]"), found);
                }
            }
        }
    }
}

/// The bytes of a `b"…"` literal as `Bytes` prints it.
fn unescape(literal: &str) -> Vec<u8> {
    let inner = literal
        .strip_prefix("b\"")
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default()
        .as_bytes();
    let mut bytes = Vec::with_capacity(inner.len());
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' || at + 1 >= inner.len() {
            bytes.push(inner[at]);
            at += 1;
            continue;
        }
        match inner[at + 1] {
            b'x' => {
                let digits = inner.get(at + 2..at + 4).unwrap_or_default();
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or_default());
                at += 4;
            }
            other => {
                bytes.push(match other {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'0' => 0,
                    other => other,
                });
                at += 2;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[derive(Debug)]
    struct Wrapped(#[expect(dead_code, reason = "printed")] String);

    #[derive(Debug)]
    #[expect(dead_code, reason = "printed")]
    struct Part {
        error_code: i16,
        name: Option<Wrapped>,
        leader_epoch: i32,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "printed")]
    struct Answer {
        throttle_time_ms: i32,
        parts: Vec<Part>,
        none: Vec<i32>,
        some: Vec<i32>,
        topic_id: &'static str,
    }

    #[test]
    fn an_answer_becomes_flat_fields() {
        let part = |name: Option<&str>| Part {
            error_code: 3,
            name: name.map(|name| Wrapped(name.to_owned())),
            leader_epoch: 7,
        };
        let answer = Answer {
            throttle_time_ms: 5,
            parts: vec![part(Some("a: b{")), part(None)],
            none: Vec::new(),
            some: vec![4],
            topic_id: "x",
        };
        let fields = Names::default().fields(&answer);
        let text: Vec<_> = fields.iter().map(|(path, value)| format!("{path}={value}")).collect();
        assert_eq!(
            text,
            [
                "none=[]",
                "parts[0].error_code=3",
                "parts[0].leader_epoch=<epoch>",
                "parts[0].name=None",
                "parts[a: b{].error_code=3",
                "parts[a: b{].leader_epoch=<epoch>",
                "parts[a: b{].name=\"a: b{\"",
                "some[0]=4",
                "topic_id=<an unknown id>",
            ]
        );
    }

    #[test]
    fn bytes_survive_their_debug_text() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&format!("{:?}", Bytes::from(all.clone()))), all);
    }
}
