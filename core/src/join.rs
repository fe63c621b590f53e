//! [`Join`]: waiting for a future or task.

use std::task::{Context, Poll};

use crate::await_point::{Wait, WaitPoll};
use crate::callback::Callback;
use crate::error::{Error, ErrorKind, Result};
use crate::task::{PollWaker, RawFuture, home};

/// The await point of whoever waits for a future or task.
#[derive(Debug)]
pub(crate) struct Join {
    wait: Wait,
}

impl Join {
    pub(crate) const fn new() -> Self {
        Join { wait: Wait::new() }
    }

    /// Whether anybody waits.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.wait.is_registered()
    }

    /// Ready when the future is done, or with what the await returns instead of its result.
    #[inline(always)]
    pub(crate) fn poll(&mut self, raw: &RawFuture, cx: &Context<'_>) -> Poll<Result<()>> {
        if raw.is_done() && (!self.wait.is_registered() || self.wait.end_with(raw)) {
            return Poll::Ready(Ok(()));
        }
        self.suspend(raw, PollWaker::of(cx))
    }

    /// The await has to wait: as nearly all do, or as [`wait_for`](Self::wait_for) knows.
    #[inline(never)]
    fn suspend(&mut self, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
        if self.wait.register_on_future(waker, raw) { Poll::Pending } else { self.wait_for(raw, waker) }
    }

    #[inline(never)]
    fn wait_for(&mut self, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
        if self.wait.is_registered() {
            match self.wait.poll_with(waker) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Cancelled(error) => return Poll::Ready(Err(error)),
                WaitPoll::Fired if raw.is_done() => return Poll::Ready(Ok(())),
                WaitPoll::Fired => return Poll::Ready(Err(misuse(raw).unwrap_or_else(woken_early))),
                WaitPoll::Moved(token) => {
                    raw.remove_wake(&token);
                    // Told at once here: a turn later would never come where another task polls this in turns.
                    if let Some(error) = misuse(raw).filter(|_| !raw.is_done()) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
        if raw.is_done() {
            return Poll::Ready(Ok(()));
        }
        self.start(raw, waker)
    }

    fn start(&mut self, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
        let misused = misuse(raw).is_some();
        match self.wait.register_on(waker, (!misused).then_some(raw)) {
            Err(error) => return Poll::Ready(Err(error)),
            // As in asyncio the error comes one turn later.
            Ok(token) if misused => {
                token.fire();
            }
            Ok(token) => raw.add_callback(Callback::wake(token)),
        }
        Poll::Pending
    }

    /// Withdraws the await point, if there is one.
    #[inline]
    pub(crate) fn detach(&mut self, raw: &RawFuture) {
        if self.wait.is_registered() {
            self.leave(raw);
        }
    }

    #[cold]
    fn leave(&mut self, raw: &RawFuture) {
        if let Some(token) = self.wait.token() {
            raw.remove_wake(&token);
        }
        self.wait.release();
    }
}

/// Why the current task cannot wait for a future, if it cannot.
pub(crate) fn misuse(raw: &RawFuture) -> Option<Error> {
    let foreign = home::home() != raw.core().id();
    if foreign {
        return Some(Error::fixed(ErrorKind::Runtime, &"the awaited future belongs to a different event loop"));
    }
    let itself = raw.as_task().is_some_and(|task| raw.core().is_current(task));
    itself.then(|| Error::fixed(ErrorKind::Runtime, &"a task cannot await itself"))
}

#[cold]
fn woken_early() -> Error {
    Error::fixed(ErrorKind::Runtime, &"woken before the awaited future was done")
}
