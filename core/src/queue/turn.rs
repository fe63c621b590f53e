//! [`Turn`]: a place in one of a queue's lines.

use std::task::{Context, Poll};

use super::{Queue, Store};
use crate::error::Result;
use crate::sync::waiters::{Waiter, Waiters};

/// Which line.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// Those who wait for an item.
    Getters,
    /// Those who wait for room.
    Putters,
}

impl<T, S: Store<T>> Queue<T, S> {
    pub(super) fn line(&self, side: Side) -> &Waiters {
        match side {
            Side::Getters => &self.getters,
            Side::Putters => &self.putters,
        }
    }

    /// Calls the next one, if there is something to be called for.
    fn call_next(&self, side: Side) {
        let served = match side {
            Side::Getters => !self.empty(),
            Side::Putters => !self.full(),
        };
        if served {
            self.line(side).call_next();
        }
    }
}

/// A place in a line. A call that it cannot follow any more, because it was cancelled or dropped, goes to the next one.
pub(super) struct Turn<'a, T, S: Store<T>> {
    queue: &'a Queue<T, S>,
    side: Side,
    waiter: Waiter<'a>,
}

impl<'a, T, S: Store<T>> Turn<'a, T, S> {
    pub(super) fn new(queue: &'a Queue<T, S>, side: Side) -> Self {
        Turn { queue, side, waiter: Waiter::new(queue.line(side), &queue.bound) }
    }

    pub(super) fn has_joined(&self) -> bool {
        self.waiter.has_joined()
    }

    /// Joins the line. Ready when called, or with what the await returns instead.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        self.waiter.poll(cx, || self.queue.call_next(self.side))
    }

    /// Leaves the line, to follow a call.
    pub(super) fn leave(&mut self) {
        self.waiter.leave();
    }

    /// Leaves the line without following a call.
    #[inline]
    pub(super) fn pass_on(&mut self) {
        if self.waiter.leave() == Some(true) {
            self.queue.call_next(self.side);
        }
    }
}

impl<T, S: Store<T>> Drop for Turn<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        self.pass_on();
    }
}
