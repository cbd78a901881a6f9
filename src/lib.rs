//! Thalweg: a log broker for Linux that speaks Apache Kafka's wire protocol.
//!
//! One *shard* is one pinned glommio executor on one core. Every partition has exactly one owner
//! shard, and only the owner touches its state. The floors below are in the order in which modules
//! may use each other: a module uses lower floors only, and neighbours never see each other.
//! `tests/tidy.rs` enforces that.
//!
//! | floor | modules | what they are |
//! | --- | --- | --- |
//! | 0 | [`base`] | words: ids, offsets, epochs, limits, CRC, clock |
//! | 1 | [`record`], [`io`] | the one batch format of wire and disk; devices and all `unsafe` |
//! | 2 | [`protocol`], [`storage`] | Kafka's wire; one core's journal and its partitions' logs |
//! | 3 | [`partition`] | one partition on its owning core |
//! | 4 | [`shard`] | one core: runtime, mesh, router |
//! | 5 | [`cluster`] | metadata: commands, image, store |
//! | 7 | [`server`] | the Kafka door |
//!
//! The two routes, stop by stop, are in `docs/ROUTES.md`.

pub mod base;
pub mod config;

pub mod io;
pub mod record;

pub mod protocol;
pub mod storage;

pub mod partition;

pub mod shard;

pub mod cluster;

pub mod server;
