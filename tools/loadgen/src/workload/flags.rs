//! A workload from the command line: a file, if one is named, and flags over it.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{Workload, file};

/// Where workloads come from.
#[derive(Args, Clone, Debug)]
struct Choice {
    /// Read the workload from this file; flags override it. A file may hold several workloads, which
    /// then run one after the other (see `tools/loadgen/workloads`)
    #[arg(id = "workload_file", long = "workload", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Of a file with several workloads, only the one with this name; may be repeated
    #[arg(id = "workload_names", long = "only", value_name = "NAME", requires = "workload_file")]
    names: Vec<String>,
}

/// The workloads that flags and file ask for: one at least.
#[derive(Clone, Debug)]
pub struct WorkloadArgs {
    list: Vec<Workload>,
}

impl WorkloadArgs {
    /// All of them, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Workload] {
        &self.list
    }

    /// The only one; where a command takes no more.
    ///
    /// # Errors
    /// A sentence with their names, if there are several.
    pub fn only(&self) -> Result<&Workload, String> {
        match &self.list[..] {
            [only] => Ok(only),
            several => {
                let names: Vec<&str> = several.iter().map(|it| it.name.as_str()).collect();
                Err(format!("this needs one workload: choose with --only among {names:?}"))
            }
        }
    }
}

impl From<Workload> for WorkloadArgs {
    fn from(workload: Workload) -> WorkloadArgs {
        WorkloadArgs { list: vec![workload] }
    }
}

impl Args for WorkloadArgs {
    fn augment_args(command: Command) -> Command {
        // "For update": no flag is required, and what is not given changes nothing.
        Workload::augment_args_for_update(Choice::augment_args(command))
    }

    fn augment_args_for_update(command: Command) -> Command {
        WorkloadArgs::augment_args(command)
    }
}

impl FromArgMatches for WorkloadArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<WorkloadArgs, clap::Error> {
        let choice = Choice::from_arg_matches(matches)?;
        let wrong = |text: String| clap::Error::raw(ErrorKind::ValueValidation, text + "\n");
        let mut list = match &choice.file {
            None => vec![Workload::default()],
            Some(path) => file::read(path, &choice.names).map_err(wrong)?,
        };
        for workload in &mut list {
            workload.update_from_arg_matches(matches)?;
        }
        Ok(WorkloadArgs { list: list.into_iter().map(Workload::settled).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = WorkloadArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        workload: WorkloadArgs,
    }

    fn parse(line: &str) -> Result<WorkloadArgs, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.workload)
    }

    #[test]
    fn no_flag_has_a_default_that_would_override_a_file() {
        let command = Workload::augment_args_for_update(Command::new("x"));
        for arg in command.get_arguments() {
            assert!(arg.get_default_values().is_empty(), "{arg}");
            // A flag without a value is false where it is not given, whatever the file says.
            assert!(arg.get_action().takes_values(), "{arg}: give it `default_missing_value`");
        }
    }

    #[test]
    fn without_a_file_the_defaults_stand_and_flags_change_them() {
        let workload = parse("x --producers 3 --idempotent --rate 5MB/s").expect("flags");
        let expected = Workload {
            producers: 3,
            idempotent: true,
            rate: Rate::BytesPerSecond(5e6),
            ..Workload::default()
        };
        assert_eq!(workload.all(), [expected]);
    }

    #[test]
    fn flags_override_the_file_and_everything_else_stands() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("w.toml");
        let text = "producers = 7\nidempotent = true\nverify = true\nacks = 1\nrecord_bytes = 99\n";
        std::fs::write(&path, text).expect("writes");
        let line = format!("x --workload {} --producers 2 --verify=false", path.display());
        let found = parse(&line).expect("flags");
        let expected = Workload {
            producers: 2,
            idempotent: true,
            acks: crate::args::Acks::Leader,
            record_bytes: super::super::sizes::RecordBytes::Fixed(99),
            ..Workload::default()
        };
        assert_eq!(found.only(), Ok(&expected));
    }

    #[test]
    fn a_file_that_is_not_there_or_wrong_is_a_wrong_flag() {
        let error = parse("x --workload /nowhere/w.toml").expect_err("no such file");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("/nowhere/w.toml"), "{error}");
        assert!(parse("x --only a").is_err(), "--only needs a file");
    }

    #[test]
    fn steps_decide_the_duration() {
        let found = parse("x --steps 1MB/s:2s,3MB/s:500ms").expect("flags");
        let workload = found.only().expect("one");
        assert_eq!(workload.duration.as_millis(), 2500);
        assert_eq!(workload.rates().len(), 2);
        assert!(!workload.is_closed_loop());
    }
}
