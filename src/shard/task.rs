//! Tasks and timers of this core: the runtime's, under names that upper floors may use.

use std::future::Future;
use std::time::Duration;

/// Starts a task on this core and lets it run on its own. A panic in it ends the process's core:
/// programmer errors crash.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Handle of a task whose end somebody waits for.
pub struct Task<T>(glommio::task::JoinHandle<T>);

impl<T> Task<T> {
    /// Waits for the task's result; `None` if it was cancelled.
    pub async fn join(self) -> Option<T> {
        self.0.await
    }
}

/// Starts a task on this core whose result is wanted.
pub fn spawn_joinable<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(future).detach())
}

/// Waits.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Lets other tasks of this core run.
pub async fn yield_now() {
    glommio::executor().yield_now().await;
}

/// Lets other tasks run if this one has had its share; about 3 ns when it has not.
pub async fn yield_if_needed() {
    glommio::executor().yield_if_needed().await;
}

/// `future`'s value, or `None` if `duration` passes first.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    futures_lite::future::or(async { Some(future.await) }, async {
        sleep(duration).await;
        None
    })
    .await
}
