//! The raw loopback stream: one thread sends 1 MiB at a time, another receives and does nothing
//! with it. No protocol, no answers: what the machine's TCP carries from one core to another.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Measured, pin};
use crate::run::RunError;

const SEND_BYTES: usize = 1 << 20;
/// As the generator's own receiving end: larger pieces fall out of the cache.
const RECEIVE_BYTES: usize = 256 * 1024;

/// MB/s that arrive at a thread on `reader_cpu` from one on `sender_cpu`.
pub(super) fn mb_per_s(
    reader_cpu: usize,
    sender_cpu: usize,
    warmup: Duration,
    duration: Duration,
) -> Result<f64, RunError> {
    stream(reader_cpu, sender_cpu, warmup, duration)
        .map_err(|error| RunError::Io("the raw stream", error))
}

fn stream(
    reader_cpu: usize,
    sender_cpu: usize,
    warmup: Duration,
    duration: Duration,
) -> io::Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut sending = TcpStream::connect(listener.local_addr()?)?;
    let receiving = listener.accept()?.0;
    let measured = Measured::after(warmup, duration);
    let reader = thread::Builder::new()
        .name("raw-reader".to_owned())
        .spawn(move || pin(reader_cpu).and_then(|()| receive(receiving, measured)))?;
    let sender = thread::Builder::new().name("raw-sender".to_owned()).spawn(move || {
        pin(sender_cpu)?;
        let piece = vec![b'.'; SEND_BYTES];
        while Instant::now() < measured.until {
            sending.write_all(&piece)?;
        }
        io::Result::Ok(())
    })?;
    let died = |_| io::Error::other("its thread died");
    sender.join().map_err(died)??;
    let bytes = reader.join().map_err(died)??;
    Ok(bytes as f64 / duration.as_secs_f64() / 1e6)
}

/// Bytes that arrived in the measured time. Reads to the end, so that the sender never fails.
fn receive(mut stream: TcpStream, measured: Measured) -> io::Result<u64> {
    let mut room = vec![0; RECEIVE_BYTES];
    let mut bytes = 0;
    loop {
        let count = stream.read(&mut room)?;
        if count == 0 {
            return Ok(bytes);
        }
        let now = Instant::now();
        if now >= measured.from && now < measured.until {
            bytes += count as u64;
        }
    }
}
