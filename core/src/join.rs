//! [`Join`]: waiting for a future or task.

use std::mem;
use std::task::{Context, Poll};

use crate::await_point::{self, Wait, WaitPoll};
use crate::callback::Callback;
use crate::error::{Error, ErrorKind, Result};
use crate::task::{Kept, PollWaker, RawFuture, TaskOr, home};

/// The await point of whoever waits for a future or task.
///
/// Nearly every one is in its task's memory while it waits, and then the task tells all there is to know: this is one word, as every
/// handle has it and takes it along.
#[derive(Debug)]
pub(crate) struct Join {
    wait: TaskOr<Wait>,
}

impl Join {
    pub(crate) const fn new() -> Self {
        Join { wait: TaskOr::nothing() }
    }

    /// Whether nobody waits, and nothing is known of whoever did.
    #[inline(always)]
    pub(crate) fn is_fresh(&self) -> bool {
        self.wait.is_nothing()
    }

    /// Ready when the future is done, or with what the await returns instead of its result.
    #[inline(always)]
    pub(crate) fn poll(&mut self, raw: &RawFuture, cx: &Context<'_>) -> Poll<Result<()>> {
        if raw.is_done() && (self.is_fresh() || await_point::end_with(&mut self.wait, raw)) {
            return Poll::Ready(Ok(()));
        }
        self.suspend(raw, PollWaker::of(cx))
    }

    /// The await has to wait: as nearly all do, or as [`wait_for`](Self::wait_for) knows.
    #[inline(never)]
    fn suspend(&mut self, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
        if await_point::register_on_future(&mut self.wait, waker, raw) {
            Poll::Pending
        } else {
            self.wait_for(raw, waker)
        }
    }

    #[inline(never)]
    fn wait_for(&mut self, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
        wait_with(&mut self.unpack().wait, raw, waker)
    }

    /// The await point as any other has it.
    fn unpack(&mut self) -> Unpacked<'_> {
        let (wait, room) = match self.wait.take() {
            None => (Wait::new(), None),
            Some(Kept::Task(task)) => (Wait::inside(task), None),
            Some(Kept::Other(mut room)) => (mem::take(&mut *room), Some(room)),
        };
        Unpacked { join: self, wait, room }
    }

    /// Withdraws the await point, if there is one.
    #[inline]
    pub(crate) fn detach(&mut self, raw: &RawFuture) {
        if !self.is_fresh() {
            self.leave(raw);
        }
    }

    #[cold]
    fn leave(&mut self, raw: &RawFuture) {
        let wait = mem::take(&mut self.unpack().wait);
        if let Some(token) = wait.token() {
            raw.remove_wake(&token);
        }
    }
}

/// The await point of a [`Join`], which goes back there when this is dropped: also if a foreign waker panics meanwhile.
struct Unpacked<'a> {
    join: &'a mut Join,
    wait: Wait,
    /// The box that it was in.
    room: Option<Box<Wait>>,
}

impl Drop for Unpacked<'_> {
    fn drop(&mut self) {
        self.join.wait = match mem::take(&mut self.wait).into_inside() {
            Ok(task) => TaskOr::task(task),
            Err(wait) if wait.is_fresh() => TaskOr::nothing(),
            Err(wait) => {
                let mut room = self.room.take().unwrap_or_default();
                *room = wait;
                TaskOr::other(room)
            }
        };
    }
}

fn wait_with(wait: &mut Wait, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
    if wait.is_registered() {
        match wait.poll_with(waker) {
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
    start(wait, raw, waker)
}

fn start(wait: &mut Wait, raw: &RawFuture, waker: PollWaker<'_>) -> Poll<Result<()>> {
    let misused = misuse(raw).is_some();
    match wait.register_on(waker, (!misused).then_some(raw)) {
        Err(error) => return Poll::Ready(Err(error)),
        // As in asyncio the error comes one turn later.
        Ok(token) if misused => {
            token.fire();
        }
        Ok(token) => raw.add_callback(Callback::wake(token)),
    }
    Poll::Pending
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
