//! [`Waiters`]: the line of those who wait at a primitive, and [`Waiter`]: one of them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Poll};

use slab::Slab;

use crate::await_point::{Token, Wait, WaitPoll};
use crate::awaited::Awaited;
use crate::error::{Error, ErrorKind, Result};
use crate::task::home;

/// No seat.
const NONE: usize = usize::MAX;
/// A line that once grew beyond this many seats gives their memory back when all have left.
const KEPT_SEATS: usize = 1024;

/// A line, first come first served. Joining and leaving take constant time and, once the line has grown, no memory.
///
/// A waiter has its seat until it leaves, also after it was called or passed over. Whoever is called is no longer in the line.
/// Waiters that are cancelled leave when their task runs, as in asyncio. Those whose await point is gone (their task ended and they
/// were leaked, or will be polled by another task) are passed over.
pub(crate) struct Waiters {
    awaited: Awaited,
    in_line: Cell<usize>,
    /// How many have been called and not left yet.
    called: Cell<usize>,
    seats: RefCell<Seats>,
}

struct Seats {
    slab: Slab<Seat>,
    first: usize,
    last: usize,
}

struct Seat {
    token: Token,
    standing: Standing,
    before: usize,
    behind: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    InLine,
    Called,
    PassedOver,
}

impl Waiters {
    /// `awaited` is what they wait for.
    pub(crate) const fn new(awaited: Awaited) -> Self {
        let seats = Seats { slab: Slab::new(), first: NONE, last: NONE };
        Waiters { awaited, in_line: Cell::new(0), called: Cell::new(0), seats: RefCell::new(seats) }
    }

    /// How many have joined and not left.
    pub(crate) fn len(&self) -> usize {
        self.seats.borrow().slab.len()
    }

    /// Whether anyone has been called and has not left yet, or waits to be called.
    #[inline]
    pub(crate) fn has_claims(&self) -> bool {
        self.called.get() > 0 || self.in_line.get() > 0 && self.seats.borrow().is_any_live()
    }

    /// Calls the first in line, unless somebody called has not left yet. One that is cancelled is not passed over: it is to see to
    /// it when it leaves.
    #[inline]
    pub(crate) fn call_first(&self) {
        if self.in_line.get() > 0 && self.called.get() == 0 {
            self.call_first_in_line();
        }
    }

    fn call_first_in_line(&self) {
        let token = {
            let mut seats = self.seats.borrow_mut();
            while seats.first != NONE && seats.slab[seats.first].token.is_gone() {
                // It will not see to the next one.
                let gone = seats.first;
                self.unlink(&mut seats, gone, Standing::PassedOver);
            }
            let first = seats.first;
            if first == NONE || !seats.slab[first].token.is_pending() {
                return;
            }
            self.take_for_call(&mut seats, first)
        };
        token.fire();
    }

    /// Calls the first in line who is not cancelled. Returns whether there is one.
    #[inline]
    pub(crate) fn call_next(&self) -> bool {
        self.in_line.get() > 0 && self.call_next_in_line()
    }

    fn call_next_in_line(&self) -> bool {
        let token = {
            let mut seats = self.seats.borrow_mut();
            loop {
                let first = seats.first;
                if first == NONE {
                    return false;
                }
                if seats.slab[first].token.is_pending() {
                    break self.take_for_call(&mut seats, first);
                }
                self.unlink(&mut seats, first, Standing::PassedOver);
            }
        };
        token.fire()
    }

    /// Calls up to `count` of those who are in line now. Wakers of other crates may bring new ones into it meanwhile.
    pub(crate) fn call(&self, count: usize) {
        for _ in 0..count.min(self.in_line.get()) {
            if !self.call_next() {
                break;
            }
        }
    }

    /// Calls everyone who is in line now, also those who are cancelled.
    pub(crate) fn call_all(&self) {
        for _ in 0..self.in_line.get() {
            let token = {
                let mut seats = self.seats.borrow_mut();
                match seats.first {
                    NONE => break,
                    first => self.take_for_call(&mut seats, first),
                }
            };
            token.fire();
        }
    }

    fn take_for_call(&self, seats: &mut Seats, seat: usize) -> Token {
        self.unlink(seats, seat, Standing::Called);
        self.called.set(self.called.get() + 1);
        seats.slab[seat].token.clone()
    }

    fn link(&self, seats: &mut Seats, seat: usize) {
        self.in_line.set(self.in_line.get() + 1);
        let last = std::mem::replace(&mut seats.last, seat);
        let entry = &mut seats.slab[seat];
        (entry.before, entry.behind, entry.standing) = (last, NONE, Standing::InLine);
        match last {
            NONE => seats.first = seat,
            last => seats.slab[last].behind = seat,
        }
    }

    fn unlink(&self, seats: &mut Seats, seat: usize, standing: Standing) {
        self.in_line.set(self.in_line.get() - 1);
        let entry = &mut seats.slab[seat];
        entry.standing = standing;
        let (before, behind) = (entry.before, entry.behind);
        match before {
            NONE => seats.first = behind,
            before => seats.slab[before].behind = behind,
        }
        match behind {
            NONE => seats.last = before,
            behind => seats.slab[behind].before = before,
        }
    }

    fn join(&self, token: Token) -> usize {
        let mut seats = self.seats.borrow_mut();
        let seat = seats.slab.insert(Seat { token, standing: Standing::InLine, before: NONE, behind: NONE });
        self.link(&mut seats, seat);
        seat
    }

    fn is_called(&self, seat: usize) -> bool {
        self.seats.borrow().slab[seat].standing == Standing::Called
    }

    /// Another task waits in this seat now. Its place in the line is kept, unless it was passed over.
    fn rejoin(&self, seat: usize, token: Token) {
        let old = {
            let mut seats = self.seats.borrow_mut();
            if seats.slab[seat].standing == Standing::PassedOver {
                self.link(&mut seats, seat);
            }
            std::mem::replace(&mut seats.slab[seat].token, token)
        };
        drop(old);
    }

    /// Gives the seat up. Returns whether it was called.
    fn leave(&self, seat: usize) -> bool {
        let (left, idle) = {
            let mut seats = self.seats.borrow_mut();
            match seats.slab[seat].standing {
                Standing::InLine => self.unlink(&mut seats, seat, Standing::PassedOver),
                Standing::Called => self.called.set(self.called.get() - 1),
                Standing::PassedOver => (),
            }
            let left = seats.slab.remove(seat);
            let idle = seats.slab.is_empty() && seats.slab.capacity() > KEPT_SEATS;
            (left, idle.then(|| std::mem::take(&mut seats.slab)))
        };
        drop(idle);
        left.standing == Standing::Called
    }
}

impl Seats {
    /// Whether anyone in line is not cancelled.
    fn is_any_live(&self) -> bool {
        let mut at = self.first;
        while at != NONE {
            let seat = &self.slab[at];
            if !seat.token.is_cancelled() {
                return true;
            }
            at = seat.behind;
        }
        false
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.len())
    }
}

/// The loop that a primitive belongs to: the first one that a task of has waited at it.
pub(crate) struct LoopBound {
    home: Cell<u64>,
    refusal: &'static &'static str,
}

impl LoopBound {
    /// Belongs to no loop yet; `refusal` is the error's text in any other than the one to come.
    pub(crate) const fn new(refusal: &'static &'static str) -> Self {
        LoopBound { home: Cell::new(0), refusal }
    }

    fn check(&self) -> Result<()> {
        match (self.home.get(), home::home()) {
            (bound, here) if bound == 0 || here == 0 || bound == here => Ok(()),
            _ => Err(Error::fixed(ErrorKind::Runtime, self.refusal)),
        }
    }
}

/// One who waits in a line, from its first poll until [`leave`](Self::leave). What it was called for is the owner's to pass on.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    bound: &'a LoopBound,
    seat: Option<usize>,
    wait: Wait,
}

impl<'a> Waiter<'a> {
    pub(crate) const fn new(waiters: &'a Waiters, bound: &'a LoopBound) -> Self {
        Waiter { waiters, bound, seat: None, wait: Wait::new() }
    }

    /// Whether it has joined and not left.
    pub(crate) fn has_joined(&self) -> bool {
        self.seat.is_some()
    }

    /// Joins the line. Ready when called, or with what the await returns instead; the seat is kept. `missed` is called where a call
    /// may have been missed, because the waiter has moved from one task to another.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &Context<'_>, missed: impl FnOnce()) -> Poll<Result<()>> {
        let Some(seat) = self.seat else {
            let token = self.register(cx)?;
            self.seat = Some(self.waiters.join(token));
            return Poll::Pending;
        };
        match self.wait.poll(cx) {
            WaitPoll::Pending => Poll::Pending,
            WaitPoll::Fired => Poll::Ready(Ok(())),
            WaitPoll::Cancelled(error) => Poll::Ready(Err(error)),
            WaitPoll::Moved(_) if self.waiters.is_called(seat) => Poll::Ready(Ok(())),
            WaitPoll::Moved(_) => {
                let token = self.register(cx)?;
                self.waiters.rejoin(seat, token);
                missed();
                Poll::Pending
            }
        }
    }

    fn register(&mut self, cx: &Context<'_>) -> Result<Token> {
        self.bound.check()?;
        let token = self.wait.register_for(cx, self.waiters.awaited)?;
        self.bound.home.set(home::home());
        Ok(token)
    }

    /// Gives the seat up, if there is one, and tells whether it was called.
    #[inline]
    pub(crate) fn leave(&mut self) -> Option<bool> {
        let seat = self.seat.take()?;
        self.wait.release();
        Some(self.waiters.leave(seat))
    }
}

impl Drop for Waiter<'_> {
    #[inline]
    fn drop(&mut self) {
        self.leave();
    }
}
