//! The load itself: one pinned executor for each load core, nothing shared between them.
//!
//! Not here: what came out (`measure`, `report`) and what a request looks like (`wire`).
//! Lives on: the load cores. Invariant: an intended send time never moves.
//! Callers: `run`.

pub mod choice;
pub mod churn;
pub mod consumer;
pub mod core;
pub mod frame_pool;
pub mod lane;
pub mod pacer;
pub mod progress;
pub mod rebalance;
pub mod recorder;
pub mod schedule;
pub mod slots;
pub mod txn;
pub mod verify;
