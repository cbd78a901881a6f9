//! A value that crosses cores but is only ever opened at home.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::thread::{self, ThreadId};

/// Carries a single-threaded value (an `Rc`, a local waker) through other cores and back. Only the
/// thread that packed it can open it. If it is dropped elsewhere the value leaks, which is safe;
/// that happens only when a core ends while answers are still on the way.
pub struct Foreign<T> {
    home: ThreadId,
    value: ManuallyDrop<T>,
}

// SAFETY: the value is touched only in `open` and `drop`, and both compare the thread first.
unsafe impl<T> Send for Foreign<T> {}

impl<T> Foreign<T> {
    /// Packs `value` on its home thread.
    pub fn new(value: T) -> Foreign<T> {
        Foreign { home: thread::current().id(), value: ManuallyDrop::new(value) }
    }

    /// Unpacks on the home thread.
    ///
    /// # Panics
    /// On any other thread: that is a routing error in this program.
    #[must_use]
    pub fn open(mut self) -> T {
        assert_eq!(self.home, thread::current().id(), "a foreign value is opened at home only");
        // SAFETY: taken once; `self` is forgotten below, so `drop` does not see it again.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        std::mem::forget(self);
        value
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        if self.home == thread::current().id() {
            // SAFETY: at home, and `open` did not take the value (it forgets self).
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Foreign;
    use std::rc::Rc;

    #[test]
    fn a_value_returns_home_intact_and_is_dropped_once() {
        let value = Rc::new(5);
        let packed = Foreign::new(value.clone());
        let packed = std::thread::spawn(move || packed).join().expect("the thread ends well");
        assert_eq!(*packed.open(), 5);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn a_value_dropped_abroad_leaks_instead_of_racing() {
        let value = Rc::new(5);
        let packed = Foreign::new(value.clone());
        std::thread::spawn(move || drop(packed)).join().expect("the thread ends well");
        assert_eq!(Rc::strong_count(&value), 2);
    }
}
