//! Loopback sockets: the broker's streams against blocking ones and a bare ring. The server runs
//! on core 0, the client (blocking, the same for all) on core 1.
//!
//! `cargo bench --bench io_net` prints a table with the server's CPU time, then criterion's view.
#![allow(unsafe_code, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput};
use io_uring::{opcode, types};
use thalweg::io::reactor::IdlePolicy;
use thalweg::io::tcp::{TcpListener, TcpStream};

#[path = "io_support/mod.rs"]
mod support;
use support::{
    Cost, Meter, NAPPING, SLEEPING, SPINNING, on_ring, pin, print_row, raw_ring, rounds,
    table_then_criterion, wanted,
};

const MESSAGE: usize = 128;
const CHUNK: usize = 256 << 10;

#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// The server sends back what it gets.
    Echo,
    /// The server receives only, then sends one byte.
    Sink,
    /// The server sends only.
    Source,
}

#[derive(Clone, Copy)]
struct Load {
    work: Work,
    connections: usize,
    /// Messages (echo) or chunks (sink, source) for each connection.
    count: usize,
}

/// A server on a thread of its own, which ends when its clients do and returns its CPU time.
type Server = fn(Load, mpsc::Sender<SocketAddr>) -> Duration;

async fn serve(stream: TcpStream, load: Load) {
    match load.work {
        Work::Echo => {
            let mut buf = BytesMut::with_capacity(64 << 10);
            loop {
                buf.reserve(MESSAGE);
                let (count, back) = stream.recv(buf, MESSAGE).await;
                buf = back;
                if !matches!(count, Ok(1..)) {
                    return;
                }
                if stream.send_slices(vec![buf.split().freeze()]).await.is_err() {
                    return;
                }
            }
        }
        Work::Sink => {
            let mut left = load.count * CHUNK;
            let mut buf = BytesMut::with_capacity(CHUNK);
            while left > 0 {
                buf.clear();
                let (count, back) = stream.recv(buf, CHUNK).await;
                buf = back;
                left -= count.expect("received");
            }
            stream.send_slices(vec![Bytes::from_static(b".")]).await.expect("sent");
        }
        Work::Source => {
            let chunk = Bytes::from(vec![7u8; CHUNK / 4]);
            for _ in 0..load.count {
                let slices = vec![chunk.clone(); 4];
                stream.send_slices(slices).await.expect("sent");
            }
        }
    }
}

fn ring_server(load: Load, addr: mpsc::Sender<SocketAddr>, idle: IdlePolicy) -> Duration {
    on_ring(0, idle, move || async move {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        addr.send(listener.local_addr().expect("known")).expect("the client waits");
        let mut tasks = Vec::new();
        for _ in 0..load.connections {
            let (stream, _) = listener.accept().await.expect("accepted");
            tasks.push(glommio::spawn_local(serve(stream, load)));
        }
        let before = Meter::thread_cpu();
        for task in tasks {
            task.await;
        }
        Meter::thread_cpu() - before
    })
}

fn napping(load: Load, addr: mpsc::Sender<SocketAddr>) -> Duration {
    ring_server(load, addr, NAPPING)
}

fn sleeping(load: Load, addr: mpsc::Sender<SocketAddr>) -> Duration {
    ring_server(load, addr, SLEEPING)
}

fn spinning(load: Load, addr: mpsc::Sender<SocketAddr>) -> Duration {
    ring_server(load, addr, SPINNING)
}

/// One blocking thread for each connection, all on core 0.
fn blocking(load: Load, addr: mpsc::Sender<SocketAddr>) -> Duration {
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    addr.send(listener.local_addr().expect("known")).expect("the client waits");
    let mut threads = Vec::new();
    for _ in 0..load.connections {
        let (mut stream, _) = listener.accept().expect("accepted");
        stream.set_nodelay(true).expect("set");
        threads.push(std::thread::spawn(move || {
            pin(0);
            let before = Meter::thread_cpu();
            let mut buf = vec![7u8; CHUNK];
            match load.work {
                Work::Echo => loop {
                    let count = stream.read(&mut buf[..MESSAGE]).unwrap_or(0);
                    if count == 0 || stream.write_all(&buf[..count]).is_err() {
                        break;
                    }
                },
                Work::Sink => {
                    let mut left = load.count * CHUNK;
                    while left > 0 {
                        left -= stream.read(&mut buf).expect("received");
                    }
                    stream.write_all(b".").expect("sent");
                }
                Work::Source => {
                    for _ in 0..load.count {
                        stream.write_all(&buf).expect("sent");
                    }
                }
            }
            Meter::thread_cpu() - before
        }));
    }
    threads.into_iter().map(|thread| thread.join().expect("the thread ends")).sum()
}

/// A bare ring with one receive or send in flight for each connection: the limit. Echo and sink.
fn bare(load: Load, addr: mpsc::Sender<SocketAddr>) -> Duration {
    pin(0);
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    addr.send(listener.local_addr().expect("known")).expect("the client waits");
    let room = if load.work == Work::Echo { MESSAGE } else { CHUNK };
    let mut streams = Vec::new();
    let mut bufs = Vec::new();
    for _ in 0..load.connections {
        let (stream, _) = listener.accept().expect("accepted");
        stream.set_nodelay(true).expect("set");
        streams.push(stream);
        bufs.push(vec![7u8; room]);
    }
    let mut ring = raw_ring();
    let before = Meter::thread_cpu();
    let mut left = vec![load.count * CHUNK; load.connections];
    let mut open = load.connections;
    let recv = |i: usize, bufs: &mut Vec<Vec<u8>>| {
        let buf = &mut bufs[i];
        opcode::Recv::new(types::Fd(streams[i].as_raw_fd()), buf.as_mut_ptr(), room as u32)
            .build()
            .user_data(i as u64)
    };
    let mut requests: Vec<_> = (0..load.connections).map(|i| recv(i, &mut bufs)).collect();
    while open > 0 {
        for request in requests.drain(..) {
            // SAFETY: the buffers and streams outlive the loop, which ends with all done.
            unsafe { ring.submission().push(&request).expect("fits") };
        }
        ring.submit_and_wait(1).expect("entered");
        for entry in ring.completion() {
            let (i, sent) = ((entry.user_data() & 0xffff_ffff) as usize, entry.user_data() >> 32);
            let count = entry.result().max(0) as usize;
            if load.work == Work::Sink {
                left[i] = left[i].saturating_sub(count);
            }
            if count == 0 || (load.work == Work::Sink && left[i] == 0) {
                open -= 1;
                if count > 0 {
                    (&streams[i]).write_all(b".").expect("sent");
                }
            } else if load.work == Work::Echo && sent == 0 {
                let fd = types::Fd(streams[i].as_raw_fd());
                let request = opcode::Send::new(fd, bufs[i].as_ptr(), count as u32).build();
                requests.push(request.user_data(i as u64 | 1 << 32));
            } else {
                requests.push(recv(i, &mut bufs));
            }
        }
    }
    Meter::thread_cpu() - before
}

/// Runs the load from core 1; the time includes no connecting.
fn client(addr: SocketAddr, load: Load) -> Duration {
    pin(1);
    let mut streams: Vec<StdStream> = (0..load.connections)
        .map(|_| {
            let stream = StdStream::connect(addr).expect("connected");
            stream.set_nodelay(true).expect("set");
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(20));
    let mut buf = vec![1u8; CHUNK];
    let start = Instant::now();
    match load.work {
        Work::Echo => {
            for _ in 0..load.count {
                for stream in &mut streams {
                    stream.write_all(&buf[..MESSAGE]).expect("sent");
                }
                for stream in &mut streams {
                    stream.read_exact(&mut buf[..MESSAGE]).expect("received");
                }
            }
        }
        Work::Sink => {
            for _ in 0..load.count {
                for stream in &mut streams {
                    stream.write_all(&buf).expect("sent");
                }
            }
            for stream in &mut streams {
                stream.read_exact(&mut buf[..1]).expect("received");
            }
        }
        Work::Source => {
            for _ in 0..load.count {
                for stream in &mut streams {
                    stream.read_exact(&mut buf).expect("received");
                }
            }
        }
    }
    start.elapsed()
}

fn run(server: Server, load: Load) -> Cost {
    let (sender, receiver) = mpsc::channel();
    let server: JoinHandle<Duration> = std::thread::spawn(move || server(load, sender));
    let addr = receiver.recv().expect("the server listens");
    let client = std::thread::spawn(move || client(addr, load));
    let wall = client.join().expect("the client ends");
    let cpu = server.join().expect("the server ends");
    Cost { wall, cpu }
}

fn table() {
    let loads = [
        ("128 B echo, 1 connection", Work::Echo, 1, 10_000),
        ("128 B echo, 64 connections", Work::Echo, 64, 1000),
        ("server receives 256 KiB chunks, 1 connection", Work::Sink, 1, 4000),
        ("server receives 256 KiB chunks, 4 connections", Work::Sink, 4, 1000),
        ("server sends 256 KiB in 4 slices, 1 connection", Work::Source, 1, 4000),
    ];
    for (name, work, connections, count) in loads {
        if !wanted(name) {
            continue;
        }
        println!("\n{name} (CPU of the server)");
        let load = Load { work, connections, count };
        let mut servers: Vec<(&str, Server)> =
            vec![("TcpStream::Ring, napping", napping), ("the same, sleeping only", sleeping)];
        servers.push(("the same, spinning 100 us", spinning));
        servers.push(("blocking threads", blocking));
        if work != Work::Source {
            servers.push(("bare io_uring", bare));
        }
        let mut costs = vec![Vec::new(); servers.len()];
        for round in 0..=rounds() {
            for (i, (_, server)) in servers.iter().enumerate() {
                let cost = run(*server, load);
                if round > 0 {
                    costs[i].push(cost);
                }
            }
        }
        let bytes = if work == Work::Echo { MESSAGE } else { CHUNK };
        for ((name, _), costs) in servers.iter().zip(costs) {
            print_row(name, (count * connections) as u64, bytes as u64, costs);
        }
    }
}

fn criterion_view(criterion: &mut Criterion) {
    let servers: [(&str, Server); 3] = [("ring", napping), ("blocking", blocking), ("bare", bare)];
    for (name, work, bytes) in [("echo", Work::Echo, MESSAGE), ("sink", Work::Sink, CHUNK)] {
        let mut group = criterion.benchmark_group(format!("io_net/{name}"));
        group.sample_size(10).throughput(Throughput::Bytes(bytes as u64));
        for (server_name, server) in servers {
            group.bench_function(server_name, |bencher| {
                bencher.iter_custom(|count| {
                    let count = usize::try_from(count).expect("small");
                    run(server, Load { work, connections: 1, count }).wall
                });
            });
        }
        group.finish();
    }
}

fn main() {
    table_then_criterion(table, criterion_view);
}
