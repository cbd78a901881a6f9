//! "Fetch makes no user-space copy of record bytes; produce makes one before the acknowledgement and
//! at most one behind it", counted from the receive buffer on.
//!
//! Counted twice, so that a copy is found whether or not its author counts it: by the ledgers that
//! the broker keeps (and logs when it stops), and by this test's allocator, since a copy needs
//! memory to go to. The broker runs in this process, the clients' threads are not counted. Memory
//! for devices (journal groups, segment extents, reads: aligned to 4 KiB) is the ledgers' matter.

#![allow(unsafe_code, reason = "an allocator is unsafe by its trait; it only counts")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use support::client::{Client, batch_of, stored_batches};
use thalweg::config::cli::StartFlags;
use thalweg::config::settings::Settings;
use thalweg::server::broker;

/// Alignment from which on memory is for devices.
const DEVICE_ALIGN: usize = 4096;
/// What a connection's first large frame may have received in the chunk in which it began.
const FIRST_FRAME_MOVED_MAX: u64 = 64 << 10;
/// Large frames of a connection before a batch lies where it can be written from.
const FRAMES_TO_LEARN: u64 = 2;
/// Bookkeeping of one batch on its way, in bytes (slices, vectors of slices); far from a copy of
/// even the small ones.
const BOOKKEEPING_BYTES_MAX: u64 = 450;
/// Chunks in which a connection receives small frames, and the like, in bytes.
const SCRATCH_BYTES_MAX: u64 = 256 << 10;

// --- an allocator that counts --------------------------------------------------------------------

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

static COUNTED_BYTES: AtomicU64 = AtomicU64::new(0);
/// Allocations smaller than this cannot hold a batch and are not counted.
static LEAST_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

fn note(layout: Layout, bytes: usize) {
    let counts = bytes >= LEAST_BYTES.load(Ordering::Relaxed) && layout.align() < DEVICE_ALIGN;
    if counts && !IS_CLIENT.get() {
        COUNTED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    // # Safety
    // The trait's own conditions.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    // # Safety
    // The trait's own conditions.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    // # Safety
    // The trait's own conditions.
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(layout, bytes);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, bytes) }
    }

    // # Safety
    // The trait's own conditions.
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Bytes that the broker allocated during `work` in pieces of at least `least` bytes.
fn allocated(least: usize, work: impl FnOnce()) -> u64 {
    LEAST_BYTES.store(least, Ordering::SeqCst);
    let before = COUNTED_BYTES.load(Ordering::SeqCst);
    work();
    let counted = COUNTED_BYTES.load(Ordering::SeqCst) - before;
    LEAST_BYTES.store(usize::MAX, Ordering::SeqCst);
    counted
}

// --- a broker in this process --------------------------------------------------------------------

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics in here").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> Log {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter("info,thalweg=debug")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("nobody panics in here"));
        String::from_utf8(bytes).expect("UTF-8")
    }
}

struct InProcess {
    thread: JoinHandle<()>,
    address: SocketAddr,
}

/// What a broker says of its copies when it stops.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ledger {
    staged: u64,
    extents: u64,
    moved: u64,
}

impl InProcess {
    fn start(dir: &Path, cores: &str) -> InProcess {
        let flags = StartFlags {
            data_dirs: vec![dir.to_str().expect("UTF-8").to_owned()],
            listen: Some("127.0.0.1:0".to_owned()),
            cores: Some(cores.to_owned()),
            set: vec!["read.cache.bytes=256MiB".to_owned()],
            ..StartFlags::default()
        };
        let settings = Settings::load(&flags, []).expect("good settings");
        let (ready, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            broker::run(settings, |address| ready.send(address).expect("the test waits"))
                .expect("the broker starts and stops");
        });
        let address = address.recv_timeout(Duration::from_secs(30)).expect("it starts");
        InProcess { thread, address }
    }

    fn stop(self, log: &Log) -> Ledger {
        let pid = std::process::id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(killed.success());
        self.thread.join().expect("the broker stops cleanly");
        let text = log.take();
        let sum = |field: &str| {
            let values = text.split_whitespace().filter_map(|word| word.strip_prefix(field));
            let values = values.map(|value| value.parse::<u64>().expect("a number"));
            let values: Vec<u64> = values.collect();
            assert!(!values.is_empty(), "{field} is in the log:\n{text}");
            values.iter().sum()
        };
        Ledger {
            staged: sum("bytes_staged="),
            extents: sum("bytes_extents="),
            moved: sum("bytes_moved="),
        }
    }
}

// --- the loads -----------------------------------------------------------------------------------

struct Load {
    topic: &'static str,
    value_bytes: usize,
    batches: i32,
    in_flight: usize,
}

const PARTITIONS: i32 = 2;

const fn load(topic: &'static str, value_bytes: usize, batches: i32, in_flight: usize) -> Load {
    Load { topic, value_bytes, batches, in_flight }
}

/// One request at a time as well as several on the way, since they are received differently.
const LOADS: [Load; 6] = [
    load("small", 1_000, 1_000, 1),
    load("small-pipelined", 1_000, 4_000, 5),
    load("medium", 100_000, 100, 1),
    load("medium-pipelined", 100_000, 100, 5),
    load("large", 1_000_000, 12, 1),
    load("large-pipelined", 1_000_000, 12, 5),
];

impl Load {
    fn batch(&self) -> Vec<u8> {
        let value: Vec<u8> = (0..self.value_bytes).map(|at| (at % 251) as u8).collect();
        batch_of(1, &value).bytes()
    }

    fn bytes(&self) -> u64 {
        self.batch().len() as u64 * u64::from(self.batches.unsigned_abs())
    }

    /// Of a large batch, but for a connection's first ones, whose place is not known yet, only what
    /// shares a page with other bytes is copied.
    fn bytes_in_place(&self) -> u64 {
        let batch = self.batch().len() as u64;
        if batch < 64 << 10 {
            return 0;
        }
        (u64::from(self.batches.unsigned_abs()) - FRAMES_TO_LEARN) * (batch - 2 * 4096)
    }

    /// Produces all, spread over the partitions, so that some are another core's than the
    /// connection's.
    fn produce(&self, client: &mut Client) {
        let batch = self.batch();
        let take = |client: &mut Client| {
            assert_eq!(client.produced().expect("an answer").error, 0, "{}", self.topic);
        };
        for number in 0..self.batches {
            if usize::try_from(number).expect("positive") >= self.in_flight {
                take(client);
            }
            client.send_produce(self.topic, number % PARTITIONS, -1, &batch);
        }
        for _ in 0..self.in_flight {
            take(client);
        }
    }

    fn fetch(&self, client: &mut Client) {
        let payload = self.batch().split_off(61);
        for partition in 0..PARTITIONS {
            let mut next = 0;
            while next < i64::from(self.batches / PARTITIONS) {
                let fetched = client.fetch(self.topic, partition, next, 4 << 20);
                assert_eq!(fetched.error, 0, "{}", self.topic);
                let batches = stored_batches(&fetched.records);
                assert!(!batches.is_empty(), "{} goes on at {next}", self.topic);
                for batch in batches {
                    assert_eq!(batch.base_offset, next, "{}", self.topic);
                    assert!(batch.payload == payload, "{} comes back as it went", self.topic);
                    next += 1;
                }
            }
        }
    }

    /// Batches and whatever holds one are counted, what is clearly smaller is not.
    fn least_bytes(&self) -> usize {
        self.batch().len() * 9 / 10
    }

    /// What may be allocated although nothing is copied.
    fn overhead_bytes_max(&self) -> u64 {
        u64::from(self.batches.unsigned_abs()) * BOOKKEEPING_BYTES_MAX + SCRATCH_BYTES_MAX
    }

    fn judge(&self, what: &str, allocated: u64, allowed: u64) {
        let ratio = allocated as f64 / self.bytes() as f64;
        println!("{what}, {}: {ratio:.4} bytes allocated for each byte", self.topic);
        assert!(
            allocated <= allowed,
            "{what} of {} allocates {allocated} bytes for {}; {allowed} would do if nobody copied",
            self.topic,
            self.bytes()
        );
    }

    fn fetch_counted(&self, address: SocketAddr, what: &str) {
        let mut client = Client::connect(address);
        let allocated = allocated(self.least_bytes(), || self.fetch(&mut client));
        self.judge(what, allocated, self.overhead_bytes_max());
    }

    fn produce_counted(&self, address: SocketAddr) {
        let mut client = Client::connect(address);
        assert_eq!(client.create_topic(self.topic, PARTITIONS, &[]), 0);
        let allocated = allocated(self.least_bytes(), || self.produce(&mut client));
        // Received once; small frames share chunks whose ends are left empty.
        let received = self.bytes() / 10 * 11;
        self.judge("produce", allocated, received + self.overhead_bytes_max());
    }
}

fn copies_on(cores: &str, log: &Log) {
    let dir = tempfile::tempdir().expect("a directory");
    println!("--cores {cores}");
    let broker = InProcess::start(dir.path(), cores);
    for load in &LOADS {
        load.produce_counted(broker.address);
        load.fetch_counted(broker.address, "hot fetch");
    }
    let ledger = broker.stop(log);
    let produced: u64 = LOADS.iter().map(Load::bytes).sum();
    println!("{produced} bytes produced: {ledger:?}");
    assert!(ledger.staged <= produced, "at most one copy before the acknowledgement: {ledger:?}");
    assert!(ledger.extents <= produced, "at most one behind it: {ledger:?}");
    let large = LOADS.iter().filter(|load| load.value_bytes > 32 << 10).count() as u64;
    if cores == "0" {
        let in_place: u64 = LOADS.iter().map(Load::bytes_in_place).sum();
        let copied = produced - in_place;
        assert!(ledger.staged <= copied, "large batches stay where they came: {ledger:?}");
        assert!(ledger.extents <= copied, "large batches are written from there: {ledger:?}");
    }
    assert!(
        ledger.moved <= large * FIRST_FRAME_MOVED_MAX,
        "only a connection's first large frame may have begun in a chunk: {ledger:?}"
    );
    let broker = InProcess::start(dir.path(), cores);
    for load in &LOADS {
        load.fetch_counted(broker.address, "cold fetch");
    }
    assert_eq!(broker.stop(log), Ledger::default(), "reading copies nothing");
}

#[test]
fn produce_copies_once_before_the_acknowledgement_and_once_behind_it_and_fetch_never() {
    IS_CLIENT.set(true);
    let log = Log::start();
    copies_on("0", &log);
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        eprintln!("SKIPPED: two cores, since this machine has one CPU");
        return;
    }
    copies_on("0,1", &log);
}
