//! What a request leads to, and the queue that keeps answers in request order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::base::limits::PIPELINED_REQUESTS_MAX;
use crate::base::signal::Event;
use crate::shard::budget::Permit;

/// The answer to one request.
pub enum Answer {
    /// Send these bytes: a complete response frame in slices.
    Send(Vec<Bytes>),
    /// Send nothing (`acks=0`).
    Silence,
    /// Close the connection: the request was not one that can be answered.
    Close(String),
}

/// An answer that is there or on its way.
pub enum Pending {
    /// Known already.
    Now(Answer),
    /// Known once the future resolves.
    Later(Pin<Box<dyn Future<Output = Answer>>>),
}

/// Answers of one connection, in the order of its requests; bounded.
#[derive(Default)]
pub struct ReplyQueue {
    waiting: RefCell<VecDeque<(Pending, Permit)>>,
    /// Requests that were taken from the socket and whose answer has not been sent.
    outstanding: Cell<usize>,
    changed: Event,
    ended: Cell<bool>,
}

impl ReplyQueue {
    /// Waits until another request may be taken from the socket.
    pub async fn admit(&self) {
        while self.outstanding.get() >= PIPELINED_REQUESTS_MAX && !self.ended.get() {
            self.changed.wait().await;
        }
    }

    /// A request has been taken from the socket: from now on an answer is due. Not earlier, or a
    /// connection that only waits for its client would never count as idle.
    pub fn taken(&self) {
        self.outstanding.set(self.outstanding.get() + 1);
    }

    /// Adds the answer to the request that was [`ReplyQueue::taken`].
    pub fn push(&self, pending: Pending, permit: Permit) {
        self.waiting.borrow_mut().push_back((pending, permit));
        self.changed.notify();
    }

    /// No more will be pushed; the writer ends when it has sent what is there.
    pub fn end(&self) {
        self.ended.set(true);
        self.changed.notify();
    }

    /// The oldest answer, waiting for one; `None` when the queue has ended and is empty.
    pub async fn pop(&self) -> Option<(Pending, Permit)> {
        loop {
            if let Some(first) = self.waiting.borrow_mut().pop_front() {
                return Some(first);
            }
            if self.ended.get() {
                return None;
            }
            self.changed.wait().await;
        }
    }

    /// The oldest answer if there is one already.
    pub fn try_pop(&self) -> Option<(Pending, Permit)> {
        self.waiting.borrow_mut().pop_front()
    }

    /// One answer has left for good.
    pub fn sent(&self) {
        self.outstanding.set(self.outstanding.get() - 1);
        self.changed.notify();
    }

    /// Whether a request has been taken whose answer has not been sent.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.outstanding.get() > 0
    }
}
