//! Large batches, which go straight into their segments, through kill -9: none that was acknowledged
//! is missing, none is half there, at any level and beside small ones.

mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use support::Broker;
use support::batch::RawBatch;
use support::client::{Client, Stored, batch_of};

const CYCLES: usize = 6;
/// The levels: every batch synced, none.
const LEVELS: [(&str, &str); 2] = [("synced", "1"), ("unsynced", "9223372036854775807")];
/// Requests that a writer has on the way.
const IN_FLIGHT: usize = 5;

/// What one writer was promised. A batch is one record, which begins with its number.
struct Writer {
    topic: &'static str,
    sent: usize,
    /// Base offset and number of every batch that was acknowledged.
    acked: Vec<(i64, usize)>,
}

impl Writer {
    /// One in five is small; the others take from 300 KB to 1 MB.
    fn batch(&self, number: usize) -> RawBatch {
        let mut value = format!("#{number}#{}", self.topic).into_bytes();
        let len = if number % 5 == 4 { 300 } else { 300_000 + 77_001 * (number % 10) };
        value.resize(len, number as u8);
        batch_of(1, &value)
    }

    /// Sends batch after batch until the broker is gone.
    fn write_until_the_end(&mut self, address: SocketAddr) {
        let mut client = Client::connect(address);
        let mut waiting = VecDeque::new();
        loop {
            while waiting.len() < IN_FLIGHT {
                client.send_produce(self.topic, 0, -1, &self.batch(self.sent).bytes());
                waiting.push_back(self.sent);
                self.sent += 1;
            }
            let Some(produced) = client.produced() else { return };
            assert_eq!(produced.error, 0, "{}", self.topic);
            let number = waiting.pop_front().expect("answers follow requests");
            self.acked.push((produced.base_offset, number));
        }
    }

    fn check(&self, client: &mut Client) {
        let (mut next, mut least, mut acked) = (0, 0, self.acked.iter().peekable());
        while next < client.end_offset(self.topic, 0) {
            let fetched = client.fetch(self.topic, 0, next, 8 << 20);
            assert_eq!(fetched.error, 0, "{} can be read from {next}", self.topic);
            for stored in support::client::stored_batches(&fetched.records) {
                assert_eq!(stored.base_offset, next, "offsets follow each other");
                next += 1;
                let number = number_of(&stored);
                assert!(number >= least && number < self.sent, "{number} is there twice, or new");
                least = number + 1;
                assert!(stored.payload == self.batch(number).payload, "{number} is as it was sent");
                if let Some(promised) = acked.next_if(|(offset, _)| *offset == stored.base_offset) {
                    assert_eq!(promised.1, number, "{}: offset {next} is another's", self.topic);
                }
            }
        }
        assert_eq!(acked.next(), None, "{}: acknowledged, and not there", self.topic);
    }
}

fn number_of(stored: &Stored) -> usize {
    let mut parts = stored.payload.split(|byte| *byte == b'#').skip(1);
    let digits = parts.next().and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).expect("a value begins with its number")
}

fn start(data: &Path, cycle: usize) -> Broker {
    let two = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    let cores = if two { ["0", "0,1", "1"][cycle % 3] } else { "0" };
    Broker::start(data, &["--cores", cores])
}

#[test]
fn kill_9_loses_no_acknowledged_large_batch() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut writers = LEVELS.map(|(topic, _)| Writer { topic, sent: 0, acked: Vec::new() });
    let mut broker = start(&data, 0);
    let mut client = Client::connect(broker.address());
    for (topic, level) in LEVELS {
        // Small enough for the lane to begin anew now and then.
        let configs = [("flush.messages", level), ("segment.bytes", "33554432")];
        assert_eq!(client.create_topic(topic, 1, &configs), 0);
    }
    for cycle in 1..=CYCLES {
        let address = broker.address();
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| writer.write_until_the_end(address));
            }
            std::thread::sleep(Duration::from_millis(150 + 100 * (cycle as u64 % 4)));
            broker.kill();
        });
        broker = start(&data, cycle);
        let mut client = Client::connect(broker.address());
        writers.iter().for_each(|writer| writer.check(&mut client));
    }
    assert!(writers.iter().all(|writer| writer.acked.len() > CYCLES), "it was under load");
    assert_eq!(broker.stop().code(), Some(0));
}

#[test]
fn large_batches_go_straight_into_their_segments_in_a_broker_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let broker = Broker::start(&data, &["--cores", "0", "--set", "log.level=debug"]);
    let mut client = Client::connect(broker.address());
    assert_eq!(client.create_topic("large", 1, &[]), 0);
    let value = vec![7; 1_000_000];
    for _ in 0..20 {
        assert_eq!(client.produce("large", 0, &batch_of(1, &value).bytes()).error, 0);
    }
    assert_eq!(client.read_all("large", 0, 0).len(), 20);
    assert_eq!(broker.stop().code(), Some(0));
    let log = std::fs::read_to_string(support::log_of(&data)).expect("its log");
    let written: u64 = log.split("bytes_large=").skip(1).map(leading_number).sum();
    assert!(written >= 10 * 1_000_000, "{written} bytes of 20,000,000:\n{log}");
}

fn leading_number(text: &str) -> u64 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
