//! Durable writes over blocks that exist: the broker's files against glommio's and against a bare
//! ring, interleaved in one run, because the disk's speed changes from minute to minute.
//!
//! `cargo bench --bench io_disk` prints a table with CPU time for each operation (medians of
//! interleaved rounds), then criterion's view of the latencies. `IO_BENCH_DIR` chooses the disk.
#![allow(unsafe_code, missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use criterion::{Criterion, Throughput};
use io_uring::{opcode, types};
use thalweg::io::buf::IoBuf;
use thalweg::io::disk::{Disk, OpenOptions};
use thalweg::io::reactor::IdlePolicy;

#[path = "io_support/mod.rs"]
mod support;
use support::{
    Cost, Meter, NAPPING, SLEEPING, SPINNING, on_executor, on_ring, pin, print_row, raw_ring,
    rounds, table_then_criterion, wanted,
};

/// Gives glommio's buffer arena huge pages, so that the comparison is about rings, not pages.
struct HugeArena;

// SAFETY: passes everything on to the system allocator; larger alignment is always allowed, and
// `dealloc` computes the same layout.
unsafe impl GlobalAlloc for HugeArena {
    // # Safety: as the trait asks of its callers.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let wide = widen(layout);
        // SAFETY: the caller's promise; `wide` is a valid layout.
        let ptr = unsafe { System.alloc(wide) };
        if wide.align() == HUGE && !ptr.is_null() {
            // SAFETY: advice over memory that we have just been given.
            unsafe { libc::madvise(ptr.cast(), wide.size(), libc::MADV_HUGEPAGE) };
        }
        ptr
    }

    // # Safety: as the trait asks of its callers.
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; the same widening as in `alloc`.
        unsafe { System.dealloc(ptr, widen(layout)) };
    }
}

const HUGE: usize = 2 << 20;

fn widen(layout: Layout) -> Layout {
    if layout.size() >= HUGE && layout.align() >= 4096 && layout.align() < HUGE {
        Layout::from_size_align(layout.size(), HUGE).expect("a power of two")
    } else {
        layout
    }
}

#[global_allocator]
static ALLOCATOR: HugeArena = HugeArena;

const FILE_BYTES: u64 = 64 << 20;

#[derive(Clone, Copy)]
struct Load {
    bytes: usize,
    depth: usize,
    durable: bool,
}

/// The position of operation `i`: round and round over the file.
fn position(i: u64, load: Load) -> u64 {
    i * load.bytes as u64 % FILE_BYTES
}

fn open_direct(path: &Path, flags: i32) -> std::fs::File {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT | flags)
        .open(path)
        .expect("opened")
}

fn content(bytes: usize) -> IoBuf {
    let mut buf = IoBuf::alloc(bytes);
    buf.fill(0x5A);
    buf
}

/// The broker's file through its reactor.
fn ring_file(path: &Path, load: Load, ops: u64, idle: IdlePolicy) -> Cost {
    let path = path.to_path_buf();
    on_ring(0, idle, move || async move {
        let options = OpenOptions { write: true, create: false, direct: true };
        let file = Disk::Ring.open(&path, options).await.expect("opened");
        let bytes = content(load.bytes).freeze(load.bytes);
        let meter = Meter::start();
        let mut tasks = Vec::new();
        for lane in 0..load.depth as u64 {
            let (file, bytes) = (file.clone(), bytes.clone());
            tasks.push(glommio::spawn_local(async move {
                for i in (lane..ops).step_by(load.depth) {
                    let pos = position(i, load);
                    file.write_at(bytes.clone(), pos, load.durable).await.expect("written");
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        meter.stop()
    })
}

/// glommio's file; O_DSYNC, because it has no flag for one write.
fn dma_file(path: &Path, load: Load, ops: u64) -> Cost {
    let path = path.to_path_buf();
    on_executor(0, move || async move {
        // A read of written blocks first: glommio's probe for polled I/O misjudges empty files.
        let warm = glommio::io::OpenOptions::new().read(true).dma_open(&path).await;
        warm.expect("opened").close().await.expect("closed");
        let flags = if load.durable { libc::O_DSYNC } else { 0 };
        let mut options = glommio::io::OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(flags);
        let file = Rc::new(options.dma_open(&path).await.expect("opened"));
        let mut buf = file.alloc_dma_buffer(load.bytes);
        buf.as_bytes_mut().fill(0x5A);
        let bytes = Rc::new(buf);
        let meter = Meter::start();
        let mut tasks = Vec::new();
        for lane in 0..load.depth as u64 {
            let (file, bytes) = (file.clone(), bytes.clone());
            tasks.push(glommio::spawn_local(async move {
                for i in (lane..ops).step_by(load.depth) {
                    let pos = position(i, load);
                    let count = file.write_rc_at(bytes.clone(), pos).await.expect("written");
                    assert_eq!(count, load.bytes);
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        let cost = meter.stop();
        let file = Rc::try_unwrap(file).expect("the last one");
        file.close().await.expect("closed");
        cost
    })
}

/// A bare ring without tasks: the limit.
fn raw_uring(path: &Path, load: Load, ops: u64) -> Cost {
    let path = path.to_path_buf();
    let run = move || {
        pin(0);
        IoBuf::set_pool_bytes_max(64 << 20);
        let file = open_direct(&path, 0);
        let bytes = content(load.bytes);
        let mut ring = raw_ring();
        let flags = if load.durable { libc::RWF_DSYNC } else { 0 };
        let meter = Meter::start();
        let (mut sent, mut done) = (0, 0);
        while done < ops {
            while sent < ops && sent - done < load.depth as u64 {
                let fd = types::Fd(file.as_raw_fd());
                let len = u32::try_from(bytes.len()).expect("small");
                let request = opcode::Write::new(fd, bytes.as_ptr(), len)
                    .offset(position(sent, load))
                    .rw_flags(flags)
                    .build();
                // SAFETY: the buffer outlives the loop, which ends with all writes done.
                unsafe { ring.submission().push(&request).expect("fits") };
                sent += 1;
            }
            ring.submit_and_wait(1).expect("entered");
            for entry in ring.completion() {
                assert_eq!(entry.result(), i32::try_from(load.bytes).expect("small"));
                done += 1;
            }
        }
        meter.stop()
    };
    std::thread::spawn(run).join().expect("the run ends")
}

/// The plain system call: nothing else happens on the core meanwhile.
fn raw_pwrite(path: &Path, load: Load, ops: u64) -> Cost {
    let path = path.to_path_buf();
    let run = move || {
        pin(0);
        IoBuf::set_pool_bytes_max(64 << 20);
        let file = open_direct(&path, if load.durable { libc::O_DSYNC } else { 0 });
        let bytes = content(load.bytes);
        let meter = Meter::start();
        for i in 0..ops {
            file.write_all_at(&bytes, position(i, load)).expect("written");
        }
        meter.stop()
    };
    std::thread::spawn(run).join().expect("the run ends")
}

type Contender = (&'static str, fn(&Path, Load, u64) -> Cost);

const CONTENDERS: [Contender; 5] = [
    ("File::Ring, napping", |path, load, ops| ring_file(path, load, ops, NAPPING)),
    ("File::Ring, sleeping only", |path, load, ops| ring_file(path, load, ops, SLEEPING)),
    ("File::Ring, spinning 100 us", |path, load, ops| ring_file(path, load, ops, SPINNING)),
    ("glommio DmaFile", dma_file),
    ("bare io_uring", raw_uring),
];

fn prepare() -> (tempfile::TempDir, PathBuf) {
    let root = std::env::var("IO_BENCH_DIR").unwrap_or_else(|_| "target".into());
    let dir = tempfile::tempdir_in(root).expect("a directory");
    let path = dir.path().join("blocks");
    let file = std::fs::File::create(&path).expect("created");
    let chunk = vec![0xA5u8; 1 << 20];
    for at in (0..FILE_BYTES).step_by(chunk.len()) {
        file.write_all_at(&chunk, at).expect("written");
    }
    file.sync_all().expect("synced");
    (dir, path)
}

fn table(path: &Path) {
    let loads = [
        ("4 KiB durable, depth 1", Load { bytes: 4096, depth: 1, durable: true }, 1500),
        ("4 KiB durable, depth 8", Load { bytes: 4096, depth: 8, durable: true }, 6000),
        ("4 KiB, depth 32", Load { bytes: 4096, depth: 32, durable: false }, 40_000),
        ("64 KiB durable, depth 1", Load { bytes: 64 << 10, depth: 1, durable: true }, 1000),
        ("1 MiB durable, depth 1", Load { bytes: 1 << 20, depth: 1, durable: true }, 250),
        ("1 MiB durable, depth 4", Load { bytes: 1 << 20, depth: 4, durable: true }, 400),
        ("1 MiB, depth 4", Load { bytes: 1 << 20, depth: 4, durable: false }, 600),
    ];
    for (name, load, ops) in loads {
        if !wanted(name) {
            continue;
        }
        println!("\n{name}");
        let pwrite: Contender = ("blocking pwrite", raw_pwrite);
        let mut contenders = CONTENDERS.to_vec();
        if load.depth == 1 {
            contenders.push(pwrite);
        }
        let mut costs = vec![Vec::new(); contenders.len()];
        for round in 0..=rounds() {
            for (i, (_, run)) in contenders.iter().enumerate() {
                let cost = run(path, load, ops);
                if round > 0 {
                    costs[i].push(cost);
                }
            }
        }
        for ((name, _), costs) in contenders.iter().zip(costs) {
            print_row(name, ops, load.bytes as u64, costs);
        }
    }
}

fn criterion_view(path: &Path, criterion: &mut Criterion) {
    for bytes in [4096usize, 1 << 20] {
        let load = Load { bytes, depth: 1, durable: true };
        let mut group = criterion.benchmark_group(format!("io_disk/durable/{bytes}"));
        group.sample_size(10).throughput(Throughput::Bytes(bytes as u64));
        for (name, run) in CONTENDERS {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|ops| run(path, load, ops).wall);
            });
        }
        group.finish();
    }
}

fn main() {
    let (_dir, path) = prepare();
    table_then_criterion(|| table(&path), |criterion| criterion_view(&path, criterion));
}
