//! A channel for one value between two tasks of one thread: the same code for every runtime.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Holds at most one value and at most one waiting task, without any synchronisation.
pub(crate) struct Slot<T> {
    value: Cell<Option<T>>,
    waiting: Cell<Option<Waker>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { value: Cell::new(None), waiting: Cell::new(None) }
    }
}

impl<T> Slot<T> {
    /// Puts a value in and wakes the task that waits for it.
    pub(crate) fn put(&self, value: T) {
        self.value.set(Some(value));
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for a value and takes it.
    pub(crate) fn take(&self) -> impl Future<Output = T> {
        poll_fn(|cx| self.poll_take(cx))
    }

    /// The same, as one poll.
    #[inline]
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<T> {
        if let Some(value) = self.value.take() {
            return Poll::Ready(value);
        }
        self.waiting.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
