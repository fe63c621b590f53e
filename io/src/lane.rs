//! [`Lane`]: the operations of one direction of a socket, one after another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use aioli_core::driver::OpId;
use aioli_core::op::Outcome;
use aioli_core::{Awaited, Loop, Result, Token, Wait, WaitPoll};

use crate::arrival::Arrival;
use crate::fairness::{Fairness, give_way};
use crate::home::check_home;

/// One direction of a socket. Whoever wants to submit an operation takes a [`Turn`] first.
///
/// If the await of an operation is given up while the operation is in flight, the operation is asked to end, and the lane stays taken
/// until it has. What came of it stays in the lane, and whoever has the next turn takes that first: so nothing that the kernel handed
/// out is lost.
#[derive(Default)]
pub(crate) struct Lane {
    taken: Cell<bool>,
    line: RefCell<VecDeque<Token>>,
    in_flight: Cell<Option<OpId>>,
    /// What that operation came to; nobody waits for it if it was given up.
    arrival: Arrival,
    fairness: Fairness,
}

/// The right to use a lane, until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    event_loop: &'a Loop,
}

impl Lane {
    /// Waits until all that came before are done.
    pub(crate) async fn enter<'a>(&'a self, event_loop: &'a Loop) -> Result<Turn<'a>> {
        check_home(event_loop)?;
        if self.fairness.is_spent(event_loop) {
            give_way().await?;
        }
        if self.taken.replace(true) {
            InLine { lane: self, wait: Wait::new(), token: None }.await?;
        }
        Ok(Turn { lane: self, event_loop })
    }

    /// What an operation that was given up came to. It goes to whoever has the lane.
    pub(crate) fn left_behind(&self) -> Option<Outcome> {
        self.arrival.take()
    }

    /// Whether whoever comes next finds something of this kind that was left behind.
    pub(crate) fn has_left_behind(&self, kind: impl FnOnce(&Outcome) -> bool) -> bool {
        !self.taken.get() && self.arrival.is(kind)
    }

    /// The operation in flight came to this.
    pub(crate) fn complete(&self, outcome: Outcome) {
        self.in_flight.set(None);
        if !self.arrival.set(outcome) {
            self.pass_on();
        }
    }

    /// Gives the lane to the next in line.
    fn pass_on(&self) {
        loop {
            let next = self.line.borrow_mut().pop_front();
            match next {
                None => return self.taken.set(false),
                Some(token) if token.fire() => return,
                Some(_) => (),
            }
        }
    }
}

impl Turn<'_> {
    /// Waits for the operation that was submitted.
    pub(crate) async fn outcome(&mut self, id: OpId) -> Result<Outcome> {
        self.lane.in_flight.set(Some(id));
        Landed { lane: self.lane, wait: Wait::new() }.await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        match self.lane.in_flight.get() {
            Some(id) => {
                self.lane.arrival.forget_await();
                self.event_loop.cancel_op(id);
            }
            None => self.lane.pass_on(),
        }
    }
}

/// The await of the operation in flight.
struct Landed<'a> {
    lane: &'a Lane,
    wait: Wait,
}

impl Future for Landed<'_> {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        let Landed { lane, wait } = &mut *self;
        lane.arrival.poll(wait, cx)
    }
}

/// The await of a turn.
struct InLine<'a> {
    lane: &'a Lane,
    wait: Wait,
    token: Option<Token>,
}

impl Future for InLine<'_> {
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
                // Dropping this leaves the line.
                WaitPoll::Cancelled(error) => return Poll::Ready(Err(error)),
                WaitPoll::Moved(_) => {
                    if !this.leave() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
        let token = this.wait.register_for(cx, Awaited::Operation)?;
        this.token = Some(token.clone());
        this.lane.line.borrow_mut().push_back(token);
        Poll::Pending
    }
}

impl InLine<'_> {
    /// Leaves the line. Returns whether it was still in it; otherwise the lane was given to it.
    fn leave(&mut self) -> bool {
        let Some(token) = self.token.take() else { return true };
        self.wait.release();
        let mut line = self.lane.line.borrow_mut();
        let place = line.iter().position(|known| *known == token);
        let known = place.and_then(|place| line.remove(place));
        drop(line);
        known.is_some()
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.leave() {
            self.lane.pass_on();
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("taken", &self.taken.get())
            .field("line", &self.line.borrow().len())
            .field("in_flight", &self.in_flight.get())
            .finish_non_exhaustive()
    }
}
