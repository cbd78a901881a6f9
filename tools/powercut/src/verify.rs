//! Looks up every promise.

use std::net::SocketAddr;

use crate::promises::{KEYS, Place, Promises, Records, Shape};
use crate::support::client::{Client, Stored};
use crate::writers;

const EARLIEST: i64 = -2;
const UNKNOWN_TOPIC: i16 = 3;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub batches: usize,
    /// Acknowledged records that are gone, as their topics' levels allow.
    pub lost: u64,
    /// Batches of which compaction has left nothing.
    pub compacted: usize,
}

/// An error is the first broken promise.
pub fn verify(address: SocketAddr, promises: &Promises) -> Result<Seen, String> {
    let mut client = Client::connect(address);
    let mut seen = Seen::default();
    for (name, topic) in &promises.topics {
        let found = shape(&mut client, name);
        if found != topic.told && topic.asked.as_ref() != Some(&found) {
            return Err(format!("{name} is {found:?}, it was promised and asked to be {topic:?}"));
        }
    }
    let nothing = Records::default();
    for place in Place::all() {
        let records = promises.records.get(&place).unwrap_or(&nothing);
        let (of_place, end) = check(&mut client, place, records)
            .map_err(|what| format!("{}: {what}", place.name()))?;
        seen.batches += of_place.batches;
        seen.lost += of_place.lost;
        seen.compacted += of_place.compacted;
        // It goes on where it ends.
        let next = writers::batch(place, 0);
        let produced = client.produce(place.topic().name, place.partition, &next.bytes());
        if produced.error != 0 || produced.base_offset != end {
            return Err(format!("{}: ends at {end}, the next got {produced:?}", place.name()));
        }
    }
    Ok(seen)
}

fn shape(client: &mut Client, name: &str) -> Option<Shape> {
    let topic = client.metadata(name);
    if topic.error == UNKNOWN_TOPIC {
        return None;
    }
    let retention_ms = client.topic_config(name, "retention.ms").unwrap_or_default();
    Some(Shape { partitions: topic.partitions.len(), retention_ms })
}

fn check(client: &mut Client, place: Place, records: &Records) -> Result<(Seen, i64), String> {
    let topic = place.topic();
    let (error, _, start) = client.list_offset(topic.name, place.partition, EARLIEST);
    if error != 0 {
        return Err(format!("its start is not told: error {error}"));
    }
    let end = client.end_offset(topic.name, place.partition);
    let stored = client.read_all(topic.name, place.partition, start);
    let numbers = follow(place, &stored, start, end)?;
    check_start(place, records, start, &stored)?;
    let (mut lost, mut compacted) = (0, 0);
    for (number, base_offset) in &records.acked {
        if *base_offset < start {
            continue;
        }
        if *base_offset >= end {
            lost += writers::batch(place, *number).count as u64;
            continue;
        }
        let at = stored.binary_search_by_key(base_offset, |batch| batch.base_offset);
        let found = at.ok().map(|at| numbers[at]);
        // Another record of its key has come.
        let is_old = || numbers.iter().any(|it| it > number && it % KEYS == number % KEYS);
        if found.is_none() && topic.is_compacted && is_old() {
            compacted += 1;
            continue;
        }
        if found != Some(*number) {
            return Err(format!(
                "batch {number} was acknowledged at {base_offset}, where {found:?} is"
            ));
        }
    }
    if lost >= topic.may_lose {
        return Err(format!("{lost} acknowledged records are gone, the log ends at {end}"));
    }
    Ok((Seen { batches: stored.len(), lost, compacted }, end))
}

/// The numbers of the batches: what was sent, in the order in which it was sent, without a gap
/// other than compaction's.
fn follow(place: Place, stored: &[Stored], start: i64, end: i64) -> Result<Vec<usize>, String> {
    let may_gap = place.topic().is_compacted;
    let mut numbers: Vec<usize> = Vec::with_capacity(stored.len());
    let mut next = stored.first().map_or(end, |first| first.base_offset.min(start));
    for batch in stored {
        let at = batch.base_offset;
        if at < next || at > next && !may_gap {
            return Err(format!("offset {at} where {next} was expected"));
        }
        let number = writers::number(place, &batch.payload);
        let number = number.ok_or_else(|| format!("offset {at} holds what nobody sent"))?;
        if numbers.last().is_some_and(|last| *last >= number) {
            return Err(format!("offset {at}: batch {number} comes after {:?}", numbers.last()));
        }
        numbers.push(number);
        next = batch.last_offset + 1;
    }
    if next == end { Ok(numbers) } else { Err(format!("ends at {end}, its batches at {next}")) }
}

/// A start that was told stays, and no record goes that nobody asked to delete.
fn check_start(
    place: Place,
    records: &Records,
    start: i64,
    stored: &[Stored],
) -> Result<(), String> {
    let topic = place.topic();
    if start < records.start_told {
        return Err(format!("begins at {start}, though {} was told", records.start_told));
    }
    let kept: usize = stored.iter().map(|batch| batch.payload.len()).sum();
    let allowed = if topic.retains_bytes > 0 {
        // What was in flight counted, too, when the oldest went.
        start == 0 || kept >= topic.retains_bytes / 2
    } else {
        start <= records.start_asked
    };
    if allowed {
        return Ok(());
    }
    Err(format!("begins at {start} with {kept} bytes, asked was {}", records.start_asked))
}
