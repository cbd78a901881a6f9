//! The raw io_uring client: the same frames as the generator's over as many connections and with as
//! many in flight, and nothing else. No executor, no schedule, no clock for a request, no CRC, no
//! look into an answer: bytes are counted. One thread, one ring.
//!
//! Invariant: buffers handed to the kernel belong to a [`Peer`], do not move, and outlive the ring.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, types};

use super::{Measured, pin};

/// Room for answers, for each connection.
const INBOX_BYTES: usize = 16 * 1024;
/// `IORING_RECVSEND_POLL_FIRST`: wait for readiness before the first attempt.
const POLL_FIRST: u16 = 1;
/// `IORING_ENTER_GETEVENTS`: post the completions of deferred work.
const GET_EVENTS: u32 = 1;

/// What the raw client sends.
pub(super) struct RawClient {
    /// CPU that it is pinned to.
    pub(super) cpu: usize,
    /// Where to.
    pub(super) addr: SocketAddr,
    /// One frame for each connection; they are all answered with frames of one length.
    pub(super) frames: Vec<Vec<u8>>,
    /// Requests in flight on each connection.
    pub(super) in_flight: usize,
    /// Time before anything is counted.
    pub(super) warmup: Duration,
    /// Time that is measured.
    pub(super) duration: Duration,
}

impl RawClient {
    /// Answers a second, over the measured time.
    pub(super) fn requests_per_s(self) -> io::Result<f64> {
        let thread = thread::Builder::new().name("raw-ring".to_owned()).spawn(move || {
            pin(self.cpu)?;
            self.run()
        })?;
        thread.join().map_err(|_| io::Error::other("its thread died"))?
    }

    fn run(&self) -> io::Result<f64> {
        let mut peers = Vec::new();
        for frame in &self.frames {
            peers.push(Peer::connect(self.addr, frame, self.in_flight)?);
        }
        let entries = u32::try_from(peers.len() * 2).unwrap_or(u32::MAX).clamp(2, 1 << 14);
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(entries * 2)
            .build(entries)?;
        let mut ring = Ring { uring, done: Vec::new() };
        let measured = Measured::after(self.warmup, self.duration);
        let counted = ring.exchange(&mut peers, measured);
        for peer in &peers {
            // Ends what the kernel still waits for.
            peer.socket.shutdown(std::net::Shutdown::Both)?;
        }
        if let Err(error) = ring.settle(&mut peers) {
            std::mem::forget(peers); // the kernel may still write there
            return Err(error);
        }
        Ok(counted? as f64 / self.duration.as_secs_f64())
    }
}

/// One connection.
struct Peer {
    socket: TcpStream,
    /// As many copies of the frame as may be in flight.
    outbox: Vec<u8>,
    frame_bytes: usize,
    inbox: Vec<u8>,
    answer_bytes: usize,
    /// Bytes of an answer that has not come whole.
    part: usize,
    /// Frames that may leave and have not.
    owed: usize,
    /// What is being sent: a range of the outbox.
    sending: Option<(usize, usize)>,
    send_is_queued: bool,
    receiving: bool,
    more_to_read: bool,
}

impl Peer {
    /// Connects and makes one exchange, to learn how long an answer is.
    fn connect(addr: SocketAddr, frame: &[u8], in_flight: usize) -> io::Result<Peer> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.write_all(frame)?;
        let mut prefix = [0; 4];
        socket.read_exact(&mut prefix)?;
        let mut answer = vec![0; u32::from_be_bytes(prefix) as usize];
        socket.read_exact(&mut answer)?;
        Ok(Peer {
            socket,
            outbox: frame.repeat(in_flight),
            frame_bytes: frame.len(),
            inbox: vec![0; INBOX_BYTES],
            answer_bytes: 4 + answer.len(),
            part: 0,
            owed: in_flight,
            sending: None,
            send_is_queued: false,
            receiving: false,
            more_to_read: false,
        })
    }

    /// Takes `bytes` of answers; returns how many became whole.
    fn received(&mut self, bytes: usize) -> usize {
        self.part += bytes;
        let whole = self.part / self.answer_bytes;
        self.part %= self.answer_bytes;
        self.owed += whole;
        whole
    }

    /// Takes the end of a send of `bytes`.
    fn sent(&mut self, bytes: usize) {
        self.sending = self
            .sending
            .map(|(from, until)| (from + bytes, until))
            .filter(|(from, until)| from < until);
        self.send_is_queued = false;
    }
}

struct Ring {
    uring: IoUring,
    done: Vec<(u64, i32, u32)>,
}

impl Ring {
    /// Keeps every connection's window full until the end; answers in the measured time.
    fn exchange(&mut self, peers: &mut [Peer], measured: Measured) -> io::Result<u64> {
        let mut answers = 0;
        for (index, peer) in peers.iter_mut().enumerate() {
            self.request(index, peer)?;
        }
        loop {
            self.turn()?;
            let now = Instant::now();
            if now >= measured.until {
                return Ok(answers);
            }
            for (data, result, flags) in std::mem::take(&mut self.done) {
                let peer = &mut peers[(data >> 1) as usize];
                let whole = complete(peer, data, result, flags)?;
                if now >= measured.from {
                    answers += whole as u64;
                }
                self.request((data >> 1) as usize, peer)?;
            }
        }
    }

    /// Waits until the kernel has let go of every buffer.
    fn settle(&mut self, peers: &mut [Peer]) -> io::Result<()> {
        while peers.iter().any(|peer| peer.receiving || peer.send_is_queued) {
            self.turn()?;
            for (data, ..) in std::mem::take(&mut self.done) {
                let peer = &mut peers[(data >> 1) as usize];
                if data & 1 == 0 {
                    peer.receiving = false;
                } else {
                    peer.send_is_queued = false;
                }
            }
        }
        Ok(())
    }

    /// Asks the kernel for whatever the connection lacks.
    fn request(&mut self, index: usize, peer: &mut Peer) -> io::Result<()> {
        let fd = types::Fd(peer.socket.as_raw_fd());
        let data = (index as u64) << 1;
        if !peer.receiving {
            let priority = if peer.more_to_read { 0 } else { POLL_FIRST };
            let (room, len) = (peer.inbox.as_mut_ptr(), INBOX_BYTES as u32);
            let recv = opcode::Recv::new(fd, room, len).ioprio(priority).build();
            self.push(&recv.user_data(data))?;
            peer.receiving = true;
        }
        if peer.sending.is_none() && peer.owed > 0 {
            let bytes = peer.owed * peer.frame_bytes;
            peer.owed = 0;
            peer.sending = Some((0, bytes));
            peer.send_is_queued = false;
        }
        if let Some((from, until)) = peer.sending
            && !peer.send_is_queued
        {
            let bytes = &peer.outbox[from..until];
            let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            let send = opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build();
            self.push(&send.user_data(data | 1))?;
            peer.send_is_queued = true;
        }
        Ok(())
    }

    fn push(&mut self, request: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: descriptor and buffers belong to a peer that neither moves them nor goes before
        // `settle` has seen the completion (or the process is ending with an error).
        while unsafe { self.uring.submission().push(request) }.is_err() {
            self.uring.submit()?;
        }
        Ok(())
    }

    /// Passes requests on and takes completions; no system call if there is neither.
    fn turn(&mut self) -> io::Result<()> {
        let submission = self.uring.submission();
        let queued = submission.len();
        let needed = queued > 0 || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if needed {
            let queued = u32::try_from(queued).map_err(io::Error::other)?;
            // SAFETY: no argument is passed; the requests are covered by `push`.
            unsafe {
                self.uring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None)?;
            }
        }
        let completions = self.uring.completion();
        let entry = |it: cqueue::Entry| (it.user_data(), it.result(), it.flags());
        self.done.extend(completions.map(entry));
        Ok(())
    }
}

/// Notes a completion; returns how many answers became whole by it.
fn complete(peer: &mut Peer, data: u64, result: i32, flags: u32) -> io::Result<usize> {
    let count = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))?;
    if count == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    if data & 1 == 1 {
        peer.sent(count);
        return Ok(0);
    }
    peer.receiving = false;
    peer.more_to_read = cqueue::sock_nonempty(flags);
    Ok(peer.received(count))
}
