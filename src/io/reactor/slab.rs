//! The operations that the kernel knows about, and what they keep alive.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

use super::op::{Completion, Memory, Outcome};

/// Names one operation for as long as it lives; travels through the kernel as `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The form in which the kernel carries it.
    pub(super) fn user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`Key::user_data`].
    #[expect(clippy::cast_possible_truncation)]
    pub(super) fn from_user_data(user_data: u64) -> Key {
        Key { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// `user_data` of requests whose result nobody waits for (cancellations). No [`Key`] has it: the
/// slab never grows to 2^32 slots.
pub(super) const NOBODY: u64 = u64::MAX;

/// `user_data` of the poll that sees the doorbell during naps.
pub(super) const BELL: u64 = u64::MAX - 1;

enum State {
    /// The kernel may still touch the memory; somebody waits.
    Waiting(Option<Waker>),
    /// The kernel may still touch the memory; nobody waits any more.
    Abandoned,
    /// The kernel is done; the outcome waits for its future.
    Done(Outcome),
}

/// What one operation keeps alive until its completion.
struct Entry {
    state: State,
    memory: Memory,
    file: Option<Rc<OwnedFd>>,
}

struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

/// All operations of one reactor. `live` counts those that the kernel may still touch.
#[derive(Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
}

/// What a completion calls for. Wakers and abandoned memory are handed out, because waking or
/// dropping them may run code that comes back to the reactor.
pub(super) enum Completed {
    /// Wake the one who waits, if it was polled already.
    Wake(Option<Waker>),
    /// Nobody waits: drop this, once no borrow is held.
    Drop(Completion),
    /// Not an operation of this slab.
    Unknown,
}

impl Slab {
    /// Takes over what an operation needs.
    pub(super) fn insert(&mut self, memory: Memory, file: Option<Rc<OwnedFd>>) -> Key {
        let entry = Some(Entry { state: State::Waiting(None), memory, file });
        self.live += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.entry = entry;
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 operations");
        self.slots.push(Slot { generation: 0, entry });
        Key { index, generation: 0 }
    }

    /// Operations that the kernel may still touch.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Notes that the kernel is done with `key`.
    pub(super) fn complete(&mut self, key: Key, outcome: Outcome) -> Completed {
        let Some(entry) = self.entry(key) else { return Completed::Unknown };
        match std::mem::replace(&mut entry.state, State::Done(outcome)) {
            State::Waiting(waker) => {
                self.live -= 1;
                Completed::Wake(waker)
            }
            State::Abandoned => {
                self.live -= 1;
                match self.take(key) {
                    Some(completion) => Completed::Drop(completion),
                    None => Completed::Unknown,
                }
            }
            State::Done(_) => unreachable!("one completion for each operation"),
        }
    }

    /// The completion of `key`, or `None` after noting whom to wake. The replaced waker is given
    /// back to be dropped outside.
    pub(super) fn poll(&mut self, key: Key, waker: &Waker) -> Result<Completion, Option<Waker>> {
        let entry = self.entry(key).expect("a future's operation is in the slab");
        match &mut entry.state {
            State::Done(_) => {}
            State::Waiting(Some(old)) if old.will_wake(waker) => return Err(None),
            State::Waiting(slot) => return Err(slot.replace(waker.clone())),
            State::Abandoned => unreachable!("an abandoned operation has no future"),
        }
        Ok(self.take(key).expect("checked above"))
    }

    /// The future of `key` is gone. Returns its completion if the kernel is done with it; with
    /// `None` the memory stays until it is, and a cancellation should be sent.
    pub(super) fn abandon(&mut self, key: Key) -> (Option<Completion>, Option<Waker>) {
        let entry = self.entry(key).expect("a future's operation is in the slab");
        match std::mem::replace(&mut entry.state, State::Abandoned) {
            State::Done(outcome) => {
                entry.state = State::Done(outcome);
                (self.take(key), None)
            }
            State::Waiting(waker) => (None, waker),
            State::Abandoned => unreachable!("an operation is abandoned once"),
        }
    }

    fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.entry.as_mut() } else { None }
    }

    /// Frees the slot of an operation that the kernel is done with.
    fn take(&mut self, key: Key) -> Option<Completion> {
        let slot = &mut self.slots[key.index as usize];
        let outcome = match &slot.entry.as_ref()?.state {
            State::Done(outcome) => *outcome,
            State::Abandoned | State::Waiting(_) => return None,
        };
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(Completion { outcome, memory: entry.memory, file: entry.file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_operation_keeps_its_memory_until_its_completion() {
        let mut slab = Slab::default();
        let bytes = bytes::Bytes::from(vec![1u8; 8]);
        let key = slab.insert(Memory::Shared(bytes.clone()), None);
        let (done, _) = slab.abandon(key);
        assert!(done.is_none());
        assert!(!bytes.is_unique());
        assert_eq!(slab.live(), 1);
        assert!(matches!(slab.complete(key, Outcome { result: 8, flags: 0 }), Completed::Drop(_)));
        assert!(bytes.is_unique());
        assert_eq!(slab.live(), 0);
    }

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::default();
        let old = slab.insert(Memory::None, None);
        slab.abandon(old);
        slab.complete(old, Outcome { result: 0, flags: 0 });
        let new = slab.insert(Memory::None, None);
        assert_ne!(old, new);
        assert!(matches!(slab.complete(old, Outcome { result: 0, flags: 0 }), Completed::Unknown));
        assert_eq!(Key::from_user_data(new.user_data()), new);
        assert_eq!(slab.live(), 1);
    }
}
