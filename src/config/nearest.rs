//! The known name that is most like a mistyped one.

/// The name with the fewest insertions, deletions and replacements to `wanted`; of equals the
/// first. Empty if there are no names.
pub(super) fn nearest_name(
    wanted: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> &'static str {
    // A name of absurd length is like none; comparing all of it would only take time.
    let wanted: Vec<char> = wanted.chars().take(100).collect();
    names.into_iter().min_by_key(|name| distance(&wanted, name)).unwrap_or_default()
}

fn distance(wanted: &[char], name: &str) -> usize {
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (above, symbol) in name.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(wanted) {
            let replaced = diagonal + usize::from(symbol != *other);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = ["num.partitions", "node.id", "log.retention.ms", "log.retention.bytes"];
        for (slip, meant) in [
            ("num.partition", "num.partitions"),
            ("log.retension.ms", "log.retention.ms"),
            ("nodeid", "node.id"),
            ("", "node.id"),
        ] {
            assert_eq!(nearest_name(slip, names), meant);
        }
        assert_eq!(distance(&['a', 'b', 'c'], "abc"), 0);
        assert_eq!(distance(&['k', 'i', 't', 't', 'e', 'n'], "sitting"), 3);
    }
}
