//! The io_uring, without anything around it: one ring, one thread, requests and completions.
//!
//! Invariant: memory that a request names is owned by the ring until its completion, so no caller
//! can touch it meanwhile, and what is still in flight when the ring goes is never freed. All
//! `unsafe` of the program is in this module.
#![allow(unsafe_code)]

mod memory;
mod provided;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

pub use memory::{BLOCK, Piece, Pool, blocks};
pub use provided::Filled;
use provided::Provided;

/// `IORING_RECVSEND_POLL_FIRST`: wait for readiness before the first attempt.
const POLL_FIRST: u16 = 1;
/// `IORING_ENTER_GETEVENTS`: run deferred work and post its completions.
const ENTER_GETEVENTS: u32 = 1;
/// Completions that fit for each request that fits.
const COMPLETIONS_PER_ENTRY: u32 = 4;

/// What a request's bytes are in.
#[derive(Debug)]
pub enum Memory {
    /// None, or buffers that the kernel picks.
    None,
    Piece(Piece),
    Bytes(Vec<u8>),
    Shared(&'static [u8]),
}

impl Memory {
    /// The piece, of requests that were made with one.
    pub fn into_piece(self) -> Piece {
        match self {
            Memory::Piece(piece) => piece,
            other => panic!("a piece went out and {other:?} came back"),
        }
    }
}

/// The end of a request, or one completion of a receive that stays armed.
#[derive(Debug)]
pub struct Done<T> {
    /// What the request was.
    pub token: T,
    /// Bytes, or the negative error number.
    pub result: i32,
    /// Its memory.
    pub memory: Memory,
    /// The buffer that the kernel picked, to be given back with [`Ring::give_back`].
    pub filled: Option<Filled>,
    /// Whether the receive is still armed.
    pub more: bool,
}

impl<T> Done<T> {
    /// How many bytes were moved.
    pub fn bytes(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

struct Flight<T> {
    token: T,
    memory: Memory,
}

/// One thread's ring. `T` says what a request was.
pub struct Ring<T> {
    uring: IoUring,
    flights: Vec<Option<Flight<T>>>,
    free: Vec<usize>,
    provided: Option<Provided>,
    registered: bool,
    spin: Duration,
}

impl<T: Copy> Ring<T> {
    /// A ring that looks for `spin` before it sleeps.
    pub fn new(entries: u32, spin: Duration) -> io::Result<Ring<T>> {
        let uring = IoUring::builder()
            .dontfork()
            .setup_clamp()
            .setup_cqsize(entries * COMPLETIONS_PER_ENTRY)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            .map_err(|error| {
                let why = format!("io_uring cannot be set up (Linux 6.1 or later): {error}");
                io::Error::new(error.kind(), why)
            })?;
        let (flights, free) = (Vec::new(), Vec::new());
        Ok(Ring { uring, flights, free, provided: None, registered: false, spin })
    }

    /// Gives the kernel `count` (a power of two) buffers of `bytes` for [`Ring::receive_many`].
    pub fn provide(&mut self, count: u16, bytes: usize) -> io::Result<()> {
        self.provided = Some(Provided::register(&self.uring.submitter(), count, bytes)?);
        Ok(())
    }

    /// Pins the pool's memory once instead of for each disk request: from then on [`Ring::write`]
    /// and [`Ring::read`] take pieces of this pool only.
    pub fn register(&mut self, pool: &Pool) -> io::Result<()> {
        // SAFETY: the mapping is never unmapped.
        unsafe { self.uring.submitter().register_buffers(&[pool.mapping()])? };
        self.registered = true;
        Ok(())
    }

    /// Receives up to `most` bytes to `at` of the piece, as soon as the socket says that it is
    /// worth it ([`wake_at`]).
    pub fn receive(&mut self, socket: RawFd, mut piece: Piece, at: usize, most: usize, token: T) {
        let room = &mut piece[at..at + most];
        let request = opcode::Recv::new(types::Fd(socket), room.as_mut_ptr(), length(room))
            .ioprio(POLL_FIRST)
            .build();
        self.push(request, Memory::Piece(piece), token);
    }

    /// Takes up to `most` bytes from the socket and throws them away, uncopied.
    pub fn discard(&mut self, socket: RawFd, most: usize, token: T) {
        let nowhere = std::ptr::null_mut();
        let request = opcode::Recv::new(types::Fd(socket), nowhere, most as u32)
            .flags(libc::MSG_TRUNC)
            .ioprio(POLL_FIRST)
            .build();
        self.push(request, Memory::None, token);
    }

    /// Receives into provided buffers until [`Done::more`] is no longer set.
    pub fn receive_many(&mut self, socket: RawFd, token: T) {
        let request = opcode::RecvMulti::new(types::Fd(socket), provided::GROUP).build();
        self.push(request, Memory::None, token);
    }

    /// What the kernel has put into a provided buffer.
    pub fn received(&self, filled: &Filled) -> &[u8] {
        self.provided.as_ref().map_or(&[], |provided| provided.bytes(filled))
    }

    /// Lets the kernel use the buffer again.
    pub fn give_back(&mut self, filled: Filled) {
        if let Some(provided) = &mut self.provided {
            provided.put(filled.index);
        }
    }

    /// Sends `from..until` of the memory, all of it.
    pub fn send(&mut self, socket: RawFd, memory: Memory, from: usize, until: usize, token: T) {
        let bytes: &[u8] = match &memory {
            Memory::None => &[],
            Memory::Piece(piece) => piece,
            Memory::Bytes(bytes) => bytes,
            Memory::Shared(bytes) => bytes,
        };
        let bytes = &bytes[from..until];
        let request = opcode::Send::new(types::Fd(socket), bytes.as_ptr(), length(bytes))
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(request, memory, token);
    }

    /// Writes the first `bytes` of the piece to `offset` of the file; durable when it is done if
    /// `sync`.
    pub fn write(
        &mut self,
        file: RawFd,
        piece: Piece,
        bytes: usize,
        offset: u64,
        sync: bool,
        token: T,
    ) {
        let data = &piece[..bytes];
        let (at, long, flags) =
            (data.as_ptr(), length(data), if sync { libc::RWF_DSYNC } else { 0 });
        let file = types::Fd(file);
        let request = if self.registered {
            opcode::WriteFixed::new(file, at, long, 0).offset(offset).rw_flags(flags).build()
        } else {
            opcode::Write::new(file, at, long).offset(offset).rw_flags(flags).build()
        };
        self.push(request, Memory::Piece(piece), token);
    }

    /// Reads `bytes` from `offset` of the file to the beginning of the piece.
    pub fn read(&mut self, file: RawFd, mut piece: Piece, bytes: usize, offset: u64, token: T) {
        let room = &mut piece[..bytes];
        let (at, long, file) = (room.as_mut_ptr(), length(room), types::Fd(file));
        let request = if self.registered {
            opcode::ReadFixed::new(file, at, long, 0).offset(offset).build()
        } else {
            opcode::Read::new(file, at, long).offset(offset).build()
        };
        self.push(request, Memory::Piece(piece), token);
    }

    /// Hands over what was asked for, and waits for `wait` completions (one at least).
    pub fn wait(&mut self, wait: usize) -> io::Result<()> {
        if !self.spin.is_zero() {
            let began = Instant::now();
            while began.elapsed() < self.spin {
                self.look()?;
                if self.uring.completion().len() >= wait {
                    return Ok(());
                }
                // The kernel's own threads have work on this core too, such as the flush after a
                // write: without this they wait for the end of our time slice.
                thread::yield_now();
            }
        }
        settled(self.uring.submit_and_wait(wait))
    }

    /// The same, but no longer than `limit`.
    pub fn wait_for(&mut self, wait: usize, limit: Duration) -> io::Result<()> {
        let limit = types::Timespec::from(limit);
        let args = types::SubmitArgs::new().timespec(&limit);
        settled(self.uring.submitter().submit_with_args(wait, &args))
    }

    /// Hands over what was asked for, and lets the kernel post completions, without waiting.
    pub fn look(&mut self) -> io::Result<()> {
        let queued = self.uring.submission().len() as u32;
        // SAFETY: no argument is passed; the requests are covered by `push`.
        let entered = unsafe {
            self.uring.submitter().enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None)
        };
        settled(entered)
    }

    /// Takes all completions that are there.
    pub fn reap(&mut self, into: &mut Vec<Done<T>>) {
        for entry in self.uring.completion() {
            let more = cqueue::more(entry.flags());
            let index = entry.user_data() as usize;
            let (token, memory) = if more {
                let flight = self.flights[index].as_ref().expect("an armed receive");
                (flight.token, Memory::None)
            } else {
                let flight = self.flights[index].take().expect("a request in flight");
                self.free.push(index);
                (flight.token, flight.memory)
            };
            let bytes = usize::try_from(entry.result()).unwrap_or(0);
            let filled = cqueue::buffer_select(entry.flags()).map(|index| Filled { index, bytes });
            into.push(Done { token, result: entry.result(), memory, filled, more });
        }
    }

    fn push(&mut self, request: squeue::Entry, memory: Memory, token: T) {
        let flight = Some(Flight { token, memory });
        let index = match self.free.pop() {
            Some(index) => {
                self.flights[index] = flight;
                index
            }
            None => {
                self.flights.push(flight);
                self.flights.len() - 1
            }
        };
        let request = request.user_data(index as u64);
        loop {
            // SAFETY: `flights` owns the memory, and nobody sees it before the completion; moving a
            // `Vec` or a `Piece` into it does not move the bytes.
            if unsafe { self.uring.submission().push(&request) }.is_ok() {
                return;
            }
            if let Err(error) = self.look() {
                panic!("io_uring takes no requests: {error}");
            }
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // The kernel ends what is in flight some time after the ring has gone.
        for flight in self.flights.drain(..).flatten() {
            mem::forget(flight.memory);
        }
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("less than 4 GiB in a request")
}

fn settled(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // The time is over, a signal came, or completions must be reaped first.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}

/// Makes a socket readable only when `bytes` have arrived (`SO_RCVLOWAT`).
pub fn wake_at(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: a plain system call with an integer and its length.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            length,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
