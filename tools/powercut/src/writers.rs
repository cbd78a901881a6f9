//! One writer for each partition: batch after batch, each once, each known by its number.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::block_log::BlockLog;
use crate::promises::{KEYS, Mark, Place, Size};
use crate::support::batch::{RawBatch, record};
use crate::support::client::{Client, batch_of};

const LARGE_BYTES: usize = 900_000;
const KEYED_BYTES: usize = 12_000;

/// A batch by its number: its records and their bytes tell which it is.
pub fn batch(place: Place, number: usize) -> RawBatch {
    let is_large = match place.topic().size {
        Size::Keyed => return keyed(place, number),
        Size::Small => false,
        Size::Large => true,
        Size::Mixed => number % 48 == 5,
    };
    let mut value = format!("{}#{number}#", place.name()).into_bytes();
    let pattern = (number % 251) as u8;
    let len = if is_large { LARGE_BYTES } else { value.len() + 53 * (number % 40) };
    value.resize(len.max(value.len()), pattern);
    batch_of(if is_large { 1 } else { 1 + (number % 3) as i32 }, &value)
}

fn keyed(place: Place, number: usize) -> RawBatch {
    let mut value = format!("{}#{number}#", place.name()).into_bytes();
    value.resize(KEYED_BYTES, (number % 251) as u8);
    let key = format!("key {}", number % KEYS);
    RawBatch { payload: record(0, Some(key.as_bytes()), &value), ..RawBatch::of(1) }
}

/// The number of the batch with these records, if it is one of the place's.
pub fn number(place: Place, payload: &[u8]) -> Option<usize> {
    let name = format!("{}#", place.name()).into_bytes();
    let at = payload.windows(name.len()).take(64).position(|part| part == name)? + name.len();
    let digits: String =
        payload[at..].iter().take(20).take_while(|it| **it != b'#').map(|it| *it as char).collect();
    let number = digits.parse().ok()?;
    (batch(place, number).payload == payload).then_some(number)
}

/// What outlives the broker's restarts.
pub struct Sent {
    pub place: Place,
    next: AtomicUsize,
    acked: AtomicUsize,
    /// Behind the last acknowledged record.
    end: AtomicUsize,
}

impl Sent {
    pub fn nothing(place: Place) -> Arc<Sent> {
        let zero = AtomicUsize::default;
        Arc::new(Sent { place, next: zero(), acked: zero(), end: zero() })
    }

    pub fn acked(&self) -> usize {
        self.acked.load(Ordering::Relaxed)
    }

    pub fn end(&self) -> i64 {
        self.end.load(Ordering::Relaxed) as i64
    }
}

/// The writers of one start of the broker.
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Writers {
    pub fn start(address: SocketAddr, log: &Arc<BlockLog>, all: &[Arc<Sent>]) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |sent: &Arc<Sent>| {
            let (sent, log, stop) = (sent.clone(), log.clone(), stop.clone());
            std::thread::spawn(move || write(address, &sent, &log, &stop))
        };
        Writers { threads: all.iter().map(start).collect(), stop }
    }

    /// Sends no more and waits for all answers.
    pub fn finish(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for the writers of a broker that was killed.
    pub fn join(self) -> Result<(), String> {
        for thread in self.threads {
            thread.join().map_err(|_| "a writer panicked")??;
        }
        Ok(())
    }
}

/// Writes until told to stop, or until the broker is gone.
fn write(
    address: SocketAddr,
    sent: &Sent,
    log: &BlockLog,
    stop: &AtomicBool,
) -> Result<(), String> {
    let mut client = Client::connect(address);
    let mut waiting = VecDeque::new();
    let (in_flight, pause) = match sent.place.topic().size {
        Size::Small | Size::Keyed => (3, Duration::from_millis(4)),
        Size::Large => (4, Duration::from_millis(80)),
        Size::Mixed => (3, Duration::from_millis(8)),
    };
    loop {
        while waiting.len() < in_flight && !stop.load(Ordering::Relaxed) {
            let number = sent.next.fetch_add(1, Ordering::Relaxed);
            let batch = batch(sent.place, number);
            let place = sent.place;
            client.send_produce(place.topic().name, place.partition, -1, &batch.bytes());
            waiting.push_back((number, batch.count));
        }
        let Some((number, count)) = waiting.pop_front() else { return Ok(()) };
        let Some(produced) = client.produced() else { return Ok(()) };
        if produced.error != 0 {
            return Err(format!("{}: a produce got error {}", sent.place.name(), produced.error));
        }
        let base_offset = produced.base_offset;
        log.mark(Mark::Acked { place: sent.place, number, base_offset });
        sent.acked.fetch_add(1, Ordering::Relaxed);
        sent.end.store((base_offset + i64::from(count)) as usize, Ordering::Relaxed);
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_tells_its_number_and_any_change_shows() {
        for place in [Place { topic: 0, partition: 1 }, Place { topic: 3, partition: 0 }] {
            let mut payload = batch(place, 77).payload;
            assert_eq!(number(place, &payload), Some(77));
            assert_eq!(number(Place { topic: 2, partition: 0 }, &payload), None);
            *payload.last_mut().expect("bytes") ^= 1;
            assert_eq!(number(place, &payload), None);
        }
    }
}
