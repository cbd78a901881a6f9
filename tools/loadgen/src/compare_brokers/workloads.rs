//! The workloads of the comparison: names for people, flags for `thalweg-bench run`.

use crate::run::RunError;

/// One workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name in the tables; `--workload` chooses by a part of it.
    pub name: &'static str,
    /// The flags that make it, without rate and times.
    pub flags: &'static str,
    /// Consumers that read it back, where reading is compared at all.
    pub readers: Option<u32>,
    /// Whether all runs on a broker share one topic. Making and deleting a thousand partitions for
    /// each run keeps Kafka busy with its files for longer than a run takes.
    pub keeps_topic: bool,
}

const fn workload(name: &'static str, flags: &'static str) -> Workload {
    Workload { name, flags, readers: None, keeps_topic: false }
}

/// All of them. The first four carry large batches; a batch of 16 KiB is what Kafka's own producer
/// sends as it ships.
pub const WORKLOADS: [Workload; 7] = [
    Workload {
        readers: Some(1),
        ..workload(
            "1 partition, 1 KiB",
            "--producers 1 --partitions 1 --record-bytes 1024 --batch-records 1000 --in-flight 5",
        )
    },
    Workload {
        readers: Some(1),
        ..workload(
            "1 partition, 100 B",
            "--producers 1 --partitions 1 --record-bytes 100 --batch-records 9000 --in-flight 5",
        )
    },
    Workload {
        readers: Some(8),
        keeps_topic: true,
        ..workload(
            "1,000 partitions, 1 KiB",
            "--producers 8 --partitions 1000 --record-bytes 1024 --batch-records 100 --in-flight 5",
        )
    },
    Workload {
        readers: Some(8),
        keeps_topic: true,
        ..workload(
            "1,000 partitions, 100 B",
            "--producers 8 --partitions 1000 --record-bytes 100 --batch-records 1000 --in-flight 5",
        )
    },
    workload(
        "16 KiB batches, 1 KiB",
        "--producers 1 --partitions 1 --record-bytes 1024 --batch-records 15 --in-flight 5",
    ),
    workload(
        "16 KiB batches, 100 B",
        "--producers 1 --partitions 1 --record-bytes 100 --batch-records 150 --in-flight 5",
    ),
    workload(
        "64 connections, 1 record of 1 KiB",
        "--producers 64 --partitions 64 --record-bytes 1024 --batch-records 1 --in-flight 1",
    ),
];

/// Those with any of `texts` in their names; all if there is none.
///
/// # Errors
/// A text that no name has.
pub fn chosen(texts: &[String]) -> Result<Vec<Workload>, RunError> {
    for text in texts {
        if !WORKLOADS.iter().any(|it| it.name.contains(text.as_str())) {
            let names: Vec<&str> = WORKLOADS.iter().map(|it| it.name).collect();
            let names = names.join("`, `");
            return Err(RunError::Flags(format!(
                "no workload has `{text}` in its name; there are `{names}`"
            )));
        }
    }
    let wanted = |it: &Workload| {
        texts.is_empty() || texts.iter().any(|text| it.name.contains(text.as_str()))
    };
    Ok(WORKLOADS.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_chosen_by_a_part_of_their_names_or_refused() {
        let names = |texts: &[&str]| -> Vec<&str> {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            chosen(&texts).expect("known").into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(&[]).len(), WORKLOADS.len());
        assert_eq!(names(&["16 KiB"]), ["16 KiB batches, 1 KiB", "16 KiB batches, 100 B"]);
        assert_eq!(names(&["64", "1 partition, 100"]).len(), 2);
        assert!(chosen(&["2 MiB".to_owned()]).is_err_and(|error| error.to_string().contains("64")));
    }
}
