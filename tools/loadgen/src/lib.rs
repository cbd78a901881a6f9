//! `thalweg-bench`: measures brokers that speak Kafka's wire protocol.
//!
//! One pinned executor for each load core, on the broker library's own ring, protocol and record
//! modules; open loop with latency from the intended send time, or closed loop for comparison.
//! It drives Apache Kafka as well as Thalweg, and says when it, not the broker, was the limit.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`units`], [`args`] | what people type |
//! | [`workload`] | what is offered and read back: one struct, filled by flags and files |
//! | [`clock`] | the run's one clock |
//! | [`wire`] | prebuilt Produce and Fetch, answers read in place |
//! | [`measure`] | counters, histograms, percentiles, `/proc` |
//! | [`client`] | connections and the requests around a run |
//! | [`load`] | one load core: schedule, lanes, consumers |
//! | [`run`] | a whole run, from topic to report |
//! | [`report`] | the table, the JSON, the page, the live line, the warnings |
//! | [`chart`] | pictures: SVG and PNG |
//! | [`compare`] | runs beside each other, from their JSON |
//! | [`saturate`] | the search for the highest rate that is held |
//! | [`limits`] | what this tool can offer, beside raw senders |
//! | [`agents`] | one run over several processes or hosts |
//! | [`compare_brokers`] | Thalweg and Apache Kafka in turn, one report |
//! | [`null_broker`] | the other end for measuring and testing the generator itself |
//! | [`first_light`] | a broker of its own, for a first look |

pub mod agents;
pub mod args;
pub mod chart;
pub mod client;
pub mod clock;
pub mod compare;
pub mod compare_brokers;
pub mod first_light;
pub mod limits;
pub mod load;
pub mod measure;
pub mod null_broker;
pub mod report;
pub mod run;
pub mod saturate;
pub mod units;
pub mod wire;
pub mod workload;
