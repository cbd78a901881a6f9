//! The person at the side: creates, alters and deletes topics, and deletes records, all the time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::block_log::BlockLog;
use crate::promises::{Mark, Shape};
use crate::support::client::{Client, batch_of};
use crate::support::wire::Body;
use crate::tools::random::Random;
use crate::writers::Sent;

/// Topics at a time.
const TOPICS_MAX: usize = 6;
const PAUSE: Duration = Duration::from_millis(15);
const CREATE_PARTITIONS: i16 = 37;

/// Outlives the broker's restarts.
pub struct Operator {
    log: Arc<BlockLog>,
    topics: BTreeMap<String, Shape>,
    made: usize,
}

impl Operator {
    pub fn new(log: &Arc<BlockLog>) -> Operator {
        Operator { log: log.clone(), topics: BTreeMap::new(), made: 0 }
    }

    /// Works for a while.
    pub fn work(
        &mut self,
        address: SocketAddr,
        sent: &[Arc<Sent>],
        random: &mut Random,
        time: Duration,
    ) -> Result<(), String> {
        let mut client = Client::connect(address);
        let end = Instant::now() + time;
        while Instant::now() < end {
            match random.below(10) {
                0..2 if self.topics.len() < TOPICS_MAX => self.create(&mut client, random)?,
                2..4 => self.alter(&mut client, random)?,
                4 => self.widen(&mut client, random)?,
                5 if self.topics.len() > 1 => self.delete(&mut client, random)?,
                6..9 => self.delete_records(&mut client, sent, random)?,
                _ => self.fill(&mut client, random)?,
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn any(&self, random: &mut Random) -> Option<(String, Shape)> {
        let names: Vec<&String> = self.topics.keys().collect();
        let name = names.get(random.below(names.len().max(1) as u64) as usize)?;
        Some(((*name).clone(), self.topics[*name].clone()))
    }

    /// Asks for a change of a topic, and notes the question and the answer.
    fn change(
        &mut self,
        name: &str,
        shape: Option<Shape>,
        ask: impl FnOnce() -> i16,
    ) -> Result<(), String> {
        self.log.mark(Mark::TopicAsked { name: name.to_owned(), shape: shape.clone() });
        let error = ask();
        if error != 0 {
            return Err(format!("{name} to be {shape:?} got error {error}"));
        }
        self.log.mark(Mark::TopicTold { name: name.to_owned() });
        match shape {
            Some(shape) => self.topics.insert(name.to_owned(), shape),
            None => self.topics.remove(name),
        };
        Ok(())
    }

    fn create(&mut self, client: &mut Client, random: &mut Random) -> Result<(), String> {
        self.made += 1;
        // Some names come back after a deletion.
        let name = format!("churn-{}", self.made % (2 * TOPICS_MAX));
        if self.topics.contains_key(&name) {
            return Ok(());
        }
        let shape =
            Shape { partitions: 1 + random.below(3) as usize, retention_ms: any_ms(random) };
        let (partitions, ms) = (shape.partitions as i32, shape.retention_ms.clone());
        let topic = name.clone();
        let configs = [("retention.ms", ms.as_str())];
        self.change(&name, Some(shape), || client.create_topic(&topic, partitions, &configs))
    }

    fn alter(&mut self, client: &mut Client, random: &mut Random) -> Result<(), String> {
        let Some((name, mut shape)) = self.any(random) else { return Ok(()) };
        shape.retention_ms = any_ms(random);
        let ms = shape.retention_ms.clone();
        self.change(&name, Some(shape), || client.set_topic_config(&name, "retention.ms", &ms))
    }

    fn widen(&mut self, client: &mut Client, random: &mut Random) -> Result<(), String> {
        let Some((name, mut shape)) = self.any(random) else { return Ok(()) };
        if shape.partitions > 6 {
            return Ok(());
        }
        shape.partitions += 1;
        let count = shape.partitions as i32;
        self.change(&name, Some(shape), || {
            let body = Body::new().i32(1).string(&name).i32(count).i32(-1).i32(10_000).i8(0);
            let mut answer = client.wire().call(CREATE_PARTITIONS, 0, false, &body.0);
            answer.skip(8);
            answer.string();
            answer.i16()
        })
    }

    fn delete(&mut self, client: &mut Client, random: &mut Random) -> Result<(), String> {
        let Some((name, _)) = self.any(random) else { return Ok(()) };
        self.change(&name, None, || client.delete_topic(&name))
    }

    fn delete_records(
        &mut self,
        client: &mut Client,
        sent: &[Arc<Sent>],
        random: &mut Random,
    ) -> Result<(), String> {
        let mut deleted = sent.iter().filter(|sent| sent.place.topic().is_deleted_from);
        let Some(sent) = deleted.next() else { return Ok(()) };
        // Now and then all of it.
        let end = sent.end();
        let before = if random.chance(20) { end } else { random.below(end as u64 + 1) as i64 };
        let place = sent.place;
        self.log.mark(Mark::StartAsked { place, before });
        let (start, error) = client.delete_records(place.topic().name, place.partition, before);
        if error != 0 || start < before {
            return Err(format!("deletion before {before} got {start}, error {error}"));
        }
        self.log.mark(Mark::StartTold { place, start });
        Ok(())
    }

    /// Something to delete.
    fn fill(&mut self, client: &mut Client, random: &mut Random) -> Result<(), String> {
        let Some((name, _)) = self.any(random) else { return Ok(()) };
        let produced = client.produce(&name, 0, &batch_of(3, &vec![7; 20_000]).bytes());
        if produced.error == 0 { Ok(()) } else { Err(format!("{name}: error {}", produced.error)) }
    }
}

fn any_ms(random: &mut Random) -> String {
    (3_600_000 + random.below(1_000_000)).to_string()
}
