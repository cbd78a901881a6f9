//! The scrub's pace: a pass over each store's closed segments now and then, slowly enough that
//! clients do not feel it.

use std::rc::Rc;
use std::time::Duration;

use tracing::{info, warn};

use super::runtime::Shard;
use super::stores::ended;
use super::task;
use crate::storage::{StorageError, Store};

/// The first pass begins so long after the start, or after one interval if that is shorter: a start
/// has other reads to do.
const FIRST_PASS_AFTER: Duration = Duration::from_secs(600);

/// When and how fast a store is scrubbed.
#[derive(Clone, Copy, Debug)]
pub struct ScrubPace {
    /// From the beginning of a pass to the next; `None`: never.
    pub interval: Option<Duration>,
    /// Bytes read in a second at most, at least 1.
    pub bytes_per_second: u64,
}

/// Scrubs the store again and again.
pub(super) async fn scrub(shard: Rc<Shard>, store: Rc<Store>, pace: ScrubPace) {
    let Some(interval) = pace.interval else { return };
    let mut pause = interval.min(FIRST_PASS_AFTER);
    while task::timeout(pause, store.until_over()).await.is_none() {
        let begin_us = shard.clock().mono_us();
        if let Err(problem) = pass(&store, pace.bytes_per_second).await {
            return ended(&shard, &store, &problem);
        }
        let took = Duration::from_micros(shard.clock().mono_us().saturating_sub(begin_us));
        pause = interval.saturating_sub(took);
    }
}

async fn pass(store: &Rc<Store>, bytes_per_second: u64) -> Result<(), StorageError> {
    let mut pass = store.begin_scrub();
    let (mut bytes, mut damaged) = (0, 0);
    while let Some(piece) = store.scrub_piece(&mut pass).await? {
        bytes += piece.bytes;
        damaged += piece.damage.len();
        let pause_us = piece.bytes.saturating_mul(1_000_000) / bytes_per_second.max(1);
        // Whatever the rate: somebody else has the core in between.
        task::timeout(Duration::from_micros(pause_us), store.until_over()).await;
        task::yield_now().await;
    }
    if damaged > 0 {
        warn!(bytes, damaged, "a scrub is over: there is damage");
    } else {
        info!(bytes, "a scrub is over: everything is as it was written");
    }
    Ok(())
}

/// One core's part of a rate for a whole data directory.
#[must_use]
pub fn share_of(bytes_per_second: u64, shards: usize) -> u64 {
    (bytes_per_second / (shards as u64).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_share_the_rate_of_a_directory() {
        assert_eq!(share_of(8 << 20, 4), 2 << 20);
        assert_eq!(share_of(1, 4), 1, "slow, but never still");
    }
}
