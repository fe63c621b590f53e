//! [`Registry`]: what cannot leave the loop's thread, by a number that can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};

use crate::error::Result;
use crate::event_loop::LoopCore;
use crate::remote::RemoteLoop;
use crate::task::{FutureRef, LoopRef, RawFuture, home};
use crate::token::Node;

/// Something that other threads refer to.
pub(crate) enum Entry {
    Future(RawFuture),
    Token(Weak<Node>),
}

/// What other threads refer to, for as long as the loop is open.
#[derive(Default)]
pub(crate) struct Registry {
    entries: RefCell<BTreeMap<u64, Entry>>,
}

impl Registry {
    /// Whether a future is registered under this number still.
    pub(crate) fn future(&self, number: u64) -> Option<RawFuture> {
        match self.entries.borrow().get(&number) {
            Some(Entry::Future(raw)) => Some(raw.clone()),
            _ => None,
        }
    }

    pub(crate) fn token(&self, number: u64) -> Option<Rc<Node>> {
        match self.entries.borrow().get(&number) {
            Some(Entry::Token(node)) => node.upgrade(),
            _ => None,
        }
    }

    /// Takes a future out.
    pub(crate) fn take_future(&self, number: u64) -> Option<RawFuture> {
        match self.remove(number) {
            Some(Entry::Future(raw)) => Some(raw),
            _ => None,
        }
    }

    /// Whether another thread is to answer. A task whose result other threads await is no answer.
    pub(crate) fn awaits_reply(&self) -> bool {
        let awaits = |entry: &Entry| matches!(entry, Entry::Future(raw) if raw.as_task().is_none());
        self.entries.borrow().values().any(awaits)
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Entry> {
        self.entries.borrow_mut().remove(&number)
    }
}

impl LoopCore {
    /// Registers something under a number that is never given out again.
    pub(crate) fn register(&self, entry: Entry) -> u64 {
        let number = self.next_id();
        let old = self.registry.entries.borrow_mut().insert(number, entry);
        debug_assert!(old.is_none(), "numbers are given out once");
        number
    }

    /// Forgets everything, since the loop is closed.
    pub(crate) fn forget_registered(&self) {
        let entries = std::mem::take(&mut *self.registry.entries.borrow_mut());
        drop(entries);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("entries", &self.entries.borrow().len()).finish()
    }
}

/// The way to a future of a loop for the thread that will have its result.
///
/// The future is registered until the result has come, or until somebody takes it out. A closed loop drops what comes.
pub(crate) struct Reply {
    remote: RemoteLoop,
    number: u64,
}

impl Reply {
    /// The way to `future`.
    pub(crate) fn to(core: &LoopRef, future: &RawFuture) -> Self {
        let number = core.register(Entry::Future(future.clone()));
        Reply { remote: RemoteLoop::new(core.shared.clone()), number }
    }

    /// The number that the future is registered under.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sets the result: the loop does, in the turn after it got this.
    pub(crate) fn send<T: Send + 'static>(&self, result: Result<T>) {
        let number = self.number;
        // If the loop is closed nobody waits any more.
        let _ = self.remote.call_soon_threadsafe(move || {
            let raw = home::with(|core| core.registry.take_future(number)).flatten();
            let Some(cell) = raw.filter(|raw| !raw.is_done()).and_then(FutureRef::<T>::downcast) else { return };
            match result {
                Ok(value) => assert!(cell.finish_value(value), "it was pending"),
                Err(error) => cell.raw().finish_error(error, false),
            }
        });
    }
}
