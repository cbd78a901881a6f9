//! One connection: reads frames, hands them to dispatch, sends answers in request order.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::poll_once;
use tracing::debug;

use super::core::Core;
use super::dispatch::dispatch;
use super::frame_place::FramePlace;
use super::frame_reader::{FrameReader, ReadError};
use super::reaper::Presence;
use super::reply::{Answer, Pending, ReplyQueue};
use crate::io::tcp::TcpStream;
use crate::shard::budget::Permit;
use crate::shard::task;

/// Answers that are sent by one call at most.
const COALESCED_ANSWERS_MAX: usize = 64;
/// Bytes after which no further answer joins a call.
const COALESCED_BYTES_MAX: usize = 256 * 1024;

/// What the rest of the core knows of a connection.
pub struct Connection {
    stream: Rc<TcpStream>,
    peer: SocketAddr,
    replies: ReplyQueue,
    frame_place: FramePlace,
    presence: Presence,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(stream: TcpStream, peer: SocketAddr, now_us: u64) -> Rc<Connection> {
        Rc::new(Connection {
            stream: Rc::new(stream),
            peer,
            replies: ReplyQueue::default(),
            frame_place: FramePlace::default(),
            presence: Presence::new(now_us),
        })
    }

    /// Where its large frames begin in their memory.
    #[must_use]
    pub fn frame_place(&self) -> &FramePlace {
        &self.frame_place
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ends the connection from this side; its tasks notice and finish.
    pub fn shutdown(&self) {
        self.stream.shutdown();
    }

    /// Whether a request is in work: received whole, and not answered.
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.replies.is_busy()
    }

    /// What the reaper looks at.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Serves the connection until either side ends it.
    pub async fn run(self: Rc<Self>, core: Rc<Core>) {
        let writer = task::spawn_joinable({
            let (connection, core) = (self.clone(), core.clone());
            async move { connection.write_answers(&core).await }
        });
        if let Err(problem) = self.read_requests(&core).await {
            core.refusals().note(self.peer, &problem);
        }
        self.replies.end();
        writer.join().await;
        self.stream.shutdown();
        debug!(peer = %self.peer, "connection closed");
    }

    async fn read_requests(&self, core: &Rc<Core>) -> Result<(), String> {
        let budget = core.shard().budget().clone();
        let (stream, place) = (self.stream.clone(), self.frame_place.clone());
        let mut reader =
            FrameReader::new(stream, budget, self.presence.partial_frame.clone(), place);
        let bytes_max = core.settings().requests.frame_bytes_max;
        loop {
            self.replies.admit().await;
            let frame = match reader.next(bytes_max).await {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(ReadError::Socket(_)) => return Ok(()),
                Err(problem) => return Err(problem.to_string()),
            };
            self.replies.taken();
            self.presence.last_active_us.set(core.shard().clock().mono_us());
            let pending = dispatch(core, self, frame.bytes).await;
            if let Pending::Now(Answer::Close(reason)) = pending {
                return Err(reason);
            }
            self.presence.greeted.set(true);
            self.replies.push(pending, frame.permit);
            core.note_moved(reader.take_moved_bytes());
            if core.is_stopping() {
                return Ok(()); // what was taken is answered; the client finds another broker
            }
        }
    }

    async fn write_answers(&self, core: &Core) {
        while let Some((first, permit)) = self.replies.pop().await {
            let mut batch = Outgoing::default();
            let mut open = batch.take(resolve(first).await, permit);
            while open && batch.answers < COALESCED_ANSWERS_MAX && batch.bytes < COALESCED_BYTES_MAX
            {
                let Some((next, permit)) = self.replies.try_pop() else { break };
                let answer = match next {
                    Pending::Now(answer) => answer,
                    Pending::Later(mut future) => match poll_once(&mut future).await {
                        Some(answer) => answer,
                        None => {
                            // Not ready: send what is, then wait for this one in its turn.
                            if !self.flush(&mut batch).await {
                                break;
                            }
                            future.await
                        }
                    },
                };
                open = batch.take(answer, permit);
            }
            let flushed = self.flush(&mut batch).await;
            self.presence.last_active_us.set(core.shard().clock().mono_us());
            if !open || !flushed {
                if let Some(reason) = batch.close_reason {
                    core.refusals().note(self.peer, &reason);
                }
                break;
            }
        }
        // Whatever ended the writer ends the reader too.
        self.replies.end();
        self.stream.shutdown();
    }

    /// Sends what is collected; false if the peer is gone.
    async fn flush(&self, batch: &mut Outgoing) -> bool {
        let slices = std::mem::take(&mut batch.slices);
        let result = if slices.is_empty() { Ok(()) } else { self.stream.send_slices(slices).await };
        for _ in 0..std::mem::take(&mut batch.answers) {
            self.replies.sent();
        }
        batch.bytes = 0;
        batch.permits.clear();
        result.is_ok()
    }
}

async fn resolve(pending: Pending) -> Answer {
    match pending {
        Pending::Now(answer) => answer,
        Pending::Later(future) => future.await,
    }
}

/// Answers that leave by one call.
#[derive(Default)]
struct Outgoing {
    slices: Vec<Bytes>,
    permits: Vec<Permit>,
    answers: usize,
    bytes: usize,
    close_reason: Option<String>,
}

impl Outgoing {
    /// Adds an answer; false if the connection is to be closed after what is collected.
    fn take(&mut self, answer: Answer, permit: Permit) -> bool {
        self.answers += 1;
        self.permits.push(permit);
        match answer {
            Answer::Send(mut slices) => {
                self.bytes += slices.iter().map(Bytes::len).sum::<usize>();
                self.slices.append(&mut slices);
                true
            }
            Answer::Silence => true,
            Answer::Close(reason) => {
                self.close_reason = Some(reason);
                false
            }
        }
    }
}
