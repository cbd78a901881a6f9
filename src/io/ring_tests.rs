//! Tests of the reactor, its files and its sockets on real glommio executors.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_lite::future::{or, poll_once, yield_now, zip};
use glommio::{LocalExecutorBuilder, Placement};

use super::buf::IoBuf;
use super::disk::{Disk, OpenOptions};
use super::file::File;
use super::reactor::{IdlePolicy, Reactor, ReactorConfig, interrupt_long_sleeps};
use super::tcp::{TcpListener, TcpStream};

const NO_SPIN: IdlePolicy = IdlePolicy { spin: Duration::ZERO, nap: Duration::ZERO };

/// Runs `body` on an executor of its own with a driven reactor.
fn on_ring<F: Future<Output = ()> + 'static>(body: impl FnOnce() -> F + Send + 'static) {
    on_ring_with(16, NO_SPIN, || false, body);
}

fn on_ring_with<F: Future<Output = ()> + 'static>(
    ring_entries: u32,
    idle: IdlePolicy,
    poll_inbox: impl FnMut() -> bool + Send + 'static,
    body: impl FnOnce() -> F + Send + 'static,
) {
    on_executor(move || async move {
        let reactor = Reactor::install(ReactorConfig { ring_entries }).expect("a ring");
        let driver = glommio::spawn_local(reactor.clone().drive(idle, poll_inbox));
        let late = async {
            glommio::timer::sleep(Duration::from_secs(60)).await;
            panic!("the test hangs: {} operations in flight", Reactor::current().in_flight());
        };
        or(body(), late).await;
        reactor.stop();
        driver.await;
        assert_eq!(reactor.in_flight(), 0);
    });
}

/// Runs `body` on an executor as the broker makes them.
fn on_executor<F: Future<Output = ()> + 'static>(body: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        interrupt_long_sleeps().expect("a timer");
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(Duration::from_micros(500))
            .make()
            .expect("an executor");
        executor.run(async move { body().await });
    };
    std::thread::spawn(run).join().expect("the test passes");
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let (client, server) = zip(TcpStream::connect(addr), listener.accept()).await;
    (client.expect("connected"), server.expect("accepted").0)
}

fn pattern(len: usize, seed: usize) -> Bytes {
    (0..len).map(|i| ((i * 31 + seed * 7 + i / 4096) & 0xff) as u8).collect::<Vec<u8>>().into()
}

fn aligned(content: &[u8]) -> Bytes {
    let mut buf = IoBuf::alloc(content.len());
    buf[..content.len()].copy_from_slice(content);
    buf.freeze(content.len())
}

async fn recv_exact(stream: &TcpStream, len: usize) -> BytesMut {
    let mut buf = BytesMut::with_capacity(len);
    while buf.len() < len {
        let missing = len - buf.len();
        let (count, back) = stream.recv(buf, missing).await;
        buf = back;
        assert!(count.expect("the peer is there") > 0, "the stream ended early");
    }
    buf
}

/// CPU time of this thread.
#[allow(unsafe_code)]
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: plain system call with room for its result.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below 10^9"))
}

async fn file_round_trip(dir: &Path, direct: bool) {
    let disk = Disk::Ring;
    let path = dir.join(if direct { "direct" } else { "buffered" });
    let options = OpenOptions { write: true, create: true, direct };
    let file = disk.open(&path, options).await.expect("opened");
    file.allocate(64 * 1024).await.expect("allocated");
    assert_eq!(file.len().expect("known"), 64 * 1024);
    let content = pattern(12 * 4096, 1);
    file.write_at(aligned(&content), 4096, true).await.expect("durable");
    file.write_at(aligned(&content[..4096]), 0, false).await.expect("written");
    file.datasync().await.expect("synced");
    let back = file.read_at(4096, 12 * 4096).await.expect("read");
    assert_eq!(back, content);
    assert_eq!(file.read_at(0, 4096).await.expect("read"), content[..4096]);
    let tail = file.read_at(60 * 1024, 64 * 1024).await.expect("read");
    assert_eq!(tail.len(), 4096, "reads end at the end of the file");
    file.truncate(4096).await.expect("truncated");
    assert_eq!(file.len().expect("known"), 4096);
    assert_eq!(file.read_at(8192, 4096).await.expect("read").len(), 0);
}

#[test]
fn a_ring_file_gives_back_what_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_path_buf();
    on_ring(move || async move {
        file_round_trip(&path, true).await;
        file_round_trip(&path, false).await;
    });
}

#[test]
fn a_ring_disk_makes_lists_renames_and_removes() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().to_path_buf();
    on_ring(move || async move {
        let disk = Disk::Ring;
        let deep = root.join("a/b/c");
        disk.create_dir_all(&deep).await.expect("made");
        disk.create_dir_all(&deep).await.expect("making it again is no error");
        disk.replace_file(&deep.join("one"), b"first").await.expect("replaced");
        disk.replace_file(&deep.join("one"), b"second!").await.expect("replaced");
        disk.rename(&deep.join("one"), &deep.join("two")).await.expect("renamed");
        disk.sync_dir(&deep).await.expect("synced");
        let names = disk.list(&deep).await.expect("listed");
        assert_eq!(names.len(), 1);
        assert_eq!((names[0].name.as_str(), names[0].len), ("two", 7));
        let missing = disk.open(&deep.join("one"), OpenOptions::default()).await.err();
        assert_eq!(missing.expect("it is gone").kind(), io::ErrorKind::NotFound);
        disk.remove_file(&deep.join("two")).await.expect("removed");
        disk.replace_file(&deep.join("three"), b"x").await.expect("replaced");
        disk.remove_dir_all(&root.join("a")).await.expect("removed");
        assert!(!disk.exists(&root.join("a")).await.expect("known"));
    });
}

#[test]
fn more_operations_than_the_ring_holds_all_complete() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("many");
    on_ring_with(
        4,
        NO_SPIN,
        || false,
        move || async move {
            let options = OpenOptions { write: true, create: true, direct: false };
            let file = Disk::Ring.open(&path, options).await.expect("opened");
            let mut writes = Vec::new();
            for block in 0..500u64 {
                let content = pattern(4096, usize::try_from(block).expect("small"));
                let mut write = Box::pin({
                    let file = file.clone();
                    async move { file.write_at(content, block * 4096, false).await }
                });
                assert!(poll_once(&mut write).await.is_none(), "all are in flight at once");
                writes.push(write);
            }
            for write in writes {
                write.await.expect("written");
            }
            for block in [0usize, 1, 250, 499] {
                let back = file.read_at(block as u64 * 4096, 4096).await.expect("read");
                assert_eq!(back, pattern(4096, block));
            }
        },
    );
}

#[test]
fn a_stream_carries_requests_and_answers() {
    on_ring(|| async {
        let (client, server) = connected().await;
        assert_eq!(
            client.peer_addr().expect("known").ip(),
            server.peer_addr().expect("known").ip()
        );
        let echo = async {
            loop {
                let (count, buf) = server.recv(BytesMut::with_capacity(256), 256).await;
                if count.expect("the client is there") == 0 {
                    return;
                }
                server.send_slices(vec![buf.freeze()]).await.expect("sent");
            }
        };
        let ask = async {
            for i in 0..200 {
                let request = pattern(128, i);
                client.send_slices(vec![request.slice(..4), request.slice(4..)]).await.expect("ok");
                assert_eq!(recv_exact(&client, 128).await, request);
            }
            client.shutdown();
        };
        zip(echo, ask).await;
    });
}

#[test]
fn pipelined_large_transfers_arrive_whole_and_in_order() {
    const FRAMES: usize = 6;
    const FRAME_BYTES: usize = 8 << 20;
    on_ring(|| async {
        let (client, server) = connected().await;
        let frames: Vec<Bytes> = (0..FRAMES).map(|i| pattern(FRAME_BYTES, i)).collect();
        let expected = frames.clone();
        let send = async {
            for frame in frames {
                // Many slices of odd sizes: more than one gather list's worth.
                let mut slices = Vec::new();
                let mut rest = frame;
                while !rest.is_empty() {
                    slices.push(rest.split_to(rest.len().min(5001)));
                }
                assert!(slices.len() > 1024);
                client.send_slices(slices).await.expect("sent");
            }
        };
        let receive = async {
            for (i, frame) in expected.iter().enumerate() {
                if i % 2 == 0 {
                    assert!(recv_exact(&server, FRAME_BYTES).await == *frame, "frame {i}");
                    continue;
                }
                let mut buf = IoBuf::alloc(FRAME_BYTES);
                let mut filled = 0;
                while filled < FRAME_BYTES {
                    let (count, back) = server.recv_aligned(buf, filled, FRAME_BYTES).await;
                    buf = back;
                    filled += count.expect("received");
                }
                assert!(buf.freeze(FRAME_BYTES) == *frame, "frame {i}");
            }
        };
        zip(send, receive).await;
    });
}

#[test]
fn dropped_futures_leave_their_memory_to_the_kernel_and_are_cancelled() {
    on_ring(|| async {
        let (client, server) = connected().await;
        for _ in 0..50 {
            let mut recv = Box::pin(server.recv(BytesMut::with_capacity(64 * 1024), 64 * 1024));
            assert!(poll_once(&mut recv).await.is_none());
            yield_now().await;
            drop(recv);
        }
        // A send that cannot finish, because nobody receives.
        let stuck = Bytes::from(vec![7u8; 64 << 20]);
        let mut send = Box::pin(client.send_slices(vec![stuck.clone(), stuck.slice(1..)]));
        assert!(poll_once(&mut send).await.is_none());
        glommio::timer::sleep(Duration::from_millis(20)).await;
        assert!(!stuck.is_unique());
        drop(send);
        let reactor = Reactor::current();
        while reactor.in_flight() > 0 {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        assert!(stuck.is_unique(), "a cancelled send gives its bytes back");
        // An accept that is dropped with a connection on its way must not leak it.
        let listener = TcpListener::bind(loopback()).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let mut accept = Box::pin(listener.accept());
        assert!(poll_once(&mut accept).await.is_none());
        let peer = TcpStream::connect(addr).await.expect("connected");
        drop(accept);
        drop(listener);
        let (count, _) = peer.recv(BytesMut::with_capacity(8), 8).await;
        assert!(!matches!(count, Ok(1..)), "the connection is closed, not forgotten");
    });
}

#[test]
fn stop_ends_everything_that_waits() {
    on_ring(|| async {
        let (client, server) = connected().await;
        let ended = Rc::new(Cell::new(0));
        for stream in [client.clone(), server.clone()] {
            let ended = ended.clone();
            glommio::spawn_local(async move {
                let (count, _) = stream.recv(BytesMut::with_capacity(8), 8).await;
                let error = count.expect_err("nothing was sent");
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
                ended.set(ended.get() + 1);
            })
            .detach();
        }
        yield_now().await;
        Reactor::current().stop();
        while ended.get() < 2 {
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let refused = client.send_slices(vec![Bytes::from_static(b"late")]).await;
        assert_eq!(refused.expect_err("stopped").raw_os_error(), Some(libc::ECANCELED));
    });
}

#[test]
fn shutdown_releases_whoever_waits_on_either_end() {
    on_ring(|| async {
        let (client, server) = connected().await;
        let other = server.clone();
        let waiting = async {
            let (count, _) = server.recv(BytesMut::with_capacity(8), 8).await;
            assert_eq!(count.expect("an end is no error"), 0);
        };
        let ending = async {
            glommio::timer::sleep(Duration::from_millis(5)).await;
            other.shutdown();
            let (count, _) = client.recv(BytesMut::with_capacity(8), 8).await;
            assert_eq!(count.expect("an end is no error"), 0);
            let broken = async {
                loop {
                    if let Err(error) = client.send_slices(vec![pattern(4096, 0)]).await {
                        return error;
                    }
                }
            };
            let kind = broken.await.kind();
            assert!(
                matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
                "{kind}"
            );
        };
        zip(waiting, ending).await;
    });
}

#[test]
fn a_peer_that_resets_is_an_error_for_both_directions() {
    on_ring(|| async {
        let listener = TcpListener::bind(loopback()).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        // Unread bytes at close make the kernel send a reset.
        let peer = std::thread::spawn(move || {
            use std::io::Read;
            let mut peer = std::net::TcpStream::connect(addr).expect("connected");
            let mut byte = [0];
            peer.read_exact(&mut byte).expect("one byte arrives");
        });
        let (server, _) = listener.accept().await.expect("accepted");
        server.send_slices(vec![pattern(100_000, 3)]).await.expect("sent");
        let (count, _) = server.recv(BytesMut::with_capacity(8), 8).await;
        let kind = count.expect_err("the peer resets").kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        assert!(server.send_slices(vec![pattern(100_000, 3)]).await.is_err());
        peer.join().expect("the peer ends");
    });
}

#[test]
fn accepted_sockets_do_not_delay_and_close_on_exec() {
    use std::os::fd::AsRawFd;
    on_ring(|| async {
        let listener = TcpListener::bind(loopback()).expect("a free port");
        let again = TcpListener::bind(listener.local_addr().expect("an address"));
        assert!(again.is_ok(), "several cores listen on one address");
        drop(again);
        let addr = listener.local_addr().expect("an address");
        let (client, server) = zip(TcpStream::connect(addr), listener.accept()).await;
        for stream in [client.expect("connected"), server.expect("accepted").0] {
            let TcpStream::Ring(stream) = stream else { unreachable!("made by the ring") };
            assert!(stream.is_nodelay().expect("known"));
            let info = std::fs::read_to_string(format!(
                "/proc/self/fdinfo/{}",
                stream.as_fd().as_raw_fd()
            ));
            let info = info.expect("an open descriptor");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
            let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
            assert_ne!(flags & libc::O_CLOEXEC, 0);
        }
    });
}

#[test]
fn a_doorbell_wakes_a_sleeping_driver_and_loses_nothing() {
    ring_doorbell_often(NO_SPIN);
}

#[test]
fn a_doorbell_wakes_a_napping_driver_and_loses_nothing() {
    ring_doorbell_often(IdlePolicy { nap: Duration::from_secs(1), ..NO_SPIN });
}

fn ring_doorbell_often(idle: IdlePolicy) {
    const RINGS: u32 = 2000;
    let sent = Arc::new(AtomicU32::new(0));
    let seen = Arc::new(AtomicU32::new(0));
    let (inbox_sent, inbox_seen) = (sent.clone(), seen.clone());
    let poll_inbox = move || {
        let new = inbox_sent.load(Ordering::Acquire);
        inbox_seen.swap(new, Ordering::AcqRel) != new
    };
    on_ring_with(16, idle, poll_inbox, move || async move {
        let doorbell = Reactor::current().doorbell();
        let ringer = std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            for i in 1..=RINGS {
                let start = Instant::now();
                sent.store(i, Ordering::Release);
                doorbell.ring();
                while seen.load(Ordering::Acquire) != i {
                    assert!(start.elapsed() < Duration::from_secs(10), "ring {i} was lost");
                    std::thread::yield_now();
                }
                slowest = slowest.max(start.elapsed());
                if i % 100 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
            slowest
        });
        while !ringer.is_finished() {
            glommio::timer::sleep(Duration::from_millis(2)).await;
        }
        ringer.join().expect("all were seen");
    });
}

#[test]
fn an_idle_reactor_costs_next_to_nothing() {
    on_ring(|| async {
        let (client, server) = connected().await;
        let mut recv = Box::pin(server.recv(BytesMut::with_capacity(8), 8));
        assert!(poll_once(&mut recv).await.is_none());
        let before = thread_cpu();
        glommio::timer::sleep(Duration::from_millis(300)).await;
        let used = thread_cpu() - before;
        assert!(used < Duration::from_millis(60), "used {used:?} in 300 ms");
        client.send_slices(vec![Bytes::from_static(b"awake")]).await.expect("sent");
        let (count, _) = recv.await;
        assert_eq!(count.expect("received"), 5);
    });
}

#[test]
fn a_spinning_reactor_lets_other_tasks_run() {
    let idle = IdlePolicy { spin: Duration::from_millis(5), ..IdlePolicy::default() };
    on_ring_with(
        16,
        idle,
        || false,
        || async {
            let turns = Rc::new(Cell::new(0u32));
            let counter = turns.clone();
            let task = glommio::spawn_local(async move {
                loop {
                    counter.set(counter.get() + 1);
                    yield_now().await;
                }
            });
            glommio::timer::sleep(Duration::from_millis(30)).await;
            assert!(turns.get() > 100, "{} turns", turns.get());
            task.cancel().await;
        },
    );
}

#[test]
fn a_thread_has_one_reactor_and_may_have_another_later() {
    for _ in 0..3 {
        on_ring(|| async {
            let error = Reactor::install(ReactorConfig { ring_entries: 4 }).err();
            assert_eq!(error.expect("there is one").kind(), io::ErrorKind::AlreadyExists);
        });
    }
}

#[test]
fn a_reactor_that_was_never_stopped_waits_for_the_kernel_when_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("late");
    on_executor(move || async move {
        let reactor = Reactor::install(ReactorConfig { ring_entries: 16 }).expect("a ring");
        let driver = glommio::spawn_local(reactor.clone().drive(NO_SPIN, || false));
        let options = OpenOptions { write: true, create: true, direct: true };
        let file = Disk::Ring.open(&path, options).await.expect("opened");
        assert!(matches!(file, File::Ring(_)));
        let content = aligned(&pattern(1 << 20, 1));
        for block in 0..8 {
            let mut write = Box::pin(file.write_at(content.clone(), block << 20, true));
            assert!(poll_once(&mut write).await.is_none());
        }
        yield_now().await;
        driver.cancel().await;
    });
}

#[test]
fn many_connections_are_served_by_sleeps_alone() {
    serve_many(NO_SPIN, 100);
}

#[test]
fn many_connections_are_served_with_naps() {
    serve_many(IdlePolicy::default(), 300);
}

/// Asks over many connections at once, from a thread that waits for all answers: a wake-up that is
/// lost ends it.
fn serve_many(idle: IdlePolicy, rounds: usize) {
    const CONNECTIONS: usize = 64;
    on_ring_with(
        16,
        idle,
        || false,
        move || async move {
            let listener = TcpListener::bind(loopback()).expect("a free port");
            let addr = listener.local_addr().expect("an address");
            let client = std::thread::spawn(move || ask_many(addr, CONNECTIONS, rounds));
            let mut tasks = Vec::new();
            for _ in 0..CONNECTIONS {
                let (stream, _) = listener.accept().await.expect("accepted");
                tasks.push(glommio::spawn_local(async move {
                    loop {
                        let (count, buf) = stream.recv(BytesMut::with_capacity(128), 128).await;
                        if count.expect("received") == 0 {
                            return;
                        }
                        stream.send_slices(vec![buf.freeze()]).await.expect("sent");
                    }
                }));
            }
            for task in tasks {
                task.await;
            }
            client.join().expect("the client ends");
        },
    );
}

fn ask_many(addr: SocketAddr, connections: usize, rounds: usize) {
    use std::io::{Read, Write};
    let connect = |_| std::net::TcpStream::connect(addr).expect("connected");
    let mut streams: Vec<_> = (0..connections).map(connect).collect();
    let mut buf = [1u8; 128];
    for _ in 0..rounds {
        for stream in &mut streams {
            stream.write_all(&buf).expect("sent");
        }
        for stream in &mut streams {
            stream.read_exact(&mut buf).expect("received");
        }
    }
}

#[test]
fn a_nap_leaves_ready_tasks_their_turn() {
    let idle = IdlePolicy { nap: Duration::from_secs(5), ..NO_SPIN };
    on_ring_with(
        16,
        idle,
        || false,
        || async {
            let start = Instant::now();
            for _ in 0..1000 {
                yield_now().await;
            }
            // Work that asks for nothing of the ring, in slices.
            let other = glommio::spawn_local(async {
                for _ in 0..1000 {
                    glommio::yield_if_needed().await;
                    yield_now().await;
                }
            });
            other.await;
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        },
    );
}
