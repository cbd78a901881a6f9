//! The cases, by family of requests. A case's name is the same for both brokers and unique.

mod compaction;
mod configs;
mod deletions;
mod describe;
mod fetch;
mod frames;
mod idempotence;
mod offsets;
mod produce;
mod records;
mod topics;

use super::script::Script;

pub fn run(script: &mut Script) {
    describe::run(script);
    topics::run(script);
    configs::run(script);
    produce::run(script);
    records::run(script);
    idempotence::run(script);
    fetch::run(script);
    offsets::run(script);
    deletions::run(script);
    compaction::run(script);
    frames::run(script);
}

/// A timestamp that no broker finds strange: 2023-11-14.
const BASE_TIMESTAMP: i64 = 1_700_000_000_000;
