//! One run over several processes or hosts: a coordinator, and agents that take shares of the load.
//!
//! The load is planned as for one process with the load cores of all agents; an agent takes its
//! cores of that plan. So rate, connections and partitions are split as they are between cores, and
//! what the agents send each second is merged as if it came from cores of the coordinator's own:
//! percentiles come from merged histograms.
//!
//! Not here: the load (`load`), the plan and the collector (`run`). Plain threads and sockets: this
//! is beside the hot path. Invariants: all agents use one clock and one start; a run in which an
//! agent was lost has no report.
//! Callers: `main`.

pub mod agent;
pub mod args;
pub mod clock;
pub mod coordinator;
mod reader;
pub mod wire;

use serde::Serialize;

/// An agent that took part in a run.
#[derive(Clone, Debug, Serialize)]
pub struct AgentFigures {
    /// Name of its host.
    pub host: String,
    /// Where it called from.
    pub address: String,
    /// CPU ids of its load cores.
    pub cores: Vec<usize>,
    /// Its monotonic clock less the coordinator's, µs; 0 where both are one clock. Between hosts it
    /// is any number: such clocks begin with their machines.
    pub clock_offset_us: f64,
    /// How far off that may be, µs.
    pub clock_uncertainty_us: f64,
}
