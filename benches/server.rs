//! The door of both routes: frames cut out of a connection's bytes, beside a blocking receive of
//! the same bytes into one buffer. Server on core 0, client on core 1, loopback.
//!
//! `cargo bench --bench server` prints a table with the server's CPU time, then criterion's view.
#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use thalweg::io::tcp::TcpListener;
use thalweg::server::frame_place::FramePlace;
use thalweg::server::frame_reader::FrameReader;
use thalweg::shard::budget::Budget;

#[path = "io_support/mod.rs"]
mod support;
use support::{Cost, Meter, NAPPING, on_ring, pin, print_row, rounds, table_then_criterion};

/// Frames of one body size.
#[derive(Clone, Copy)]
struct Load {
    body: usize,
    count: u64,
}

impl Load {
    fn stream_bytes(self) -> usize {
        usize::try_from(self.count).expect("small") * (4 + self.body)
    }
}

/// Sends the frames from core 1 as fast as they are taken, then waits for one byte.
fn send_frames(addr: SocketAddr, load: Load) {
    pin(1);
    let mut stream = StdStream::connect(addr).expect("connected");
    let mut frame = u32::try_from(load.body).expect("small").to_be_bytes().to_vec();
    frame.resize(4 + load.body, 0x5A);
    // Small frames go several at a time, as a pipelining client sends them.
    let at_once = (16 * 1024 / frame.len()).clamp(1, usize::try_from(load.count).expect("small"));
    let burst = frame.repeat(at_once);
    for _ in 0..load.count / at_once as u64 {
        stream.write_all(&burst).expect("sent");
    }
    for _ in 0..load.count % at_once as u64 {
        stream.write_all(&frame).expect("sent");
    }
    stream.read_exact(&mut [0]).expect("received");
}

/// Runs a server that says where it listens and returns what its work cost.
fn run(load: Load, serve: impl FnOnce(Load, mpsc::Sender<SocketAddr>) -> Cost + Send) -> Cost {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || serve(load, sender));
        let addr = receiver.recv().expect("the server listens");
        let client = scope.spawn(move || send_frames(addr, load));
        client.join().expect("the client ends");
        server.join().expect("the server ends")
    })
}

/// As a connection does it. The process's CPU would count the client.
fn frame_reader(load: Load, addr: mpsc::Sender<SocketAddr>) -> Cost {
    on_ring(0, NAPPING, move || async move {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        addr.send(listener.local_addr().expect("known")).expect("the client waits");
        let (stream, _) = listener.accept().await.expect("accepted");
        let stream = Rc::new(stream);
        let mut reader = FrameReader::new(
            stream.clone(),
            Budget::new(64 << 20),
            Rc::default(),
            FramePlace::default(),
        );
        let (begin, cpu) = (Instant::now(), Meter::thread_cpu());
        for _ in 0..load.count {
            let frame = reader.next(16 << 20).await.expect("a frame").expect("not the end");
            assert_eq!(frame.bytes.len(), load.body);
        }
        let cost = Cost { wall: begin.elapsed(), cpu: Meter::thread_cpu() - cpu };
        stream.send_slices(vec![bytes::Bytes::from_static(b".")]).await.expect("sent");
        cost
    })
}

/// The same bytes into one warm buffer: what the socket alone costs.
fn blocking_receive(load: Load, addr: mpsc::Sender<SocketAddr>) -> Cost {
    pin(0);
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    addr.send(listener.local_addr().expect("known")).expect("the client waits");
    let (mut stream, _) = listener.accept().expect("accepted");
    let mut buf = vec![0; load.body.max(64 << 10)];
    let (begin, cpu) = (Instant::now(), Meter::thread_cpu());
    let mut left = load.stream_bytes();
    while left > 0 {
        left -= stream.read(&mut buf).expect("received");
    }
    let cost = Cost { wall: begin.elapsed(), cpu: Meter::thread_cpu() - cpu };
    stream.write_all(b".").expect("sent");
    cost
}

const LOADS: [Load; 3] = [
    Load { body: 1100, count: 100_000 },
    Load { body: 100 << 10, count: 10_000 },
    Load { body: 1 << 20, count: 1500 },
];

fn table() {
    for load in LOADS {
        println!("\nframes of {} bytes (CPU of the server)", load.body);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for round in 0..=rounds() {
            let costs = (run(load, frame_reader), run(load, blocking_receive));
            if round > 0 {
                ours.push(costs.0);
                bare.push(costs.1);
            }
        }
        print_row("FrameReader", load.count, load.body as u64, ours);
        print_row("blocking receive into one buffer", load.count, load.body as u64, bare);
    }
}

fn criterion_view(criterion: &mut Criterion) {
    for load in LOADS {
        let mut group = criterion.benchmark_group(format!("server/frames/{}", load.body));
        group.sample_size(10).throughput(Throughput::Bytes(load.body as u64));
        group.bench_function("FrameReader", |bencher| {
            bencher.iter_custom(|count| run(Load { count, ..load }, frame_reader).wall);
        });
        group.bench_function("blocking receive", |bencher| {
            bencher.iter_custom(|count| run(Load { count, ..load }, blocking_receive).wall);
        });
        group.finish();
    }
}

fn main() {
    table_then_criterion(table, criterion_view);
}
