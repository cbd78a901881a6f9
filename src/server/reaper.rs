//! Closes connections that keep memory and do nothing with it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;

use super::core::Core;
use crate::base::clock::micros;
use crate::shard::task;

/// How often idle and stuck connections are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that has not sent a first whole request in this time is closed.
const GREETING_US_MAX: u64 = 10_000_000;
/// A frame that has begun must be complete in this time (slow-loris bodies).
const FRAME_US_MAX: u64 = 30_000_000;

/// What a connection shows of itself to the reaper.
pub struct Presence {
    /// A frame has begun and is not complete.
    pub partial_frame: Rc<Cell<bool>>,
    /// Monotonic time of the last request or answer.
    pub last_active_us: Cell<u64>,
    /// The first request has been understood: this is a Kafka client.
    pub greeted: Cell<bool>,
}

impl Presence {
    /// Of a connection that was just accepted.
    #[must_use]
    pub fn new(now_us: u64) -> Presence {
        Presence {
            partial_frame: Rc::default(),
            last_active_us: Cell::new(now_us),
            greeted: Cell::new(false),
        }
    }

    /// Why the connection is to be closed, if it is; `has_request`: one is in work.
    fn fault(&self, now_us: u64, idle_us_max: u64, has_request: bool) -> Option<&'static str> {
        let quiet_us = now_us.saturating_sub(self.last_active_us.get());
        if !self.greeted.get() && quiet_us > GREETING_US_MAX {
            return Some("no request within 10 s");
        }
        if self.partial_frame.get() {
            return (quiet_us > FRAME_US_MAX).then_some("a frame was not complete within 30 s");
        }
        let is_idle = !has_request && quiet_us > idle_us_max;
        is_idle.then_some("idle longer than connections.max.idle.ms")
    }
}

/// Closes connections that never speak, dribble a frame, or have been idle too long.
pub async fn reap_connections(core: Rc<Core>) {
    let idle_max = core.settings().requests.connection_idle_max;
    let idle_us_max = idle_max.map_or(u64::MAX, micros);
    while !core.is_stopping() {
        or(task::sleep(REAP_INTERVAL), core.stopped()).await;
        let now_us = core.shard().clock().mono_us();
        for connection in core.connections().all() {
            let has_request = connection.has_request();
            let fault = connection.presence().fault(now_us, idle_us_max, has_request);
            if let Some(reason) = fault {
                core.refusals().note(connection.peer(), reason);
                connection.shutdown();
            }
        }
    }
}
