//! The cluster's metadata: the log of commands, the image they add up to, who decides, where it is
//! kept, and which data directories belong to it.
//!
//! Not here: the records of partitions, Kafka's wire, error codes, the opening of logs.
//! Lives on the control thread; [`image::MetadataImage`] is shared with every shard as an `Arc`,
//! and [`controller::ControllerHandle`] may be used from any of them.
//! Invariants: a command is durable before its effect is visible; the same commands make the same
//! image; producer ids and leader epochs never go back; after the first failed write nothing more
//! is decided.
//! Callers: `server` (handlers), `main` (start and stop).

pub mod broker_config;
pub mod command;
pub mod controller;
pub mod directory;
pub mod directory_states;
mod encoding;
pub mod identity;
pub mod image;
pub mod inspect;
pub mod partition_config;
pub mod placement;
pub mod preflight;
pub mod reconcile;
pub mod store;
pub mod topic_config;
pub mod topic_name;

pub use encoding::DecodeError;
