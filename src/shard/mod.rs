//! One core: its executor, its stores, the partitions that it owns, and the mesh to other cores.
//!
//! Not here: what a cluster is (placement is decided above and arrives as calls), and Kafka's wire.
//! Lives on: exactly one pinned executor thread each; nothing of it is shared but the mesh's queues.
//! Invariants: a partition is touched only by its owner's thread; what crosses cores crosses in a
//! [`mesh::Message`], first in first out for each pair of cores.
//! Callers: `cluster::reconcile` opens and closes partitions; `server` routes requests.

pub mod budget;
pub mod compaction;
pub mod log_starts;
pub mod mesh;
pub mod reads;
pub mod router;
pub mod runtime;
pub mod scrub;
pub mod stores;
pub mod table;
pub mod task;
