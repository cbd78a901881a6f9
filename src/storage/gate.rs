//! One at a time, for async steps of one core.

use std::cell::Cell;

use crate::base::signal::Event;

/// Lets one task through; the others wait.
#[derive(Default)]
pub(super) struct Gate {
    taken: Cell<bool>,
    left: Event,
}

impl Gate {
    /// Waits until nobody is inside. The turn ends when the guard is dropped.
    pub(super) async fn enter(&self) -> GateTurn<'_> {
        while self.taken.get() {
            self.left.wait().await;
        }
        self.taken.set(true);
        GateTurn { gate: self }
    }
}

/// A turn inside a [`Gate`].
pub(super) struct GateTurn<'a> {
    gate: &'a Gate,
}

impl Drop for GateTurn<'_> {
    fn drop(&mut self) {
        self.gate.taken.set(false);
        self.gate.left.notify();
    }
}
