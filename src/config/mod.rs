//! Settings: flags over environment over file over defaults, checked by name before anything
//! starts, and the tables of configuration names that the Kafka door shows.
//!
//! Not here: what the settings do; values that change at run time (those are metadata).
//! Lives on the main thread at the start; the results are plain values, passed down.
//! Invariants: every effective value passed its definition's check and knows its source.
//! Callers: `main` builds it; `storage` and all above it may read it; `base`, `record`, `io` and
//! `protocol` never do.

pub mod broker_definitions;
pub mod cli;
pub mod definition;
pub mod exit;
mod nearest;
pub mod settings;
pub mod settings_table;
pub mod source;
pub mod topic_definitions;
mod values;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use self::definition::InvalidValue;
use self::source::Source;

/// Why the settings cannot be used. All of them end the program with [`exit::Exit::Usage`].
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("settings file {path}: {source}")]
    ReadFile {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The settings file is not TOML.
    #[error("settings file {path}: {text}")]
    ParseFile {
        /// Which file.
        path: PathBuf,
        /// Where and why, in several lines.
        text: String,
    },
    /// A date or a table stands where a value should.
    #[error("{name} ({origin}) is neither text, number, boolean nor list of these")]
    NotAValue {
        /// The setting.
        name: String,
        /// Where.
        origin: Source,
    },
    /// `--set` without `=`.
    #[error("--set {0}: expected KEY=VALUE")]
    NotKeyValue(String),
    /// Directories are separated by commas, so a name cannot hold one.
    #[error("--data-dir {0}: a data directory's name cannot hold a comma")]
    CommaInDirectory(String),
    /// No setting has that name.
    #[error("unknown setting {name} ({origin}); the nearest is {nearest}")]
    UnknownName {
        /// As it was written.
        name: String,
        /// Where.
        origin: Source,
        /// The known name that is most like it.
        nearest: &'static str,
    },
    /// The value is not legal.
    #[error("{error} ({origin})")]
    InvalidValue {
        /// What is wrong.
        error: InvalidValue,
        /// Where.
        origin: Source,
    },
    /// Others could reach the broker, and nobody said that this is meant.
    #[error(
        "listen {address} ({origin}) can be reached from other machines, without TLS or login; \
         add --insecure if that is meant"
    )]
    Insecure {
        /// The address.
        address: SocketAddr,
        /// Where it was set.
        origin: Source,
    },
}
