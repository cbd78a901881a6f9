//! What coordinator and agents say to each other: frames of JSON, with histograms behind it in
//! HdrHistogram's V2 format. A frame is `u32 length of all that follows | u32 length of the JSON |
//! JSON | histograms`, a histogram `u32 length | bytes`; all lengths are big-endian.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::args::Idle;
use crate::load::recorder::Interval;
use crate::measure::ledger::Ledger;
use crate::measure::tally::{Counters, ErrorKey, Tally};

/// Rises with every change; both sides are of one version or do not talk.
pub const PROTOCOL: u32 = 1;
/// A second of a run has a dozen histograms of some KB each; verify mode's books may be larger.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Names of APIs and of latencies that may come from outside; each stays in memory for ever.
const NAMES_MAX: usize = 200;
/// Parts that a run may have: more than steps can be typed.
const PARTS_MAX: usize = 10_000;

/// What the coordinator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ToAgent {
    /// What does your clock say?
    Ping,
    /// Your share.
    Prepare(Share),
    /// Begin.
    Start {
        /// Zero of the run's clock, on the agent's monotonic clock, ns.
        base_mono_ns: i64,
        /// The wall time that belongs to it, ms.
        base_wall_ms: i64,
        /// First send, ns of the run's clock.
        start_ns: u64,
    },
    /// No agent's producers have anything in flight any more.
    AllProduced,
    /// The run is over and told.
    Done,
    /// You cannot take part, or the run is lost.
    Refused {
        /// Why.
        why: String,
    },
}

/// One agent's part of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// Which agent this is, from 1.
    pub number: usize,
    /// The flags of the whole run.
    pub flags: Vec<String>,
    /// The topic; it exists.
    pub topic: String,
    /// Whether consumers read what is there already.
    pub from_beginning: bool,
    /// Index of the agent's first load core among those of all agents.
    pub first_core: usize,
    /// Load cores of all agents.
    pub core_count: usize,
}

/// What an agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FromAgent {
    /// Here I am.
    Hello(Hello),
    /// What my clock says.
    Pong {
        /// Its monotonic clock, ns.
        mono_ns: i64,
    },
    /// Connected to the brokers and ready to begin.
    Ready {
        /// Who leads what, in short: all agents have to see the same.
        leaders: String,
    },
    /// One core's second; histograms follow the JSON.
    Interval {
        /// Index of the core among those of all agents.
        core: usize,
        /// Seconds since the first send.
        second: u64,
        /// Outside the measured part.
        warmup: Box<TallyHead>,
        /// The measured time's parts of which something was seen.
        measured: Vec<(usize, TallyHead)>,
    },
    /// My producers have nothing in flight any more.
    Produced,
    /// All my load cores have ended.
    End {
        /// When, ns of the run's clock.
        finished_ns: u64,
        /// Verify mode's books.
        ledger: Ledger,
    },
    /// I cannot.
    Failed {
        /// Why.
        why: String,
    },
}

/// Who an agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the tool: flags and their meaning belong to it.
    pub version: String,
    /// Name of its host.
    pub host: String,
    /// Names the boot of its kernel: agents of one kernel share a clock.
    pub boot_id: String,
    /// CPU ids of its load cores.
    pub cores: Vec<usize>,
    /// What they do when idle.
    pub idle: Idle,
}

/// A tally without its histograms.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TallyHead {
    counters: Counters,
    /// API, name, count.
    errors: Vec<(String, String, u64)>,
    /// The tags of the histograms that follow, in their order; empty ones do not travel.
    histograms: Vec<String>,
}

/// Sends `message` with `blobs` behind it.
///
/// # Errors
/// What the connection says.
pub fn send<M: Serialize>(stream: &mut impl Write, message: &M, blobs: &[u8]) -> io::Result<()> {
    let json = serde_json::to_vec(message).map_err(io::Error::other)?;
    let all = 4 + json.len() + blobs.len();
    if all > FRAME_BYTES_MAX {
        return Err(io::Error::other("a message of impossible length"));
    }
    let mut frame = Vec::with_capacity(4 + all);
    for len in [all, json.len()] {
        frame.extend_from_slice(&(len as u32).to_be_bytes()); // both are below 64 MiB
    }
    frame.extend_from_slice(&json);
    frame.extend_from_slice(blobs);
    stream.write_all(&frame)
}

/// Receives a message and what is behind it.
///
/// # Errors
/// What the connection says; `InvalidData` if it is not this protocol.
pub fn receive<M: DeserializeOwned>(stream: &mut impl Read) -> io::Result<(M, Vec<u8>)> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let all = u32::from_be_bytes(len) as usize;
    if !(4..=FRAME_BYTES_MAX).contains(&all) {
        return Err(nonsense("a message of impossible length"));
    }
    // Grows with what arrives, not with what was announced.
    let mut frame = Vec::new();
    stream.by_ref().take(all as u64).read_to_end(&mut frame)?;
    if frame.len() < all {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (json_len, rest) = split_len(&frame).ok_or_else(|| nonsense("a message without JSON"))?;
    let json = rest.get(..json_len).ok_or_else(|| nonsense("a message that is cut off"))?;
    let message = serde_json::from_slice(json)
        .map_err(|error| nonsense(&format!("a message that is not understood: {error}")))?;
    Ok((message, rest[json_len..].to_vec()))
}

/// An interval as it travels.
///
/// # Errors
/// When a histogram cannot be written.
pub fn pack(interval: &Interval) -> io::Result<(FromAgent, Vec<u8>)> {
    let mut blobs = Vec::new();
    let warmup = Box::new(pack_tally(&interval.warmup, &mut blobs)?);
    let mut measured = Vec::new();
    for (part, tally) in &interval.measured {
        measured.push((*part, pack_tally(tally, &mut blobs)?));
    }
    let (core, second) = (interval.core, interval.second);
    Ok((FromAgent::Interval { core, second, warmup, measured }, blobs))
}

/// The tallies of an interval that came; `blobs` is what was behind its JSON.
///
/// # Errors
/// `InvalidData` if they do not fit together.
pub fn unpack(
    warmup: &TallyHead,
    measured: &[(usize, TallyHead)],
    mut blobs: &[u8],
) -> io::Result<(Tally, Vec<(usize, Tally)>)> {
    let warmup = unpack_tally(warmup, &mut blobs)?;
    let parts = measured;
    let mut measured = Vec::new();
    for (part, head) in parts {
        if *part >= PARTS_MAX {
            return Err(nonsense("a part that no run has"));
        }
        measured.push((*part, unpack_tally(head, &mut blobs)?));
    }
    if blobs.is_empty() { Ok((warmup, measured)) } else { Err(nonsense("too many histograms")) }
}

fn pack_tally(tally: &Tally, blobs: &mut Vec<u8>) -> io::Result<TallyHead> {
    let mut histograms = Vec::new();
    for (tag, histogram) in tally.latencies.tagged() {
        if histogram.is_empty() {
            continue;
        }
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(|error| io::Error::other(format!("a histogram: {error:?}")))?;
        blobs.extend_from_slice(&(bytes.len() as u32).to_be_bytes()); // some KB
        blobs.extend_from_slice(&bytes);
        histograms.push(tag.to_owned());
    }
    let errors = tally.errors.iter();
    let errors = errors.map(|(key, &count)| (key.api.to_owned(), key.name.clone(), count));
    Ok(TallyHead { counters: tally.counters.clone(), errors: errors.collect(), histograms })
}

fn unpack_tally(head: &TallyHead, blobs: &mut &[u8]) -> io::Result<Tally> {
    let mut tally = Tally::new();
    tally.counters = head.counters.clone();
    for tag in &head.histograms {
        let (len, rest) = split_len(blobs).ok_or_else(|| nonsense("a histogram is missing"))?;
        let bytes = rest.get(..len).ok_or_else(|| nonsense("a histogram is cut off"))?;
        *blobs = &rest[len..];
        let histogram: hdrhistogram::Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| nonsense(&format!("a histogram: {error}")))?;
        let known = tally.latencies.tagged_mut().into_iter().find(|(it, _)| it == tag);
        let into = match known {
            Some((_, into)) => into,
            None => {
                let name = interned(tag).ok_or_else(|| nonsense("too many names of latencies"))?;
                tally.latencies.more(name)
            }
        };
        into.add(histogram).map_err(|_| nonsense("a histogram with values out of range"))?;
    }
    for (api, name, count) in &head.errors {
        let api = interned(api).ok_or_else(|| nonsense("too many names of APIs"))?;
        *tally.errors.entry(ErrorKey { api, name: name.clone() }).or_default() += count;
    }
    Ok(tally)
}

/// The name as one that lives for ever: there are a few dozen of them.
fn interned(name: &str) -> Option<&'static str> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= NAMES_MAX {
        return None;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    Some(kept)
}

fn split_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*len) as usize, rest))
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval() -> Interval {
        let mut measured = Tally::new();
        measured.counters.acked_records = 7;
        measured.counters.gap_ns_max = 9;
        for value in 1..10_000u64 {
            measured.latencies.response.saturating_record(value * value);
        }
        measured.latencies.end_to_end.saturating_record(u64::MAX);
        measured.latencies.more("connect").saturating_record(11);
        measured.count_error("Produce", "NOT_LEADER_OR_FOLLOWER");
        let mut warmup = Tally::new();
        warmup.latencies.delay.saturating_record(5);
        Interval { core: 3, second: 4, warmup, measured: vec![(0, Tally::new()), (2, measured)] }
    }

    #[test]
    fn an_interval_arrives_as_it_was() {
        let sent = interval();
        let (message, blobs) = pack(&sent).expect("packs");
        let mut bytes = Vec::new();
        send(&mut bytes, &message, &blobs).expect("fits");
        let (message, blobs) = receive(&mut &bytes[..]).expect("arrives");
        let FromAgent::Interval { core: 3, second: 4, warmup, measured } = message else {
            panic!("{message:?}")
        };
        let (warmup, measured) = unpack(&warmup, &measured, &blobs).expect("fits together");
        let parts = |all: &[(usize, Tally)]| all.iter().map(|(part, _)| *part).collect::<Vec<_>>();
        assert_eq!(parts(&sent.measured), parts(&measured));
        let tallies =
            sent.measured.iter().zip(&measured).map(|((_, sent), (_, came))| (sent, came));
        for (sent, came) in tallies.chain([(&sent.warmup, &warmup)]) {
            assert_eq!((&sent.counters, &sent.errors), (&came.counters, &came.errors));
            for ((tag, sent), (_, came)) in
                sent.latencies.tagged().iter().zip(came.latencies.tagged())
            {
                assert_eq!(*sent, came, "{tag}");
                assert_eq!((sent.max(), sent.min()), (came.max(), came.min()), "{tag}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_an_error_and_no_panic() {
        let (message, blobs) = pack(&interval()).expect("packs");
        let mut bytes = Vec::new();
        send(&mut bytes, &message, &blobs).expect("fits");
        for len in 0..bytes.len() {
            assert!(receive::<FromAgent>(&mut &bytes[..len]).is_err(), "{len}");
        }
        let FromAgent::Interval { warmup, measured, .. } = message else { panic!("{message:?}") };
        for len in 0..blobs.len() {
            assert!(unpack(&warmup, &measured, &blobs[..len]).is_err(), "{len}");
        }
        let longer = [&blobs[..], &[0]].concat();
        assert!(unpack(&warmup, &measured, &longer).is_err());
        assert!(receive::<FromAgent>(&mut &[0xff; 64][..]).is_err());
    }
}
