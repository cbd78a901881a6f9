//! Producers that wait for the acknowledgement of what they appended.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::ids::Offset;
use crate::base::signal::{OneReceiver, OneSender, oneshot};

use super::CloseReason;

/// Why an appended batch will not be acknowledged. The batch may or may not be in the log: the
/// producer has to retry, and its sequence tells the retry from a second batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The partition was closed before the batch was committed.
    #[error("the partition was closed before the batch was committed: {0}")]
    Closed(CloseReason),
}

/// Resolves when the batch may be acknowledged, or never will be. Dropping it gives up waiting,
/// not the batch.
#[must_use = "an acknowledgement that nobody awaits is acks=0; drop it on purpose"]
pub struct Acked(Waiting);

enum Waiting {
    Settled(Result<(), AckError>),
    For(OneReceiver<Result<(), AckError>>),
}

impl Acked {
    /// The outcome, if there is one already.
    #[must_use]
    pub fn settled(&self) -> Option<Result<(), AckError>> {
        match &self.0 {
            Waiting::Settled(outcome) => Some(*outcome),
            Waiting::For(_) => None,
        }
    }
}

impl Future for Acked {
    type Output = Result<(), AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Waiting::Settled(outcome) => Poll::Ready(*outcome),
            Waiting::For(receiver) => Pin::new(receiver).poll(cx).map(|outcome| {
                // A queue that is dropped unsettled belongs to a partition that is gone.
                outcome.unwrap_or(Err(AckError::Closed(CloseReason::Moved)))
            }),
        }
    }
}

struct Waiter {
    end: Offset,
    sender: OneSender<Result<(), AckError>>,
}

/// The waiting producers of one partition, in offset order. Its length is bounded by what feeds
/// it: every entry is a batch of a request in flight, and connections bound those.
#[derive(Default)]
pub struct AckQueue {
    waiters: VecDeque<Waiter>,
}

impl AckQueue {
    /// A queue in which nobody waits.
    #[must_use]
    pub fn new() -> AckQueue {
        AckQueue::default()
    }

    /// Waits until everything below `end` may be acknowledged; `ackable` is what may be now. A
    /// retry waits for its original, so `end` may lie before that of others who came earlier.
    pub fn wait_for(&mut self, end: Offset, ackable: Offset) -> Acked {
        if end <= ackable {
            return Acked(Waiting::Settled(Ok(())));
        }
        let (sender, receiver) = oneshot();
        let place = match self.waiters.back() {
            Some(last) if last.end > end => {
                self.waiters.partition_point(|waiter| waiter.end <= end)
            }
            _ => self.waiters.len(),
        };
        self.waiters.insert(place, Waiter { end, sender });
        Acked(Waiting::For(receiver))
    }

    /// Acknowledges, in offset order, everything that ends at or below `ackable`. Returns how many.
    pub fn release(&mut self, ackable: Offset) -> usize {
        let count = self.waiters.partition_point(|waiter| waiter.end <= ackable);
        for waiter in self.waiters.drain(..count) {
            waiter.sender.send(Ok(()));
        }
        count
    }

    /// Tells all who wait that they wait in vain.
    pub fn fail(&mut self, error: AckError) {
        for waiter in self.waiters.drain(..) {
            waiter.sender.send(Err(error));
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    fn is_pending(acked: &mut Acked) -> bool {
        block_on(poll_once(acked)).is_none()
    }

    #[test]
    fn what_may_be_acknowledged_already_does_not_wait() {
        let mut queue = AckQueue::new();
        let acked = queue.wait_for(Offset(5), Offset(5));
        assert_eq!(acked.settled(), Some(Ok(())));
        assert_eq!(block_on(acked), Ok(()));
        assert!(queue.is_empty());
    }

    #[test]
    fn only_what_ends_at_or_below_the_ackable_end_is_released() {
        let mut queue = AckQueue::new();
        let first = queue.wait_for(Offset(3), Offset(0));
        let mut second = queue.wait_for(Offset(7), Offset(0));
        assert_eq!(queue.release(Offset(6)), 1);
        assert_eq!(block_on(first), Ok(()));
        assert!(is_pending(&mut second));
        // A report that comes late and says less takes nothing back and releases nothing.
        assert_eq!(queue.release(Offset(3)), 0);
        assert_eq!(queue.release(Offset(7)), 1);
        assert_eq!(block_on(second), Ok(()));
    }

    #[test]
    fn a_retry_is_released_with_its_original_and_not_after_later_batches() {
        let mut queue = AckQueue::new();
        let original = queue.wait_for(Offset(3), Offset(0));
        let mut later = queue.wait_for(Offset(9), Offset(0));
        let retry = queue.wait_for(Offset(3), Offset(0));
        assert_eq!(queue.release(Offset(3)), 2);
        assert_eq!(block_on(original), Ok(()));
        assert_eq!(block_on(retry), Ok(()));
        assert!(is_pending(&mut later));
    }

    #[test]
    fn failing_the_queue_fails_everyone_who_waits() {
        let mut queue = AckQueue::new();
        let waiting = [queue.wait_for(Offset(3), Offset(0)), queue.wait_for(Offset(4), Offset(0))];
        let error = AckError::Closed(CloseReason::StorageFailed);
        queue.fail(error);
        for acked in waiting {
            assert_eq!(block_on(acked), Err(error));
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn a_waiter_that_gave_up_holds_up_nobody() {
        let mut queue = AckQueue::new();
        drop(queue.wait_for(Offset(3), Offset(0)));
        let next = queue.wait_for(Offset(4), Offset(0));
        assert_eq!(queue.release(Offset(4)), 2);
        assert_eq!(block_on(next), Ok(()));
    }

    #[test]
    fn a_queue_that_is_dropped_fails_its_waiters() {
        let mut queue = AckQueue::new();
        let acked = queue.wait_for(Offset(3), Offset(0));
        drop(queue);
        assert_eq!(block_on(acked), Err(AckError::Closed(CloseReason::Moved)));
    }

    thread_local! {
        static WOKEN: Rc<RefCell<Vec<usize>>> = Rc::default();
    }

    struct Note(usize);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            WOKEN.with(|woken| woken.borrow_mut().push(self.0));
        }
    }

    proptest! {
        #[test]
        fn waiters_wake_in_offset_order_and_exactly_once(
            ends in prop::collection::vec(1..50i64, 1..40),
            reports in prop::collection::vec(0..60i64, 1..20),
        ) {
            let mut queue = AckQueue::new();
            WOKEN.with(|woken| woken.borrow_mut().clear());
            let mut waiting: Vec<Acked> = ends
                .iter()
                .map(|end| queue.wait_for(Offset(*end), Offset(0)))
                .collect();
            for (place, acked) in waiting.iter_mut().enumerate() {
                let waker = Waker::from(Arc::new(Note(place)));
                let polled = Pin::new(acked).poll(&mut Context::from_waker(&waker));
                prop_assert!(polled.is_pending());
            }
            for report in &reports {
                queue.release(Offset(*report));
            }
            let best = *reports.iter().max().expect("at least one");
            let woken = WOKEN.with(|woken| woken.borrow().clone());
            let mut expected: Vec<usize> =
                (0..ends.len()).filter(|place| ends[*place] <= best).collect();
            let got: Vec<i64> = woken.iter().map(|place| ends[*place]).collect();
            prop_assert!(got.is_sorted(), "woken out of order: {:?}", got);
            let mut places = woken.clone();
            places.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(places, expected);
        }
    }
}
