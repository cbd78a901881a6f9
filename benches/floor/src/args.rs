//! The flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Serialize, Serializer};

use crate::disk::FileState;

/// What one core can do at best, without a broker: the reference that Thalweg is held against.
///
/// A bare server over io_uring, pinned to one CPU, does for each request what no broker can leave
/// out; a client that costs next to nothing, pinned to another, asks as much as it can. Frames are
/// a length, a CRC-32C, a number and a payload; not Kafka's. Sizes are payload, MB and GB are
/// decimal, CPU is that of the server's thread and of the kernel's workers for it.
#[derive(Debug, Parser)]
#[command(name = "thalweg-floor", version)]
pub struct Flags {
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Large frames: received into the memory that is written, checked, written once, answered.
    Large(Large),
    /// Small frames: checked, copied to a shared tail, one write for all that came meanwhile.
    Small(Small),
    /// An open loop at a fixed rate, with a reader that gets what is durable.
    Paced(Paced),
    /// Bytes from memory or from a file to clients that throw them away.
    Send(Send),
}

#[derive(Clone, Debug, Args, Serialize)]
pub struct Common {
    /// CPU of the server.
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// CPU of the client.
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// Seconds before anything is counted.
    #[arg(long, default_value = "1", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds")]
    pub warmup: Duration,
    /// Seconds that are measured.
    #[arg(long, default_value = "3", value_parser = seconds)]
    #[serde(serialize_with = "as_seconds")]
    pub duration: Duration,
    /// End after so many frames, all of which are counted.
    #[arg(long)]
    pub count: Option<u64>,
    /// Microseconds for which the server looks for work before it sleeps.
    #[arg(long, default_value_t = 0)]
    pub spin_us: u64,
    /// The same of the client.
    #[arg(long, default_value_t = 0)]
    pub client_spin_us: u64,
    /// Bound the buffers of the sockets, so that the kernel uses the same memory again and again.
    #[arg(long, value_parser = bytes)]
    pub socket_buffer: Option<usize>,
    /// Where the file is made [default: the system's folder for temporary files].
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Bytes of the file that is written again and again, or read.
    #[arg(long, default_value = "1GiB", value_parser = bytes)]
    pub file_bytes: usize,
}

impl Common {
    pub fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us)
    }

    pub fn client_spin(&self) -> Duration {
        Duration::from_micros(self.client_spin_us)
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It was received and checked.
    None,
    /// The device has it, perhaps in a cache.
    Written,
    /// It survives a power cut (`RWF_DSYNC`).
    Durable,
}

/// How a frame, or a group of small ones, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Submit {
    /// `pwritev2`: the core stands still meanwhile.
    Inline,
    /// Through the ring: the core goes on receiving.
    Ring,
}

/// How small frames are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Receive {
    /// One request that stays armed, with buffers that the kernel picks.
    Multishot,
    /// One request for each receive, into the connection's own buffer.
    Single,
}

#[derive(Clone, Debug, Args, Serialize)]
pub struct Large {
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Frames in flight on each connection.
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// Payload of a frame [default: a batch of 1,000 records of 1 KiB].
    #[arg(long, default_value = "1034000", value_parser = bytes)]
    pub payload: usize,
    #[arg(long, value_enum, default_value = "written")]
    pub durability: Durability,
    #[arg(long, value_enum, default_value = "written")]
    pub file: FileState,
    #[arg(long, value_enum, default_value = "ring")]
    pub submit: Submit,
    /// A receive wakes the server when so much is there.
    #[arg(long, default_value = "256KiB", value_parser = bytes)]
    pub chunk: usize,
    /// Frames that the server may hold [default: one a connection, and those in flight].
    #[arg(long)]
    pub pieces: Option<usize>,
    /// Leave the CRC out.
    #[arg(long)]
    pub no_crc: bool,
    /// Damage every Nth frame, which must be refused.
    #[arg(long)]
    pub damage_every: Option<u64>,
}

#[derive(Clone, Debug, Args, Serialize)]
pub struct Small {
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Further connections on which nothing happens.
    #[arg(long, default_value_t = 0)]
    pub idle: usize,
    /// Frames in flight on each connection.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    #[arg(long, default_value = "1KiB", value_parser = bytes)]
    pub payload: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub tail: Tail,
    /// Damage every Nth frame, which must be refused.
    #[arg(long)]
    pub damage_every: Option<u64>,
}

/// How the server treats frames, small ones above all.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Tail {
    #[arg(long, value_enum, default_value = "durable")]
    pub durability: Durability,
    #[arg(long, value_enum, default_value = "written")]
    pub file: FileState,
    #[arg(long, value_enum, default_value = "inline")]
    pub submit: Submit,
    #[arg(long, value_enum, default_value = "multishot")]
    pub receive: Receive,
    /// Completions to wait for at a time.
    #[arg(long, default_value_t = 1)]
    pub gather: usize,
    /// But no longer than so many microseconds.
    #[arg(long, default_value_t = 50)]
    pub gather_us: u64,
}

#[derive(Clone, Debug, Args, Serialize)]
pub struct Paced {
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
    /// Payload in 10^6 bytes a second.
    #[arg(long, default_value_t = 100.0, conflicts_with = "frames_per_s")]
    pub mb_per_s: f64,
    /// Frames a second, instead.
    #[arg(long)]
    pub frames_per_s: Option<f64>,
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    #[arg(long, default_value = "100KiB", value_parser = bytes)]
    pub payload: usize,
    /// Payloads from here on are received into memory of their own; others share the tail.
    #[arg(long, default_value = "64KiB", value_parser = bytes)]
    pub large_from: usize,
    /// Frames that may be in flight altogether; later ones wait, and their time runs.
    #[arg(long, default_value_t = 64)]
    pub window: usize,
    /// Leave the reader out.
    #[arg(long)]
    pub no_reader: bool,
    /// Let the client sleep until the next frame is due, instead of looking again and again.
    #[arg(long)]
    pub sleep: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub tail: Tail,
}

/// Where the bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// From memory.
    Hot,
    /// From a file, read past the page cache.
    Cold,
    /// The same, and nothing is sent: the disk alone.
    Read,
}

#[derive(Clone, Debug, Args, Serialize)]
pub struct Send {
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
    #[arg(long, value_enum, default_value = "hot")]
    pub source: Source,
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Bytes of a send, and of a read.
    #[arg(long, default_value = "1MiB", value_parser = bytes)]
    pub chunk: usize,
    /// Hot: how much memory the sends go through in turn.
    #[arg(long, default_value = "1MiB", value_parser = bytes)]
    pub span: usize,
    /// Cold: reads under way, or done and not sent, for each connection.
    #[arg(long, default_value_t = 4)]
    pub depth: usize,
    /// Chunks that a client has asked for and not received whole; 0: it gets all without asking.
    #[arg(long, default_value_t = 0)]
    pub asked: usize,
    /// The client has the kernel throw the bytes away, instead of copying them into the same memory.
    #[arg(long)]
    pub discard: bool,
}

fn as_seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("`{unit}` is not B, KiB, MiB or GiB")),
    };
    let number: usize = number.parse().map_err(|_| format!("`{text}` is not a number of bytes"))?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or("out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_hold_together() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_and_wrong_ones_named() {
        assert_eq!(bytes("100KiB"), Ok(102_400));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(bytes("1kb"), Err("`kb` is not B, KiB, MiB or GiB".to_owned()));
        assert_eq!(bytes("0"), Err("out of range".to_owned()));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        assert!(seconds("soon").is_err());
    }
}
