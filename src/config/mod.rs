//! Settings: flags over environment over file over defaults, checked by name before anything
//! starts, and the tables of configuration names that the Kafka door shows.
//!
//! Not here: what the settings do; values that change at run time (those are metadata).
//! Lives on the main thread at the start; the results are plain values, passed down.
//! Invariants: every effective value passed its definition's check and knows its source.
//! Callers: `main` builds it; `storage` and all above it may read it; `base`, `record`, `io` and
//! `protocol` never do.

pub mod definition;
pub mod topic_definitions;
