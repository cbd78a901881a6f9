//! Accepts connections on this core. Every core has a listener of its own on the same address
//! (SO_REUSEPORT); the kernel spreads new connections over them.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use tracing::warn;

use super::connection::Connection;
use super::core::Core;
use crate::io::tcp::TcpListener;
use crate::shard::task;

/// How often idle and stuck connections are looked for.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that has not sent a first whole request in this time is closed.
const GREETING_US_MAX: u64 = 10_000_000;
/// A frame that has begun must be complete in this time (slow-loris bodies).
const FRAME_US_MAX: u64 = 30_000_000;
/// After a failed accept (no descriptors left): wait before trying again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts until the core stops.
pub async fn accept_connections(core: Rc<Core>, listener: TcpListener) {
    let shard_count = core.shard().mesh().shard_count();
    let connections_max = core.settings().requests.connections_max.div_ceil(shard_count);
    loop {
        let accepted = or(async { Some(listener.accept().await) }, async {
            core.stopped().await;
            None
        });
        let Some(accepted) = accepted.await else { break };
        match accepted {
            Ok((stream, peer)) => {
                if core.connections().len() >= connections_max {
                    core.refusals().note(peer, "this core has its most connections");
                    continue; // dropping the stream closes it
                }
                let connection = Connection::new(stream, peer, core.shard().clock().mono_us());
                let id = core.connections().add(connection.clone());
                let core = core.clone();
                task::spawn(async move {
                    connection.run(core.clone()).await;
                    core.connections().remove(id);
                });
            }
            Err(problem) => {
                warn!("accept failed: {problem}");
                task::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Closes connections that never speak, dribble a frame, or have been idle too long.
pub async fn reap_connections(core: Rc<Core>) {
    let idle_max = core.settings().requests.connection_idle_max;
    let idle_us_max =
        idle_max.map_or(u64::MAX, |max| u64::try_from(max.as_micros()).unwrap_or(u64::MAX));
    while !core.is_stopping() {
        or(task::sleep(REAP_INTERVAL), core.stopped()).await;
        let now_us = core.shard().clock().mono_us();
        for connection in core.connections().all() {
            let quiet_us = now_us.saturating_sub(connection.last_active_us());
            let reason = if !connection.is_greeted() && quiet_us > GREETING_US_MAX {
                "no request within 10 s"
            } else if connection.has_partial_frame() && quiet_us > FRAME_US_MAX {
                "a frame was not complete within 30 s"
            } else if !connection.is_busy() && quiet_us > idle_us_max {
                "idle longer than connections.max.idle.ms"
            } else {
                continue;
            };
            core.refusals().note(connection.peer(), reason);
            connection.shutdown();
        }
    }
}
