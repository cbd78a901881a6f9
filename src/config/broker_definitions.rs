//! Kafka 4.3's broker configurations that are no settings of this broker. Tools expect to see all of
//! them; most have no effect here, and say so.

use std::sync::LazyLock;

use super::definition::{Definition, Kind, Valid};

const TABLE: &str = include_str!("broker_definitions.txt");

static ALL: LazyLock<Vec<Definition>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| parse_line(line).expect("a test reads every line of the table")).collect()
});

/// All of them, by name.
#[must_use]
pub fn broker_definitions() -> &'static [Definition] {
    &ALL
}

fn parse_line(line: &'static str) -> Option<Definition> {
    let mut fields = line.split('|');
    let name = fields.next()?;
    let kind = match fields.next()? {
        "boolean" => Kind::Boolean,
        "string" => Kind::String,
        "short" => Kind::Short,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "double" => Kind::Double,
        "list" => Kind::List,
        "class" => Kind::Class,
        "password" => Kind::Password,
        _ => return None,
    };
    let default = match fields.next()? {
        "-" => None,
        value => Some(value.strip_prefix('=')?),
    };
    let meaning = fields.next()?;
    if fields.next().is_some() {
        return None;
    }
    let doc = match meaning.strip_prefix('*') {
        Some(meaning) => meaning,
        // Once for each line of a fixed table, kept for as long as the table.
        None => String::leak(format!("{meaning} Kafka's; no effect here.")),
    };
    Some(Definition::new(name, kind, default, Valid::Any, doc))
}

#[cfg(test)]
mod tests {
    use super::super::settings_table::settings;
    use super::*;

    #[test]
    fn every_line_reads_and_its_default_is_of_its_kind() {
        let all = broker_definitions();
        assert!(all.is_sorted_by_key(Definition::name));
        for definition in all {
            if let Some(default) = definition.default_value() {
                definition.check(default).expect(default);
            }
            assert!(definition.doc().ends_with('.'), "{}", definition.name());
        }
    }

    #[test]
    fn together_with_the_settings_all_of_kafkas_names_are_there_once() {
        let mut names: Vec<&str> = broker_definitions().iter().map(Definition::name).collect();
        // Settings with names of our own; everything else is one of Kafka 4.3.0's 340.
        let own = [
            "advertised.host",
            "advertised.port",
            "cores",
            "disk.reserve.bytes",
            "insecure",
            "journal.file.bytes",
            "journal.file.count",
            "listen",
            "log.format",
            "log.level",
            "read.ahead.bytes",
            "read.cache.bytes",
            "record.validation",
            "scrub.bytes.per.second",
            "scrub.interval.ms",
            "shard.idle.spin.us",
            "shard.memory.bytes",
            "shutdown.timeout.ms",
        ];
        names.extend(settings().iter().map(|row| row.definition().name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name is there twice");
        assert_eq!(count - own.len(), 340);
        assert!(own.iter().all(|name| names.contains(name)));
    }
}
