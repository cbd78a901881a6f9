//! The flags of `coordinate` and `agent`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::args::{Idle, RunArgs};
use crate::units::{parse_cpus, parse_duration};

/// The coordinator's own flags; all the others are the run's, and go to the agents as they are.
const OWN_FLAGS: [&str; 3] = ["--listen", "--agents", "--agent-wait"];

/// `thalweg-bench coordinate`.
#[derive(Args, Clone, Debug)]
pub struct CoordinateArgs {
    /// Where agents find the coordinator. Whoever reaches it takes part: for networks that are
    /// trusted.
    #[arg(long)]
    pub listen: SocketAddr,
    /// How many agents share the load.
    #[arg(long)]
    pub agents: u32,
    /// How long to wait for them.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub agent_wait: Duration,
    /// The run. `--cores` and `--idle` are the agents' own, `--broker-pid` is of this machine.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `thalweg-bench agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// HOST:PORT of the coordinator.
    #[arg(long)]
    pub coordinator: String,
    /// CPU ids of this agent's load cores, like `1` or `2,3`. Default: all that it may use but the
    /// first.
    #[arg(long, value_parser = parse_cpus)]
    pub cores: Option<std::vec::Vec<usize>>,
    /// What an idle load core does.
    #[arg(long, default_value = "spin")]
    pub idle: Idle,
    /// How long to wait for the coordinator, and for its other agents.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub wait: Duration,
}

/// The run's flags among all `words` behind `coordinate`.
#[must_use]
pub fn run_flags(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut flags = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if !OWN_FLAGS.contains(&name) {
            flags.push(word);
        } else if name == word {
            // Its value follows.
            words.next();
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_s_flags_are_all_but_the_coordinator_s_own() {
        let words = "--listen 0.0.0.0:7000 --bootstrap b:1 --agents=2 --rate max --agent-wait 5s \
                     --acks=all --agents 3 --quiet";
        let flags = run_flags(words.split_whitespace().map(str::to_owned));
        assert_eq!(flags.join(" "), "--bootstrap b:1 --rate max --acks=all --quiet");
    }
}
