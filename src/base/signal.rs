//! Waiting within one core: an [`Event`] that wakes all who wait, and a [`oneshot`] that carries
//! one value. Single-threaded (`Rc`, no locks), independent of the runtime, so that the same code
//! runs under glommio and in a plain test.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Wakes every task that waits for it. A waiter that comes after a [`Event::notify`] waits for the
/// next one, so check the condition first, then wait, without an `.await` between.
#[derive(Default)]
pub struct Event {
    generation: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Event {
    /// An event that has not happened.
    #[must_use]
    pub fn new() -> Event {
        Event::default()
    }

    /// Wakes all who wait now.
    pub fn notify(&self) {
        self.generation.set(self.generation.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    /// Resolves at the next [`Event::notify`] after this call (not after the first poll).
    pub fn wait(&self) -> EventWait<'_> {
        EventWait { event: self, generation: self.generation.get() }
    }
}

/// Future of [`Event::wait`].
pub struct EventWait<'a> {
    event: &'a Event,
    generation: u64,
}

impl Future for EventWait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.event.generation.get() != self.generation {
            return Poll::Ready(());
        }
        let mut wakers = self.event.wakers.borrow_mut();
        // A future that is polled again must not leave one waker behind for each poll.
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
    sender_alive: Cell<bool>,
}

/// The end of a [`oneshot`] that gives the value.
pub struct OneSender<T>(Rc<Slot<T>>);

/// The end of a [`oneshot`] that waits for the value; resolves to `None` if the sender is dropped
/// without sending.
pub struct OneReceiver<T>(Rc<Slot<T>>);

/// A channel for one value between two tasks of one core.
#[must_use]
pub fn oneshot<T>() -> (OneSender<T>, OneReceiver<T>) {
    let slot = Rc::new(Slot {
        value: Cell::new(None),
        waker: Cell::new(None),
        sender_alive: Cell::new(true),
    });
    (OneSender(slot.clone()), OneReceiver(slot))
}

impl<T> OneSender<T> {
    /// Gives the value and wakes the receiver.
    pub fn send(self, value: T) {
        self.0.value.set(Some(value));
    }
}

impl<T> Drop for OneSender<T> {
    fn drop(&mut self) {
        self.0.sender_alive.set(false);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl<T> OneReceiver<T> {
    /// The value, if it is there already.
    pub fn try_take(&self) -> Option<T> {
        self.0.value.take()
    }
}

impl<T> Future for OneReceiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.0.value.take() {
            return Poll::Ready(Some(value));
        }
        if !self.0.sender_alive.get() {
            return Poll::Ready(None);
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once, zip};

    #[test]
    fn an_event_wakes_everyone_who_waits_and_nobody_who_comes_later() {
        let event = Event::new();
        block_on(async {
            let first = event.wait();
            let second = event.wait();
            event.notify();
            zip(first, second).await;
            assert!(poll_once(event.wait()).await.is_none());
        });
    }

    #[test]
    fn a_dropped_sender_is_noticed() {
        let (sender, receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(block_on(receiver), None);
        let (sender, receiver) = oneshot();
        sender.send(7);
        assert_eq!(block_on(receiver), Some(7));
    }
}
