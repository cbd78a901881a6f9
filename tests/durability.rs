//! kill -9 under load loses nothing that was acknowledged, at every level of `flush.messages` and
//! with other `--cores` at each start: records, offsets, sequences of idempotent producers, leader
//! epochs, topics, configurations, look-ups by time inside compressed batches.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use support::Broker;
use support::batch::RawBatch;
use support::client::{Client, Produced, Stored, batch_of};
use thalweg::record::{BatchBuilder, Compression};

/// Starts that end by kill -9, unless `THALWEG_TEST_KILLS` says otherwise.
const CYCLES: usize = 24;
/// Starts that are killed while they recover.
const FALSE_STARTS: u64 = 12;
/// The levels: every batch synced, some, none.
const LEVELS: [(&str, &str); 3] =
    [("synced", "1"), ("thousand", "1000"), ("unsynced", "9223372036854775807")];
const PARTITIONS: i32 = 2;
/// Requests that a writer has on the way.
const IN_FLIGHT: usize = 4;
/// UNKNOWN_TOPIC_OR_PARTITION.
const UNKNOWN_TOPIC: i16 = 3;

fn cycles() -> usize {
    let wanted = std::env::var("THALWEG_TEST_KILLS").ok();
    wanted.map_or(CYCLES, |text| text.parse().expect("THALWEG_TEST_KILLS is a number"))
}

/// `--cores` of each start in turn.
fn cores_of(cycle: usize) -> &'static str {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        return "0";
    }
    ["0", "0,1", "1"][cycle % 3]
}

// --- writers -------------------------------------------------------------------------------------

/// What one writer of one partition sent and was promised.
struct Writer {
    topic: &'static str,
    partition: i32,
    /// Payload of every batch ever sent, by its number.
    sent: Vec<Vec<u8>>,
    /// Number and base offset of every batch that was acknowledged.
    acked: Vec<(usize, i64)>,
    /// What a reader has seen after the last start.
    seen: Vec<Stored>,
}

impl Writer {
    fn new(topic: &'static str, partition: i32) -> Writer {
        Writer { topic, partition, sent: Vec::new(), acked: Vec::new(), seen: Vec::new() }
    }

    /// Sends batch after batch, each once, until the broker is gone.
    fn write_until_the_end(&mut self, address: SocketAddr) {
        let mut client = Client::connect(address);
        let mut waiting = std::collections::VecDeque::new();
        loop {
            while waiting.len() < IN_FLIGHT {
                let number = self.sent.len();
                let batch = self.batch(number);
                waiting.push_back(number);
                client.send_produce(self.topic, self.partition, -1, &batch.bytes());
                self.sent.push(batch.payload);
            }
            let Some(produced) = client.produced() else { return };
            assert_eq!(produced.error, 0, "{}-{}", self.topic, self.partition);
            let number = waiting.pop_front().expect("answers follow requests");
            self.acked.push((number, produced.base_offset));
        }
    }

    fn batch(&self, number: usize) -> RawBatch {
        let mut value = format!("{}-{}#{number}#", self.topic, self.partition).into_bytes();
        value.resize(value.len() + 37 * (number % 50), b'.');
        batch_of(1 + i32::try_from(number % 3).expect("small"), &value)
    }

    /// Checks the log after a restart against what was promised, and remembers it.
    fn check(&mut self, client: &mut Client) {
        let name = format!("{}-{}", self.topic, self.partition);
        let stored = client.read_all(self.topic, self.partition, 0);
        let (mut next, mut epoch, mut first_unused) = (0, 0, 0);
        for batch in &stored {
            assert_eq!(batch.base_offset, next, "{name}: offsets follow each other");
            next = batch.last_offset + 1;
            assert!(batch.leader_epoch >= epoch, "{name}: epochs rise");
            epoch = batch.leader_epoch;
            let rest = &self.sent[first_unused..];
            let skipped = rest.iter().position(|sent| *sent == batch.payload);
            let skipped = skipped.unwrap_or_else(|| {
                panic!("{name}: {} was not sent, or is there twice", batch.base_offset)
            });
            first_unused += skipped + 1;
        }
        assert_eq!(client.end_offset(self.topic, self.partition), next, "{name}: its end");
        for (number, base_offset) in &self.acked {
            let at = stored.binary_search_by_key(base_offset, |batch| batch.base_offset);
            let batch = at.map(|at| &stored[at]);
            let batch = batch.unwrap_or_else(|_| panic!("{name}: {base_offset} was acknowledged"));
            assert!(batch.payload == self.sent[*number], "{name}: {base_offset} is another's");
        }
        assert!(stored.starts_with(&self.seen), "{name}: what was seen once stays as it was");
        self.seen = stored;
    }
}

/// A producer that resends after a restart what it does not know to be acknowledged.
struct Idempotent {
    producer_id: i64,
    /// Base offset of each acknowledged batch, by its number, which is its sequence.
    acked: Vec<i64>,
}

impl Idempotent {
    const TOPIC: &'static str = "idempotent";

    fn batch(&self, number: usize) -> Vec<u8> {
        let mut batch = batch_of(1, format!("number {number}").as_bytes());
        batch.producer_id = self.producer_id;
        batch.producer_epoch = 0;
        batch.base_sequence = i32::try_from(number).expect("few");
        batch.bytes()
    }

    fn write_until_the_end(&mut self, address: SocketAddr) {
        let mut client = Client::connect(address);
        loop {
            let batch = self.batch(self.acked.len());
            client.send_produce(Self::TOPIC, 0, -1, &batch);
            let Some(produced) = client.produced() else { return };
            assert_eq!(produced.error, 0, "the sequence goes on");
            self.acked.push(produced.base_offset);
        }
    }

    /// The last batches again, then the one whose answer the kill took.
    fn check(&mut self, client: &mut Client) {
        let known = self.acked.len();
        for number in known.saturating_sub(3)..known {
            let again = client.produce(Self::TOPIC, 0, &self.batch(number));
            let original = Produced { error: 0, base_offset: self.acked[number] };
            assert_eq!(again, original, "a duplicate is answered with its original offset");
        }
        let unknown = client.produce(Self::TOPIC, 0, &self.batch(known));
        assert_eq!(unknown.error, 0, "what was on the way is appended now, if it was not");
        self.acked.push(unknown.base_offset);
        let gap = client.produce(Self::TOPIC, 0, &self.batch(known + 7));
        assert_eq!(gap.error, 45, "a gap is refused");
        let stored = client.read_all(Self::TOPIC, 0, 0);
        let offsets: Vec<i64> = stored.iter().map(|batch| batch.base_offset).collect();
        assert!(offsets == self.acked, "each sequence once, in order");
    }
}

// --- what else survives --------------------------------------------------------------------------

/// Compressed batches whose records are looked up by time.
#[derive(Default)]
struct Timed {
    /// Timestamp and offset of the first record of each batch, and the batch's payload.
    batches: Vec<(i64, i64, Vec<u8>)>,
}

impl Timed {
    const TOPIC: &'static str = "timed";
    const RECORDS: i64 = 50;
    const STEP_MS: i64 = 10;

    fn add(&mut self, client: &mut Client) {
        let codecs = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        let codec = codecs[self.batches.len() % codecs.len()];
        let first_ms = 1_700_000_000_000 + 100_000 * self.batches.len() as i64;
        let mut builder = BatchBuilder::new(codec, first_ms);
        for number in 0..Self::RECORDS {
            let value = format!("record {number} of a batch");
            let at_ms = first_ms + number * Self::STEP_MS;
            builder.append(at_ms, None, Some(value.as_bytes()), &[]);
        }
        let batch = builder.build().expect("a legal batch");
        let produced = client.produce(Self::TOPIC, 0, &batch);
        assert_eq!(produced.error, 0);
        self.batches.push((first_ms, produced.base_offset, batch[61..].to_vec()));
    }

    fn check(&self, client: &mut Client) {
        let stored = client.read_all(Self::TOPIC, 0, 0);
        assert_eq!(stored.len(), self.batches.len());
        for ((first_ms, first_offset, payload), stored) in self.batches.iter().zip(&stored) {
            assert_eq!(stored.base_offset, *first_offset);
            assert!(stored.payload == *payload, "compressed records come back as they went");
            for number in [0, 17, Self::RECORDS - 1] {
                let at_ms = first_ms + number * Self::STEP_MS;
                let found = (0, at_ms, first_offset + number);
                assert_eq!(client.list_offset(Self::TOPIC, 0, at_ms), found);
                let earlier = client.list_offset(Self::TOPIC, 0, at_ms - 3);
                assert_eq!(earlier, found, "the first record at or after a time");
            }
        }
        let after = self.batches.last().map_or(0, |(first_ms, ..)| first_ms + 100_000);
        assert_eq!(client.list_offset(Self::TOPIC, 0, after), (0, -1, -1), "nothing later");
    }
}

/// The epoch of the partition's leader rises by one at each start, and the log knows where the last
/// epoch that has records ended. (As in Kafka, an epoch without records leaves no trace.)
fn check_epochs(client: &mut Client, topic: &str, partition: i32, start: i32) {
    let seen = client.metadata(topic);
    assert_eq!(seen.error, 0, "{topic} survives");
    assert!(seen.partitions.contains(&(partition, start)), "{topic}: start {start}: {seen:?}");
    if let Some(last) = client.read_all(topic, partition, 0).last() {
        assert!(last.leader_epoch < start, "{topic}-{partition}: nothing is of this start yet");
        let before = client.epoch_end(topic, partition, start - 1);
        let ended = (0, last.leader_epoch, last.last_offset + 1);
        assert_eq!(before, ended, "{topic}-{partition}: the epoch before ended");
    }
}

/// A topic that is deleted before each kill.
fn check_deleted(client: &mut Client, cycle: usize) {
    if cycle > 0 {
        assert_eq!(client.metadata("gone").error, UNKNOWN_TOPIC, "deleted topics stay deleted");
    }
    assert_eq!(client.create_topic("gone", 2, &[]), 0);
    assert_eq!(client.end_offset("gone", 1), 0, "a new topic of the name is empty");
    for _ in 0..5 {
        assert_eq!(client.produce("gone", 1, &batch_of(2, b"forgotten").bytes()).error, 0);
    }
    assert_eq!(client.delete_topic("gone"), 0);
}

struct Campaign {
    writers: Vec<Writer>,
    idempotent: Idempotent,
    timed: Timed,
    producer_ids: Vec<i64>,
}

impl Campaign {
    fn begin(client: &mut Client) -> Campaign {
        for (topic, level) in LEVELS {
            let configs = [("flush.messages", level), ("segment.bytes", "1048576")];
            assert_eq!(client.create_topic(topic, PARTITIONS, &configs), 0);
        }
        assert_eq!(client.create_topic(Idempotent::TOPIC, 1, &[]), 0);
        assert_eq!(client.create_topic(Timed::TOPIC, 1, &[("retention.ms", "-1")]), 0);
        let producer_id = client.init_producer_id();
        let partitions = |topic| (0..PARTITIONS).map(move |index| Writer::new(topic, index));
        Campaign {
            writers: LEVELS.iter().flat_map(|(topic, _)| partitions(*topic)).collect(),
            idempotent: Idempotent { producer_id, acked: Vec::new() },
            timed: Timed::default(),
            producer_ids: vec![producer_id],
        }
    }

    fn check(&mut self, client: &mut Client, start: i32) {
        for writer in &mut self.writers {
            check_epochs(client, writer.topic, writer.partition, start);
            writer.check(client);
        }
        for (topic, level) in LEVELS {
            let kept = client.topic_config(topic, "flush.messages");
            assert_eq!(kept.as_deref(), Some(level), "configurations survive");
        }
        check_epochs(client, Idempotent::TOPIC, 0, start);
        self.idempotent.check(client);
        self.timed.check(client);
        let producer_id = client.init_producer_id();
        let fresh = self.producer_ids.iter().all(|known| *known != producer_id);
        assert!(fresh, "{producer_id} was given before: {:?}", self.producer_ids);
        self.producer_ids.push(producer_id);
    }

    fn write_and_kill(&mut self, broker: Broker, after: Duration) {
        self.write_until(broker.address(), || {
            std::thread::sleep(after);
            broker.kill();
        });
    }

    /// Writes with all writers until the broker that `end` ends is gone.
    fn write_until<T>(&mut self, address: SocketAddr, end: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(|| writer.write_until_the_end(address));
            }
            scope.spawn(|| self.idempotent.write_until_the_end(address));
            end()
        })
    }

    /// Ends the broker as an operator does; returns how long that took.
    fn write_and_stop(&mut self, broker: Broker, after: Duration) -> Duration {
        self.write_until(broker.address(), || {
            std::thread::sleep(after);
            let begin = Instant::now();
            assert_eq!(broker.stop().code(), Some(0), "a stop under load is clean");
            begin.elapsed()
        })
    }

    fn acked(&self) -> usize {
        self.writers.iter().map(|writer| writer.acked.len()).sum()
    }

    fn stored(&self) -> usize {
        self.writers.iter().map(|writer| writer.seen.len()).sum()
    }
}

fn start(data: &Path, cycle: usize) -> Broker {
    // Small files, so that journals turn over and segments roll within the test.
    let flags =
        ["--cores", cores_of(cycle), "--set", "journal.file.bytes=4MiB", "--set", "log.level=warn"];
    Broker::start(data, &flags)
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged_at_any_level_on_any_cores() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let began = Instant::now();
    let (mut campaign, cycles) = (None, cycles());
    for cycle in 0..cycles {
        let broker = start(&data, cycle);
        let mut client = Client::connect(broker.address());
        let campaign = campaign.get_or_insert_with(|| Campaign::begin(&mut client));
        campaign.check(&mut client, i32::try_from(cycle).expect("few"));
        check_deleted(&mut client, cycle);
        campaign.timed.add(&mut client);
        let after = Duration::from_millis(60 + 97 * (cycle as u64 % 5));
        campaign.write_and_kill(broker, after);
    }
    let mut campaign = campaign.expect("at least one cycle");
    // A clean stop after a kill, then a last look.
    let broker = start(&data, cycles);
    let last = i32::try_from(cycles).expect("few");
    campaign.check(&mut Client::connect(broker.address()), last);
    assert_eq!(broker.stop().code(), Some(0));
    let broker = start(&data, cycles + 1);
    campaign.check(&mut Client::connect(broker.address()), last + 1);
    println!(
        "{cycles} kills: {} batches acknowledged, {} stored, and {} idempotent ones, in {:?}",
        campaign.acked(),
        campaign.stored(),
        campaign.idempotent.acked.len(),
        began.elapsed()
    );
    assert!(campaign.acked() > cycles * 10, "the writers were at work");
}

#[test]
fn a_stop_under_load_loses_nothing_and_leaves_nothing_to_replay() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut campaign = None;
    for cycle in 0..6 {
        let broker = Broker::start(&data, &["--cores", cores_of(cycle + 1)]);
        let mut client = Client::connect(broker.address());
        let campaign = campaign.get_or_insert_with(|| Campaign::begin(&mut client));
        campaign.check(&mut client, i32::try_from(cycle).expect("few"));
        let took = campaign.write_and_stop(broker, Duration::from_millis(300));
        println!("--cores {}: a stop under load took {took:?}", cores_of(cycle + 1));
    }
    let log = std::fs::read_to_string(support::log_of(&data)).expect("a log");
    let reports = log.lines().filter(|line| line.contains("recovered"));
    for report in reports {
        assert!(report.contains("groups_replayed: 0, batches_replayed: 0"), "{report}");
    }
}

#[test]
fn kill_9_while_recovering_loses_nothing_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = start(&data, 0);
    let mut campaign = Campaign::begin(&mut Client::connect(broker.address()));
    campaign.write_and_kill(broker, Duration::from_millis(400));
    for turn in 0..FALSE_STARTS {
        let mut child = support::command(&data, "127.0.0.1:0", &["--cores", cores_of(1)])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        std::thread::sleep(Duration::from_millis(4 + 5 * turn));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    let broker = start(&data, 2);
    let mut client = Client::connect(broker.address());
    for writer in &mut campaign.writers {
        writer.check(&mut client);
    }
    campaign.idempotent.check(&mut client);
    println!("{} batches acknowledged, {} stored", campaign.acked(), campaign.stored());
    assert!(campaign.acked() > 10, "the writers were at work");
}
