//! InitProducerId without transactions, and the sequences of idempotent producers.

use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, TopicName, TransactionalId};

use super::BASE_TIMESTAMP;
use crate::batch::Batch;
use crate::differential::script::{Script, text};

pub fn run(script: &mut Script) {
    init(script);
    init_refusals(script);
    sequences(script);
    epochs(script);
    wrap(script);
}

fn request() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
}

fn known(id: i64, epoch: i16) -> InitProducerIdRequest {
    request().with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
}

fn init(script: &mut Script) {
    for version in 0..=5 {
        script.ask_producer_id(&format!("init producer id v{version}"), version, &request());
    }
    script.ask_producer_id(
        "init producer id v4, timeout 0",
        4,
        &request().with_transaction_timeout_ms(0),
    );
    script.ask_producer_id(
        "init producer id v4, timeout -1",
        4,
        &request().with_transaction_timeout_ms(-1),
    );
}

fn init_refusals(script: &mut Script) {
    for (what, request) in [
        ("id and epoch", known(1_000, 3)),
        ("id without epoch", known(1_000, -1)),
        ("epoch without id", known(-1, 3)),
        ("id -2", known(-2, -1)),
        ("greatest epoch", known(1_000, i16::MAX)),
    ] {
        for version in [3, 4] {
            script.ask_producer_id(
                &format!("init producer id v{version}, {what}"),
                version,
                &request,
            );
        }
    }
    let empty = request().with_transactional_id(Some(TransactionalId(text(""))));
    script.ask_producer_id("init producer id v4, empty transactional id", 4, &empty);
}

/// A producer id of this broker.
fn producer(script: &mut Script) -> i64 {
    for _ in 0..50 {
        let answer = script.call(4, &request());
        if let Some(answer) = answer.filter(|answer| answer.error_code == 0) {
            return answer.producer_id.0;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    script.troubles.push("no producer id after five seconds".to_owned());
    -1
}

fn batch(records: usize) -> Batch {
    Batch::of(BASE_TIMESTAMP, &vec![b"v".as_slice(); records])
}

fn sequences(script: &mut Script) {
    script.create("sequences", 2, &[]);
    let topic = script.topic("sequences");
    let id = producer(script);
    let mut ask = |what: &str, batch: Batch| {
        script.produce(&format!("sequence v9, {what}"), 9, &topic, 0, Some(batch.encode()));
    };
    ask("0..3", batch(3).by(id, 0, 0));
    ask("0..3 again", batch(3).by(id, 0, 0));
    ask("5 is a gap", batch(1).by(id, 0, 5));
    ask("3..5", batch(2).by(id, 0, 3));
    ask("0..2 overlaps", batch(2).by(id, 0, 0));
    ask("4..6 overlaps", batch(2).by(id, 0, 4));
    for first in 5..10 {
        ask(&format!("{first}"), batch(1).by(id, 0, first));
    }
    ask("5 again, still in the window", batch(1).by(id, 0, 5));
    ask("3..5 again, behind the window", batch(2).by(id, 0, 3));
    ask("0..3 again, behind the window", batch(3).by(id, 0, 0));
    ask("sequence -1", batch(1).by(id, 0, -1));
    ask("sequence -2", batch(1).by(id, 0, -2));
    ask("epoch -1", batch(1).by(id, -1, 10));
    ask("epoch -2", batch(1).by(id, -2, 10));
    ask("10 after all that", batch(1).by(id, 0, 10));
    ask("an id that nobody gave, from 0", batch(1).by(1 << 60, 0, 0));
    ask("an id that nobody gave, from 7", batch(1).by((1 << 60) + 1, 0, 7));
    let fresh = producer(script);
    let first = batch(1).by(fresh, 0, 7).encode();
    script.produce("sequence v9, a fresh id from 7", 9, &topic, 0, Some(first));
    let transactional = {
        let mut batch = batch(1).by(fresh, 0, 0);
        batch.attributes |= 0x10;
        batch.encode()
    };
    script.produce("sequence v9, transactional bit", 9, &topic, 0, Some(transactional));
    no_producer(script, &topic);
}

/// Batches of nobody that say something of somebody.
fn no_producer(script: &mut Script, topic: &TopicName) {
    let mut ask = |what: &str, batch: Batch| {
        script.produce(&format!("sequence v9, {what}"), 9, topic, 1, Some(batch.encode()));
    };
    ask("sequence without an id", batch(1).by(-1, -1, 0));
    ask("epoch without an id", batch(1).by(-1, 0, -1));
    ask("id -2", batch(1).by(-2, 0, 0));
}

fn epochs(script: &mut Script) {
    script.create("epochs", 1, &[]);
    let topic = script.topic("epochs");
    let id = producer(script);
    for (what, epoch, sequence) in [
        ("epoch 0 from 0", 0, 0),
        ("epoch 2 from 5", 2, 5),
        ("epoch 2 from 0", 2, 0),
        ("epoch 1, old", 1, 1),
        ("epoch 0, old", 0, 1),
        ("epoch 2, next", 2, 1),
        ("epoch 2, again", 2, 1),
        ("greatest epoch from 0", i16::MAX, 0),
    ] {
        let records = Some(batch(1).by(id, epoch, sequence).encode());
        script.produce(&format!("epochs v9, {what}"), 9, &topic, 0, records);
    }
}

/// Sequences go on at 0 behind the greatest.
fn wrap(script: &mut Script) {
    script.create("wrap", 1, &[]);
    let topic = script.topic("wrap");
    let id = producer(script);
    for (what, records, sequence) in [
        ("from the greatest but one", 1, i32::MAX - 1),
        ("across", 3, i32::MAX),
        ("across, again", 3, i32::MAX),
        ("behind", 1, 2),
    ] {
        let records = Some(batch(records).by(id, 0, sequence).encode());
        script.produce(&format!("wrap v9, {what}"), 9, &topic, 0, records);
    }
}
