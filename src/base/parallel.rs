//! Several futures at once on one core, no more than a given number under way.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Runs the futures, `depth` of them at a time, and gives their results in their order. All of them
/// are polled whenever one wakes, so `depth` is for tens, not for thousands.
pub async fn run_parallel<F: Future>(
    depth: usize,
    futures: impl IntoIterator<Item = F>,
) -> Vec<F::Output> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut done: Vec<(usize, F::Output)> = Vec::new();
    poll_fn(|cx| {
        loop {
            let free = depth.max(1).saturating_sub(running.len());
            running.extend(waiting.by_ref().take(free).map(|(index, it)| (index, Box::pin(it))));
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = done.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    done.push((*index, output));
                    false
                }
                Poll::Pending => true,
            });
            if done.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};
    use std::cell::Cell;

    #[test]
    fn all_run_in_their_order_and_never_more_than_allowed_at_once() {
        for (depth, expected_most) in [(1, 1), (3, 3), (100, 20), (0, 1)] {
            let (running, most) = (Cell::new(0), Cell::new(0));
            let work = |number: usize| {
                let (running, most) = (&running, &most);
                async move {
                    running.set(running.get() + 1);
                    most.set(most.get().max(running.get()));
                    for _ in 0..(number * 7) % 5 {
                        yield_now().await;
                    }
                    running.set(running.get() - 1);
                    number
                }
            };
            let done = block_on(run_parallel(depth, (0..20).map(work)));
            assert_eq!(done, (0..20).collect::<Vec<_>>());
            assert!(most.get() <= expected_most, "{} at once, of {depth}", most.get());
            assert!(depth < 2 || most.get() > 1);
        }
    }
}
