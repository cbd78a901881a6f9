//! The crash test: a broker is killed under load, again and again, and started again on one and on
//! two cores. No acknowledged record may be lost, no offset may ever show another record, no
//! record of an idempotent producer may be there twice.

pub mod broker;
mod ledger;
mod load;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::Recipe;
use ledger::{Ledger, Place};
use load::{Load, PARTITIONS, TOPICS};

use crate::tools::broker_process::{BrokerProcess, START_TIMEOUT};
use crate::tools::random::Random;

/// What to do.
pub struct Plan {
    pub broker: PathBuf,
    pub data: PathBuf,
    pub cycles: u32,
    pub seed: u64,
    /// Lists of cores to start on, in turn at random.
    pub cores: Vec<String>,
}

/// After a start every topic must acknowledge something within this time.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the plan; an error says which promise was broken.
pub fn run(plan: &Plan) -> Result<(), String> {
    println!("seed {}", plan.seed);
    std::fs::create_dir_all(&plan.data)
        .map_err(|error| format!("creating {}: {error}", plan.data.display()))?;
    let mut random = Random::new(plan.seed);
    let address = free_address(&mut random)?;
    let recipe = Recipe {
        program: plan.broker.clone(),
        data: plan.data.join("data"),
        log: plan.data.join("broker.log"),
        address: address.clone(),
    };
    let ledger = Arc::new(Ledger::new(TOPICS.len(), PARTITIONS));
    let mut killer = Killer {
        recipe,
        ledger,
        random,
        cores: plan.cores.clone(),
        verified: vec![vec![0; PARTITIONS]; TOPICS.len()],
        slowest_start: Duration::ZERO,
    };
    let outcome = killer.all(plan.cycles, &address);
    if outcome.is_err() {
        println!("seed {}, data in {}", plan.seed, plan.data.display());
    }
    outcome
}

/// An address that nobody listens at. Not one of the ephemeral ports: a client that looks for the
/// dead broker there may get it as its own port, and then talks to itself.
fn free_address(random: &mut Random) -> Result<String, String> {
    for _ in 0..100 {
        let address = format!("127.0.0.1:{}", 10_000 + random.below(20_000));
        if std::net::TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port in 10000-30000".to_owned())
}

struct Killer {
    recipe: Recipe,
    ledger: Arc<Ledger>,
    random: Random,
    cores: Vec<String>,
    /// Behind the offsets that were read again after a crash.
    verified: Vec<Vec<u64>>,
    slowest_start: Duration,
}

impl Killer {
    fn all(&mut self, cycles: u32, address: &str) -> Result<(), String> {
        let mut broker = self.start()?;
        create_topics(address)?;
        let load = Load::start(address, &self.ledger)?;
        let start = Instant::now();
        for cycle in 1..=cycles {
            broker = self.cycle(broker, cycle).map_err(|what| format!("cycle {cycle}: {what}"))?;
            if cycle % 10 == 0 {
                let acknowledged: u64 =
                    (0..TOPICS.len()).map(|topic| self.ledger.acknowledged(topic)).sum();
                println!(
                    "{cycle} cycles, {acknowledged} records acknowledged, slowest start {} ms, {} s",
                    self.slowest_start.as_millis(),
                    start.elapsed().as_secs()
                );
            }
        }
        load.finish()?;
        self.check()?;
        // Everything once more, from the first offset on.
        let ends = load::known_ends(&self.ledger);
        let starts = vec![vec![0; PARTITIONS]; TOPICS.len()];
        load::verify(address, &self.ledger, &starts, &ends)?;
        self.all_acknowledged()?;
        broker.stop()
    }

    /// Load, then the end of the broker, then a new one; what was known is read again.
    fn cycle(&mut self, mut broker: BrokerProcess, cycle: u32) -> Result<BrokerProcess, String> {
        self.wait_for_progress(&mut broker)?;
        std::thread::sleep(Duration::from_millis(self.random.below(400)));
        broker.is_up()?;
        self.check()?;
        if self.random.once_in(12) {
            broker.stop()?;
        } else {
            broker.kill()?;
        }
        let ends = load::known_ends(&self.ledger);
        // Now and then it dies again while it starts.
        while self.random.once_in(6) {
            let cores = self.any_cores();
            let starting = self.recipe.spawn(&cores)?;
            std::thread::sleep(Duration::from_millis(self.random.below(150)));
            starting.kill()?;
        }
        let broker = self.start()?;
        let all = cycle.is_multiple_of(50);
        let starts =
            if all { vec![vec![0; PARTITIONS]; TOPICS.len()] } else { self.verified.clone() };
        load::verify(&self.recipe.address, &self.ledger, &starts, &ends)?;
        self.verified = ends;
        self.check()?;
        Ok(broker)
    }

    fn any_cores(&mut self) -> String {
        let place = self.random.below(self.cores.len() as u64) as usize;
        self.cores[place].clone()
    }

    fn start(&mut self) -> Result<BrokerProcess, String> {
        let cores = self.any_cores();
        let mut broker = self.recipe.spawn(&cores)?;
        let (_, took) = broker.wait_until_ready(START_TIMEOUT)?;
        self.slowest_start = self.slowest_start.max(took);
        Ok(broker)
    }

    fn check(&self) -> Result<(), String> {
        self.ledger.violation().map_or(Ok(()), Err)
    }

    fn wait_for_progress(&self, broker: &mut BrokerProcess) -> Result<(), String> {
        let before: Vec<u64> =
            (0..TOPICS.len()).map(|topic| self.ledger.acknowledged(topic)).collect();
        let deadline = Instant::now() + PROGRESS_TIMEOUT;
        for (topic, before) in before.iter().enumerate() {
            while self.ledger.acknowledged(topic) == *before {
                self.check()?;
                broker.is_up()?;
                if Instant::now() > deadline {
                    let name = TOPICS[topic].name;
                    return Err(format!("{name}: nothing acknowledged in {PROGRESS_TIMEOUT:?}"));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// At the end, all that was sent is acknowledged, and idempotent topics hold nothing else.
    fn all_acknowledged(&self) -> Result<(), String> {
        for (topic, settings) in TOPICS.iter().enumerate() {
            for partition in 0..PARTITIONS {
                let place = Place { topic, partition };
                let (sent, acknowledged) = self.ledger.counts(place);
                let end = self.ledger.known_end(place);
                if sent != acknowledged || (settings.idempotent && end != sent) {
                    return Err(format!(
                        "{place:?}: {sent} sent, {acknowledged} acknowledged, {end} in the log"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn create_topics(address: &str) -> Result<(), String> {
    for topic in &TOPICS {
        // Small segments, so that they are closed and opened often.
        let configs = [("flush.messages", topic.flush_messages), ("segment.bytes", "4194304")];
        crate::librdkafka::create_with_configs(address, topic.name, PARTITIONS as i32, &configs)?;
    }
    Ok(())
}
