//! [`Waiters`]: tasks that wait for the same event.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use aioli_core::{Awaited, Report, Result, Token, Wait, WaitPoll, get_running_loop};
use smallvec::SmallVec;

/// Tasks that wait for an event, in the order in which they came.
#[derive(Default)]
pub(crate) struct Waiters {
    tokens: RefCell<SmallVec<[Token; 1]>>,
}

impl Waiters {
    /// The event has happened: every task that waits goes on in the next turn.
    pub(crate) fn wake_all(&self) {
        let tokens = std::mem::take(&mut *self.tokens.borrow_mut());
        for token in tokens {
            token.fire();
        }
    }

    /// Waits for the next event.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        Waiting { waiters: self, wait: Wait::new(), token: None }
    }

    /// Forgets one who does not wait any more.
    fn forget(&self, token: &Token) {
        let mut tokens = self.tokens.borrow_mut();
        let gone = tokens.iter().position(|known| known == token).map(|n| tokens.remove(n));
        drop(tokens);
        // A token may be the last that holds its task, with a result of the user's.
        drop(gone);
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiters").field(&self.tokens.borrow().len()).finish()
    }
}

/// Wakes a waker, which may be anybody's: a panic of it stops nothing.
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err()
        && let Ok(event_loop) = get_running_loop()
    {
        event_loop.call_exception_handler(Report::new("a waker panicked"));
    }
}

/// The await of an event.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    wait: Wait,
    /// The one that is among the waiters', unless the event has happened.
    token: Option<Token>,
}

impl Waiting<'_> {
    fn leave(&mut self) {
        if let Some(token) = self.token.take() {
            self.waiters.forget(&token);
        }
    }
}

impl Future for Waiting<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.wait.is_registered() {
            match this.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Fired => {
                    this.token = None;
                    return Poll::Ready(Ok(()));
                }
                WaitPoll::Cancelled(error) => {
                    this.leave();
                    return Poll::Ready(Err(error));
                }
                WaitPoll::Moved(_) => this.leave(),
            }
        }
        let token = this.wait.register_for(cx, Awaited::Connection)?;
        this.waiters.tokens.borrow_mut().push(token.clone());
        this.token = Some(token);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.wait.is_registered() {
            self.wait.release();
            self.leave();
        }
    }
}
