//! What is used by several threads at once: the standard library's types, or the model checker's.
//!
//! Built with `--cfg aioli_loom` the loop runs on the types of loom, which tries every order in which threads may see each other's
//! writes. `tests/loom.rs` runs programs on it. Nothing else in this crate knows of it.

#[cfg(not(aioli_loom))]
pub(crate) use {
    crossbeam_deque::{Injector, Steal},
    std::cell::Cell as SharedCell,
    std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, fence},
    std::sync::{Arc, Mutex},
    std::thread_local,
};

#[cfg(aioli_loom)]
pub(crate) use {
    crossbeam_deque::Steal,
    loom::cell::Cell as SharedCell,
    loom::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, fence},
    loom::sync::{Arc, Mutex},
    model::Injector,
};

/// Loom's macro does not know constant initialisers.
#[cfg(aioli_loom)]
macro_rules! model_thread_local {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };)*) => {
        loom::thread_local! { $($(#[$attribute])* static $name: $type = $value;)* }
    };
}
#[cfg(aioli_loom)]
pub(crate) use model_thread_local as thread_local;

#[cfg(aioli_loom)]
mod model {
    use crossbeam_deque::Steal;
    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// Stands for the queue of crossbeam-deque, which loom cannot look into. It orders no more than that one does: what was pushed is
    /// seen by whoever takes it out, and nothing else.
    pub(crate) struct Injector<T> {
        slots: Vec<Mutex<Option<T>>>,
        head: AtomicUsize,
        tail: AtomicUsize,
    }

    impl<T> Injector<T> {
        pub(crate) fn new() -> Self {
            const MOST: usize = 8;
            let slots = (0..MOST).map(|_| Mutex::new(None)).collect();
            Injector { slots, head: AtomicUsize::new(0), tail: AtomicUsize::new(0) }
        }

        pub(crate) fn push(&self, value: T) {
            let at = self.tail.fetch_add(1, Ordering::Relaxed);
            *self.slots[at].lock().unwrap() = Some(value);
        }

        pub(crate) fn len(&self) -> usize {
            let tail = self.tail.load(Ordering::Relaxed);
            tail.saturating_sub(self.head.load(Ordering::Relaxed))
        }

        pub(crate) fn steal(&self) -> Steal<T> {
            let head = self.head.load(Ordering::Relaxed);
            if head == self.tail.load(Ordering::Relaxed) {
                return Steal::Empty;
            }
            let taken = self.slots[head].lock().unwrap().take();
            let Some(value) = taken else {
                // Whoever has this place has not put anything there yet, or somebody else has taken it.
                loom::thread::yield_now();
                return Steal::Retry;
            };
            self.head.fetch_add(1, Ordering::Relaxed);
            Steal::Success(value)
        }
    }
}
