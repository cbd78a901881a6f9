//! librdkafka as a rate-limited producer. Its own statistics give the time from a request's send to
//! its answer (`rtt`); the window that is reported is the second of two, the first is the warm-up.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Statistics;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::{BATCH_RECORDS, Client, LINGER_MS, Plan, RECORD_BYTES, Run};

const WAIT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Seen {
    delivered: u64,
    failed: u64,
    /// Delivered so far and the requests' times, at each of librdkafka's reports.
    windows: Vec<Window>,
}

struct Window {
    at: Instant,
    delivered: u64,
    p50_us: f64,
    p99_us: f64,
    mean_us: f64,
}

#[derive(Default)]
struct Context(Mutex<Seen>);

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let windows = statistics.brokers.values().filter_map(|broker| broker.rtt.as_ref());
        // One broker; what was asked of it before it had a name counts for little.
        let Some(rtt) = windows.max_by_key(|window| window.cnt) else { return };
        let Ok(mut seen) = self.0.lock() else { return };
        let (at, delivered) = (Instant::now(), seen.delivered);
        let (p50_us, p99_us, mean_us) = (rtt.p50 as f64, rtt.p99 as f64, rtt.avg as f64);
        seen.windows.push(Window { at, delivered, p50_us, p99_us, mean_us });
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Ok(mut seen) = self.0.lock() else { return };
        match result {
            Ok(_) => seen.delivered += 1,
            Err(_) => seen.failed += 1,
        }
    }
}

/// Runs on a thread of its own that is pinned first: librdkafka's threads inherit it.
pub(super) fn run(plan: &Plan, broker: &str, topic: &str) -> Result<Run, String> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin_this_thread(plan.cpu)?;
            produce(plan, broker, topic)
        });
        thread.join().map_err(|_| "its thread died".to_owned())?
    })
}

/// By way of `taskset`, so that nothing here is unsafe.
fn pin_this_thread(cpu: usize) -> Result<(), String> {
    let thread = std::fs::read_link("/proc/thread-self").map_err(|error| error.to_string())?;
    let id = thread.file_name().and_then(|name| name.to_str()).ok_or("no thread id")?.to_owned();
    let status = std::process::Command::new("taskset")
        .args(["-pc", &cpu.to_string(), &id])
        .stdout(std::process::Stdio::null())
        .status()
        .map_err(|error| format!("taskset: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("taskset: {status}")) }
}

fn produce(plan: &Plan, broker: &str, topic: &str) -> Result<Run, String> {
    let window = Duration::from_secs(plan.seconds);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker)
        .set("acks", "all")
        .set("linger.ms", LINGER_MS)
        .set("batch.size", "16384")
        .set("batch.num.messages", BATCH_RECORDS.to_string())
        .set("max.in.flight.requests.per.connection", "5")
        .set("statistics.interval.ms", window.as_millis().to_string());
    let producer: BaseProducer<Context> =
        config.create_with_context(Context::default()).map_err(|error| error.to_string())?;
    let value = [b'v'; RECORD_BYTES];
    let per_s = plan.rate * 1e6 / RECORD_BYTES as f64;
    let start = Instant::now();
    let mut sent = 0u64;
    let windows = || producer.context().0.lock().map_or(0, |seen| seen.windows.len());
    while windows() < 2 {
        if start.elapsed() > window * 3 + WAIT {
            return Err("librdkafka gives no statistics".to_owned());
        }
        while (sent as f64) < start.elapsed().as_secs_f64() * per_s {
            let record = BaseRecord::<(), [u8], ()>::to(topic).partition(0).payload(&value[..]);
            producer.send(record).map_err(|(error, _)| error.to_string())?;
            sent += 1;
        }
        producer.poll(Duration::from_micros(500));
    }
    producer.flush(WAIT).map_err(|error| error.to_string())?;
    let seen = producer.context().0.lock().map_err(|error| error.to_string())?;
    if seen.failed > 0 {
        return Err(format!("{} records were not delivered", seen.failed));
    }
    let [first, second, ..] = &seen.windows[..] else { return Err("too few windows".to_owned()) };
    let records = (second.delivered - first.delivered) as f64;
    let elapsed = second.at.duration_since(first.at).as_secs_f64();
    Ok(Run {
        client: Client::Librdkafka,
        null: false,
        mb_per_s: records * RECORD_BYTES as f64 / elapsed / 1e6,
        p50_us: second.p50_us,
        p99_us: second.p99_us,
        mean_us: Some(second.mean_us),
    })
}
