//! librdkafka through the `rdkafka` crate: the sample with every codec and acks value, then the
//! administration.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Timestamp};

use crate::report::{Outcome, Report, require};
use crate::sample;

const WAIT: Duration = Duration::from_secs(20);

/// Runs every case; `true` if all ended well.
pub fn run(broker: &str, prefix: &str) -> bool {
    let (_, version) = rdkafka::util::get_rdkafka_version();
    let mut report = Report::new(format!("librdkafka {version}"));
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for acks in ["0", "1", "all"] {
            let topic = format!("{prefix}-rdkafka-{codec}-{acks}");
            let case = format!("round trip {codec} acks={acks}");
            report.run(&case, || round_trip(broker, &topic, codec, acks));
        }
    }
    let topic = format!("{prefix}-rdkafka-idempotent");
    report.run("round trip with enable.idempotence", || {
        create(broker, &topic, 1)?;
        let mut config = ClientConfig::new();
        config.set("enable.idempotence", "true").set("compression.type", "lz4");
        produce(broker, &topic, config, true)?;
        read_back(broker, &topic)
    });
    admin_cases(broker, &format!("{prefix}-rdkafka-admin"), &mut report);
    report.passed()
}

/// Keeps what became of each record, by its number.
struct Deliveries(Mutex<Vec<Option<Result<i64, String>>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<usize>) {
        let delivered = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.to_string()),
        };
        if let Ok(mut deliveries) = self.0.lock() {
            deliveries[*record] = Some(delivered);
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn round_trip(broker: &str, topic: &str, codec: &str, acks: &str) -> Outcome {
    create(broker, topic, 1)?;
    let mut config = ClientConfig::new();
    config.set("acks", acks).set("compression.type", codec);
    produce(broker, topic, config, acks != "0")?;
    read_back(broker, topic)
}

/// Produces the sample; with `offsets` each record must be acknowledged at its own number.
fn produce(broker: &str, topic: &str, mut config: ClientConfig, offsets: bool) -> Outcome {
    config.set("bootstrap.servers", broker).set("linger.ms", "5");
    let deliveries = Deliveries(Mutex::new(vec![None; sample::COUNT]));
    let producer: BaseProducer<Deliveries> =
        config.create_with_context(deliveries).map_err(text)?;
    for i in 0..sample::COUNT {
        let mut headers = OwnedHeaders::new();
        for (key, value) in sample::headers(i) {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let (key, value) = (sample::key(i), sample::value(i));
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(i))
            .partition(0)
            .timestamp(sample::timestamp(i))
            .headers(headers);
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(value) = &value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| text(error))?;
    }
    producer.flush(WAIT).map_err(text)?;
    let deliveries = producer.context().0.lock().map_err(text)?;
    for (i, delivered) in deliveries.iter().enumerate() {
        match delivered {
            Some(Ok(offset)) => require(!offsets || *offset == i as i64, || {
                format!("record {i} was acknowledged with offset {offset}")
            })?,
            Some(Err(error)) => return Err(format!("record {i}: {error}")),
            None => return Err(format!("record {i} was neither acknowledged nor refused")),
        }
    }
    Ok(())
}

fn consumer(broker: &str) -> Result<BaseConsumer, String> {
    ClientConfig::new()
        .set("bootstrap.servers", broker)
        // librdkafka wants a name, though a consumer with `assign` joins no group.
        .set("group.id", "thalweg-compare")
        .set("enable.auto.commit", "false")
        .create()
        .map_err(text)
}

fn read_back(broker: &str, topic: &str) -> Outcome {
    let consumer = consumer(broker)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).map_err(text)?;
    consumer.assign(&assignment).map_err(text)?;
    let deadline = Instant::now() + WAIT;
    let mut read = Vec::new();
    while read.len() < sample::COUNT && Instant::now() < deadline {
        if let Some(polled) = consumer.poll(Duration::from_millis(200)) {
            read.push(polled.map_err(text)?.detach());
        }
    }
    require(read.len() == sample::COUNT, || format!("read {} records", read.len()))?;
    let watermarks = consumer.fetch_watermarks(topic, 0, WAIT).map_err(text)?;
    require(watermarks == (0, sample::COUNT as i64), || format!("watermarks {watermarks:?}"))?;
    read.iter().enumerate().try_for_each(|(i, message)| verify(i, message))
}

fn verify(i: usize, read: &OwnedMessage) -> Outcome {
    require(read.offset() == i as i64, || format!("record {i} has offset {}", read.offset()))?;
    let timestamp = Timestamp::CreateTime(sample::timestamp(i));
    require(read.timestamp() == timestamp, || format!("record {i}: {:?}", read.timestamp()))?;
    require(read.key() == sample::key(i).as_deref(), || format!("record {i} has another key"))?;
    require(read.payload() == sample::value(i).as_deref(), || {
        format!("record {i} has another value of {:?} bytes", read.payload().map(<[u8]>::len))
    })?;
    let expected = sample::headers(i);
    let found: Vec<_> = read.headers().iter().flat_map(|headers| headers.iter()).collect();
    let same = found.len() == expected.len()
        && found
            .iter()
            .zip(&expected)
            .all(|(found, (key, value))| found.key == *key && found.value == value.as_deref());
    require(same, || format!("record {i} has other headers: {found:?}"))
}

fn admin(broker: &str) -> Result<AdminClient<DefaultClientContext>, String> {
    ClientConfig::new().set("bootstrap.servers", broker).create().map_err(text)
}

/// Waits for an admin call; its future needs no runtime, only a thread to wake.
fn wait<T>(call: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut call = std::pin::pin!(call);
    loop {
        match call.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WAIT)).request_timeout(Some(WAIT))
}

/// What an admin call answers for one resource.
type Answer<T> = Result<T, (String, RDKafkaErrorCode)>;

/// The one answer of an admin call for one resource.
fn only<T>(
    answers: Result<Vec<Answer<T>>, rdkafka::error::KafkaError>,
) -> Result<Result<T, RDKafkaErrorCode>, String> {
    let answer = answers.map_err(text)?.pop().ok_or("no answer")?;
    Ok(answer.map_err(|(_, code)| code))
}

fn create_with(
    broker: &str,
    topic: &NewTopic<'_>,
) -> Result<Result<String, RDKafkaErrorCode>, String> {
    only(wait(admin(broker)?.create_topics([topic], &options())))
}

fn create(broker: &str, topic: &str, partitions: i32) -> Outcome {
    // The sample is years old: without this it would be deleted at the next check.
    create_with_configs(broker, topic, partitions, &[("retention.ms", "-1")])
}

/// Creates a topic with one replica.
pub fn create_with_configs(
    broker: &str,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Outcome {
    let mut topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in configs {
        topic = topic.set(name, value);
    }
    create_with(broker, &topic)?.map(|_| ()).map_err(text)
}

fn refused(
    answer: Result<Result<String, RDKafkaErrorCode>, String>,
    expected: RDKafkaErrorCode,
) -> Outcome {
    let answer = answer?;
    require(answer.as_ref().err() == Some(&expected), || format!("{answer:?}, not {expected:?}"))
}

fn admin_cases(broker: &str, topic: &str, report: &mut Report) {
    report.run("create and list topics", || {
        let one = || TopicReplication::Fixed(1);
        let asked = NewTopic::new(topic, 3, one()).set("retention.ms", "7200000");
        create_with(broker, &asked)?.map_err(text)?;
        require(partitions(broker, topic)? == 3, || "not three partitions".to_owned())?;
        refused(create_with(broker, &asked), RDKafkaErrorCode::TopicAlreadyExists)?;
        let bad = NewTopic::new("a b", 1, one());
        refused(create_with(broker, &bad), RDKafkaErrorCode::InvalidTopic)?;
        let other = format!("{topic}-r");
        let bad = NewTopic::new(&other, 1, TopicReplication::Fixed(3));
        refused(create_with(broker, &bad), RDKafkaErrorCode::InvalidReplicationFactor)?;
        let bad = NewTopic::new(&other, 1, one()).set("retention.ms", "soon");
        refused(create_with(broker, &bad), RDKafkaErrorCode::InvalidConfig)
    });
    report.run("create partitions", || {
        let asked = NewPartitions::new(topic, 5);
        only(wait(admin(broker)?.create_partitions([&asked], &options())))?.map_err(text)?;
        eventually(|| Ok(partitions(broker, topic)? == 5))?;
        let fewer = NewPartitions::new(topic, 2);
        let answer = only(wait(admin(broker)?.create_partitions([&fewer], &options())));
        refused(answer, RDKafkaErrorCode::InvalidPartitions)
    });
    report.run("describe configs", || configs(broker, topic));
    report.run("list offsets", || offsets(broker, &format!("{topic}-offsets")));
    report.run("delete records", || deletions(broker, &format!("{topic}-offsets")));
    report.run("delete topics", || {
        let delete =
            |topic: &str| Ok(only(wait(admin(broker)?.delete_topics(&[topic], &options()))));
        let answer: Result<_, String> = delete(topic);
        answer??.map_err(text)?;
        eventually(|| Ok(partitions(broker, topic)? == 0))?;
        let answer: Result<_, String> = delete(topic);
        refused(answer?, RDKafkaErrorCode::UnknownTopicOrPartition)
    });
}

/// Waits for a broker whose metadata is a moment behind its controller.
fn eventually(mut check: impl FnMut() -> Result<bool, String>) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !check()? {
        require(Instant::now() < deadline, || "still not so after five seconds".to_owned())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Listed without naming the topic, which would create it.
fn partitions(broker: &str, topic: &str) -> Result<usize, String> {
    let metadata = consumer(broker)?.fetch_metadata(None, WAIT).map_err(text)?;
    let found = metadata.topics().iter().find(|listed| listed.name() == topic);
    Ok(found.map_or(0, |found| found.partitions().len()))
}

fn config(broker: &str, topic: &str, name: &str) -> Result<Option<String>, String> {
    let resource = [ResourceSpecifier::Topic(topic)];
    let described = wait(admin(broker)?.describe_configs(&resource, &options())).map_err(text)?;
    let described = described.into_iter().next().ok_or("no answer")?.map_err(text)?;
    let entry = described.get(name).ok_or_else(|| format!("{name} is missing"))?;
    Ok(entry.value.clone())
}

/// The crate can only alter configurations with AlterConfigs, which is not incremental: left to
/// the other clients.
fn configs(broker: &str, topic: &str) -> Outcome {
    for (name, value) in [("retention.ms", "7200000"), ("max.message.bytes", "1048588")] {
        let found = config(broker, topic, name)?;
        require(found.as_deref() == Some(value), || format!("{name} is {found:?}"))?;
    }
    Ok(())
}

fn offsets(broker: &str, topic: &str) -> Outcome {
    round_trip(broker, topic, "zstd", "all")?;
    let consumer = consumer(broker)?;
    let at = |offset: Offset| -> Result<Offset, String> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, 0, offset).map_err(text)?;
        let found = consumer.offsets_for_times(asked, WAIT).map_err(text)?;
        found.find_partition(topic, 0).map(|found| found.offset()).ok_or("no answer".to_owned())
    };
    let found = at(Offset::Offset(sample::BASE_TIMESTAMP + 4001))?;
    require(found == Offset::Offset(5), || format!("by time: {found:?}"))?;
    let found = at(Offset::Offset(sample::BASE_TIMESTAMP + 1_000_000))?;
    require(found == Offset::End, || format!("behind the end: {found:?}"))
}

fn deletions(broker: &str, topic: &str) -> Outcome {
    let delete = |before: Offset| -> Result<Result<Offset, KafkaError>, String> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, 0, before).map_err(text)?;
        let answer = wait(admin(broker)?.delete_records(&asked, &options())).map_err(text)?;
        let answer = answer.find_partition(topic, 0).ok_or("no answer")?;
        Ok(answer.error().map(|()| answer.offset()))
    };
    for (before, begins) in [(Offset::Offset(7), 7), (Offset::Offset(3), 7), (Offset::End, 40)] {
        let found = delete(before)?.map_err(text)?;
        require(found == Offset::Offset(begins), || format!("{before:?}: {found:?}"))?;
    }
    let found = delete(Offset::Offset(41))?;
    let code = found.as_ref().err().and_then(KafkaError::rdkafka_error_code);
    require(code == Some(RDKafkaErrorCode::OffsetOutOfRange), || format!("beyond: {found:?}"))
}
