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
