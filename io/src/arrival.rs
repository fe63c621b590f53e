//! [`Arrival`]: where the outcome of an operation arrives, and who waits for it.

use std::cell::Cell;
use std::task::{Context, Poll};

use aioli_core::op::Outcome;
use aioli_core::{Awaited, Result, Token, Wait, WaitPoll};

#[derive(Default)]
pub(crate) struct Arrival {
    outcome: Cell<Option<Outcome>>,
    /// Nobody, if the await was given up.
    token: Cell<Option<Token>>,
}

impl Arrival {
    /// The operation came to this. Returns whether somebody waits for it, who is told.
    pub(crate) fn set(&self, outcome: Outcome) -> bool {
        self.outcome.set(Some(outcome));
        let Some(token) = self.token.take() else { return false };
        token.fire();
        true
    }

    pub(crate) fn take(&self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Whether there is one of this kind.
    pub(crate) fn is(&self, kind: impl FnOnce(&Outcome) -> bool) -> bool {
        let outcome = self.outcome.take();
        let found = outcome.as_ref().is_some_and(kind);
        self.outcome.set(outcome);
        found
    }

    /// Nobody waits any more.
    pub(crate) fn forget_await(&self) {
        drop(self.token.take());
    }

    /// Waits for the outcome, and takes it.
    pub(crate) fn poll(&self, wait: &mut Wait, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        if wait.is_registered() {
            match wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Cancelled(error) => return Poll::Ready(Err(error)),
                WaitPoll::Fired | WaitPoll::Moved(_) => (),
            }
        }
        if let Some(outcome) = self.outcome.take() {
            return Poll::Ready(Ok(outcome));
        }
        let token = wait.register_for(cx, Awaited::Operation)?;
        drop(self.token.replace(Some(token)));
        Poll::Pending
    }
}
