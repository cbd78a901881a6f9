//! Devices: aligned buffers, files, sockets, the ring that drives them, and their simulated twins.
//! All `unsafe` of the broker lives here.
//!
//! Not here: what bytes mean. No offsets, no batches, no protocol.
//! Lives on: the core whose [`reactor`] it was opened on; [`buf::IoBuf`] and frozen `Bytes` may
//! travel and may be dropped anywhere.
//! Invariant: memory that the kernel may still touch is owned by the reactor until the completion
//! has been seen, whatever happens to the future that waits for it.
//! Callers: `storage` (disk), `shard` and `server` (sockets, doorbell).

pub mod buf;
pub mod disk;
pub mod file;
pub mod foreign;
pub mod reactor;
pub mod sim_disk;
pub mod sim_tcp;
pub mod tcp;

mod pool;
mod ring_disk;
mod ring_file;
mod ring_tcp;
mod sim_fault;
mod sim_file;
mod sim_node;
mod sockaddr;

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod sim_tests;

pub use disk::supports_direct;
pub use reactor::probe_io_uring;
pub use ring_file::RingFile;
pub use ring_tcp::{RingListener, RingStream};
pub use sim_fault::{SimFault, SimOp};
pub use sim_file::SimFile;
pub mod sys;
