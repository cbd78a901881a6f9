//! The load that goes on while the broker dies: one librdkafka producer for each topic, which
//! lives as long as the run and so retries over every crash, and one reader at the tail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::ledger::{Ledger, Number, Place};

/// Partitions of each topic.
pub const PARTITIONS: usize = 3;

/// A topic and its producer.
pub struct Topic {
    pub name: &'static str,
    /// `flush.messages`
    pub flush_messages: &'static str,
    pub idempotent: bool,
    pub codec: &'static str,
}

const NEVER: &str = "9223372036854775807";

const fn topic(
    name: &'static str,
    flush_messages: &'static str,
    idempotent: bool,
    codec: &'static str,
) -> Topic {
    Topic { name, flush_messages, idempotent, codec }
}

/// Each level of durability with and without idempotence.
pub const TOPICS: [Topic; 6] = [
    topic("idempotent-flush-1", "1", true, "none"),
    topic("idempotent-flush-1000", "1000", true, "lz4"),
    topic("idempotent-flush-never", NEVER, true, "none"),
    topic("plain-flush-1", "1", false, "zstd"),
    topic("plain-flush-1000", "1000", false, "none"),
    topic("plain-flush-never", NEVER, false, "none"),
];

/// The value of a record: its number and some bytes that depend on it.
pub fn value(number: Number) -> Vec<u8> {
    let len = (number * 37 % 900) as usize + if number % 97 == 5 { 30_000 } else { 0 };
    let mut value = number.to_be_bytes().to_vec();
    value.extend((0..len).map(|at| (number as usize + at) as u8));
    value
}

/// The number in a value, if the rest is as it should be.
pub fn number(value: Option<&[u8]>) -> Option<Number> {
    let found = value?;
    let number = Number::from_be_bytes(found.get(..8)?.try_into().ok()?);
    (found == self::value(number)).then_some(number)
}

struct Deliveries {
    ledger: Arc<Ledger>,
    topic: usize,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        // That the broker is away is the point of all this.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            let name = TOPICS[self.topic].name;
            self.ledger.violate(format!("{name}: the producer failed for good: {reason}"));
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(Place, Number)>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<(Place, Number)>) {
        let (place, number) = *record;
        match result {
            Ok(message) => {
                let offset = u64::try_from(message.offset()).ok();
                self.ledger.acknowledge(place, number, offset);
            }
            Err((error, _)) => {
                let name = TOPICS[self.topic].name;
                self.ledger.violate(format!("{name}: record {number} was refused: {error}"));
            }
        }
    }
}

/// Settings of all clients: come back fast when the broker does.
pub fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "100")
        .set("log_level", "2");
    config
}

/// The running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    pub fn start(address: &str, ledger: &Arc<Ledger>) -> Result<Load, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (index, topic) in TOPICS.iter().enumerate() {
            let producer = producer(address, index, topic, ledger)?;
            let (ledger, stop) = (ledger.clone(), stop.clone());
            threads.push(std::thread::spawn(move || produce(&producer, index, &ledger, &stop)));
        }
        let consumer = tail(address)?;
        let (ledger, stop_reader) = (ledger.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            read(&consumer, &ledger, &stop_reader);
            Ok(())
        }));
        Ok(Load { stop, threads })
    }

    /// Sends no more, and waits until all that was sent is acknowledged.
    pub fn finish(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    }
}

fn producer(
    address: &str,
    index: usize,
    topic: &Topic,
    ledger: &Arc<Ledger>,
) -> Result<BaseProducer<Deliveries>, String> {
    client(address)
        .set("acks", "all")
        .set("enable.idempotence", topic.idempotent.to_string())
        .set("compression.type", topic.codec)
        .set("linger.ms", "2")
        .set("batch.num.messages", "200")
        .set("queue.buffering.max.messages", "5000")
        // Long enough that a record fails only if the broker does not come back.
        .set("message.timeout.ms", "300000")
        .set("message.send.max.retries", "1000000")
        .create_with_context(Deliveries { ledger: ledger.clone(), topic: index })
        .map_err(|error| error.to_string())
}

/// Bursts of records over the partitions, about six hundred a second.
fn produce(
    producer: &BaseProducer<Deliveries>,
    topic: usize,
    ledger: &Ledger,
    stop: &AtomicBool,
) -> Result<(), String> {
    const BURST: usize = 12;
    const PAUSE: Duration = Duration::from_millis(20);
    let mut partition = 0;
    let mut next_burst = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // While the broker is away nothing new comes: the queue is bounded.
        let room = producer.in_flight_count() < 2_000;
        for _ in 0..if room { BURST } else { 0 } {
            partition = (partition + 1) % PARTITIONS;
            let place = Place { topic, partition };
            let number = ledger.send(place);
            let value = value(number);
            let record: BaseRecord<'_, (), _, _> =
                BaseRecord::with_opaque_to(TOPICS[topic].name, Box::new((place, number)))
                    .partition(partition as i32)
                    .payload(&value);
            producer.send(record).map_err(|(error, _)| format!("sending: {error}"))?;
        }
        next_burst = Instant::now().max(next_burst + PAUSE);
        while Instant::now() < next_burst {
            // Returns at the first delivery report, not after the whole time.
            producer.poll(next_burst.saturating_duration_since(Instant::now()));
        }
    }
    producer.flush(Duration::from_secs(60)).map_err(|error| {
        format!("{}: not all was acknowledged at the end: {error}", TOPICS[topic].name)
    })
}

fn consumer(address: &str) -> Result<BaseConsumer, String> {
    client(address)
        .set("group.id", "thalweg-compare")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "20")
        .create()
        .map_err(|error| error.to_string())
}

fn every_place() -> impl Iterator<Item = Place> {
    (0..TOPICS.len())
        .flat_map(|topic| (0..PARTITIONS).map(move |partition| Place { topic, partition }))
}

fn assign(
    consumer: &BaseConsumer,
    starts: impl Iterator<Item = (Place, u64)>,
) -> Result<(), String> {
    let mut list = TopicPartitionList::new();
    for (place, start) in starts {
        list.add_partition_offset(
            TOPICS[place.topic].name,
            place.partition as i32,
            Offset::Offset(start as i64),
        )
        .map_err(|error| error.to_string())?;
    }
    consumer.assign(&list).map_err(|error| error.to_string())
}

fn tail(address: &str) -> Result<BaseConsumer, String> {
    let consumer = consumer(address)?;
    assign(&consumer, every_place().map(|place| (place, 0)))?;
    Ok(consumer)
}

fn place_of(topic: &str, partition: i32) -> Option<Place> {
    let topic = TOPICS.iter().position(|known| known.name == topic)?;
    Some(Place { topic, partition: usize::try_from(partition).ok()? })
}

/// What one poll of a consumer says.
enum Polled {
    Nothing,
    Record(Place, u64, Number),
    Trouble(String),
}

fn poll(consumer: &BaseConsumer) -> Polled {
    match consumer.poll(Duration::from_millis(100)) {
        None => Polled::Nothing,
        Some(Ok(message)) => {
            let at = format!("{}[{}]@{}", message.topic(), message.partition(), message.offset());
            let place = place_of(message.topic(), message.partition());
            match (place, number(message.payload()), u64::try_from(message.offset())) {
                (Some(place), Some(number), Ok(offset)) => Polled::Record(place, offset, number),
                _ => Polled::Trouble(format!("{at}: a value that nobody sent")),
            }
        }
        Some(Err(KafkaError::PartitionEOF(_))) => Polled::Nothing,
        Some(Err(KafkaError::MessageConsumption(code))) if passing(code) => Polled::Nothing,
        Some(Err(error)) => Polled::Trouble(format!("reading: {error}")),
    }
}

/// Whether the error only says that the broker is away or just back.
fn passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::UnsupportedFeature
    )
}

/// Reads at the tail until the load ends.
fn read(consumer: &BaseConsumer, ledger: &Ledger, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match poll(consumer) {
            Polled::Record(place, offset, number) => ledger.read(place, offset, number),
            Polled::Trouble(what) => ledger.violate(format!("the reader: {what}")),
            Polled::Nothing => {}
        }
    }
}

/// Reads every partition again from `starts` and at least to `ends`: without a gap, each offset as
/// it was known; idempotent producers' records in their order, each once.
pub fn verify(
    address: &str,
    ledger: &Ledger,
    starts: &[Vec<u64>],
    ends: &[Vec<u64>],
) -> Result<(), String> {
    let consumer = consumer(address)?;
    let needed =
        |place: &Place| starts[place.topic][place.partition] < ends[place.topic][place.partition];
    let mut open: Vec<Place> = every_place().filter(needed).collect();
    assign(&consumer, open.iter().map(|place| (*place, starts[place.topic][place.partition])))?;
    let mut next = starts.to_vec();
    let mut last: Vec<Vec<Option<Number>>> = vec![vec![None; PARTITIONS]; TOPICS.len()];
    let mut deadline = Instant::now() + VERIFY_TIMEOUT;
    while !open.is_empty() {
        match poll(&consumer) {
            Polled::Record(place, offset, number) => {
                deadline = Instant::now() + VERIFY_TIMEOUT;
                let next = &mut next[place.topic][place.partition];
                if offset != *next {
                    return Err(format!("{place:?}: offset {offset} where {next} was expected"));
                }
                *next += 1;
                ledger.read(place, offset, number);
                let last = &mut last[place.topic][place.partition];
                if TOPICS[place.topic].idempotent && last.is_some_and(|last| number <= last) {
                    return Err(format!(
                        "{place:?}: record {number} at offset {offset} comes after record {last:?}"
                    ));
                }
                *last = Some(number);
                if *next >= ends[place.topic][place.partition] {
                    open.retain(|other| *other != place);
                }
            }
            Polled::Trouble(what) => return Err(what),
            Polled::Nothing => {}
        }
        if let Some(violation) = ledger.violation() {
            return Err(violation);
        }
        if Instant::now() > deadline {
            let place = open[0];
            return Err(format!(
                "{place:?}: nothing at offset {}, though offsets up to {} were acknowledged or read",
                next[place.topic][place.partition], ends[place.topic][place.partition]
            ));
        }
    }
    Ok(())
}

/// How long a partition may give nothing before its records count as lost.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// The known end of every partition.
pub fn known_ends(ledger: &Ledger) -> Vec<Vec<u64>> {
    let ends = |topic| {
        (0..PARTITIONS).map(|partition| ledger.known_end(Place { topic, partition })).collect()
    };
    (0..TOPICS.len()).map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_number_and_any_change_shows() {
        let mut bytes = value(1_234);
        assert_eq!(number(Some(&bytes)), Some(1_234));
        bytes.pop();
        assert_eq!(number(Some(&bytes)), None);
        assert_eq!((number(None), number(Some(b"short"))), (None, None));
    }
}
