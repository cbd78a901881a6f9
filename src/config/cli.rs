//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::ConfigError;
use super::source::{RawSetting, Source};

/// A log broker that speaks Apache Kafka's wire protocol.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until SIGTERM or SIGINT.
    Start(StartFlags),
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What can be asked about settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting with its value, where the value comes from, and what it means.
    Explain(StartFlags),
}

/// Flags of `thalweg start`. They beat the environment (`THALWEG_LOG_RETENTION_MS` sets
/// `log.retention.ms`), which beats the file, which beats the defaults.
#[derive(Args, Clone, Debug, Default)]
pub struct StartFlags {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE", env = super::source::CONFIG_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Data directory; repeat the flag to spread partitions over several.
    #[arg(long = "data-dir", value_name = "DIR")]
    pub data_dirs: Vec<String>,
    /// Where clients are served.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// CPU ids to run on, one shard on each: `0`, `0,1` or `0-3`; by default all that the process
    /// may use.
    #[arg(long, value_name = "LIST")]
    pub cores: Option<String>,
    /// Any setting by its name; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Listen beyond this machine, though there is no TLS and no login.
    #[arg(long)]
    pub insecure: bool,
}

impl StartFlags {
    /// The settings in these flags, the weakest first: `--set` before the flags of their own.
    pub(super) fn raw_settings(&self) -> Result<Vec<RawSetting>, ConfigError> {
        let mut found = Vec::new();
        for text in &self.set {
            let (name, value) =
                text.split_once('=').ok_or_else(|| ConfigError::NotKeyValue(text.clone()))?;
            found.push(RawSetting {
                name: name.trim().to_owned(),
                value: value.to_owned(),
                source: Source::Flag(format!("--set {text}")),
            });
        }
        let mut add = |name: &str, flag: &str, value: String| {
            let source = Source::Flag(flag.to_owned());
            found.push(RawSetting { name: name.to_owned(), value, source });
        };
        if !self.data_dirs.is_empty() {
            if let Some(dir) = self.data_dirs.iter().find(|dir| dir.contains(',')) {
                return Err(ConfigError::CommaInDirectory(dir.clone()));
            }
            add("log.dirs", "--data-dir", self.data_dirs.join(","));
        }
        if let Some(listen) = &self.listen {
            add("listen", "--listen", listen.clone());
        }
        if let Some(cores) = &self.cores {
            add("cores", "--cores", cores.clone());
        }
        if self.insecure {
            add("insecure", "--insecure", "true".to_owned());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_that_scripts_rely_on_parse() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from([
            "thalweg",
            "start",
            "--config",
            "f.toml",
            "--data-dir",
            "a",
            "--data-dir",
            "b",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            "0-1",
            "--set",
            "num.partitions=4",
            "--insecure",
        ])
        .unwrap();
        let Command::Start(flags) = cli.command else { panic!("not start") };
        let raw = flags.raw_settings().unwrap();
        let pairs: Vec<(&str, &str)> =
            raw.iter().map(|raw| (raw.name.as_str(), raw.value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("num.partitions", "4"),
                ("log.dirs", "a,b"),
                ("listen", "127.0.0.1:0"),
                ("cores", "0-1"),
                ("insecure", "true"),
            ]
        );
    }

    #[test]
    fn a_set_without_a_value_is_refused() {
        let flags = StartFlags { set: vec!["num.partitions".into()], ..StartFlags::default() };
        assert!(matches!(flags.raw_settings(), Err(ConfigError::NotKeyValue(_))));
    }
}
