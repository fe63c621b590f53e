//! [`Waiters`]: the line of those who wait at a primitive, and [`Waiter`]: one of them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Poll};

use slab::Slab;

use crate::await_point::{Token, Wait, WaitPoll};
use crate::error::{Error, ErrorKind, Result};
use crate::task::home;

/// No seat.
const NONE: usize = usize::MAX;
/// A line that once grew beyond this many seats gives their memory back when all have left.
const KEPT_SEATS: usize = 1024;

/// A line, first come first served. Joining and leaving take constant time and, once the line has grown, no memory.
///
/// A waiter has its seat until it leaves, also after it was called or passed over. Whoever is called is no longer in the line.
/// Waiters that a request has cancelled stay in line until their task runs, as in asyncio. Those whose await point is gone (their
/// task ended, or they were leaked) are passed over.
#[derive(Default)]
pub(crate) struct Waiters {
    seats: RefCell<Seats>,
}

struct Seats {
    slab: Slab<Seat>,
    first: usize,
    last: usize,
    in_line: usize,
    called: usize,
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

impl Default for Seats {
    fn default() -> Self {
        Seats { slab: Slab::new(), first: NONE, last: NONE, in_line: 0, called: 0 }
    }
}

impl Seats {
    fn link(&mut self, seat: usize) {
        self.in_line += 1;
        let last = std::mem::replace(&mut self.last, seat);
        let entry = &mut self.slab[seat];
        (entry.before, entry.behind, entry.standing) = (last, NONE, Standing::InLine);
        match last {
            NONE => self.first = seat,
            last => self.slab[last].behind = seat,
        }
    }

    fn unlink(&mut self, seat: usize, standing: Standing) {
        self.in_line -= 1;
        let entry = &mut self.slab[seat];
        entry.standing = standing;
        let (before, behind) = (entry.before, entry.behind);
        match before {
            NONE => self.first = behind,
            before => self.slab[before].behind = behind,
        }
        match behind {
            NONE => self.last = before,
            behind => self.slab[behind].before = before,
        }
        if standing == Standing::Called {
            self.called += 1;
        }
    }

    /// Takes one out of the line, to be called.
    fn call(&mut self, seat: usize) -> Token {
        self.unlink(seat, Standing::Called);
        self.slab[seat].token.clone()
    }
}

impl Waiters {
    /// How many have joined and not left.
    pub(crate) fn len(&self) -> usize {
        self.seats.borrow().slab.len()
    }

    /// Whether anyone has been called and has not left yet, or waits to be called.
    #[inline]
    pub(crate) fn has_claims(&self) -> bool {
        let seats = self.seats.borrow();
        if seats.called > 0 {
            return true;
        }
        let mut at = seats.first;
        while at != NONE {
            let seat = &seats.slab[at];
            if !seat.token.is_cancelled() {
                return true;
            }
            at = seat.behind;
        }
        false
    }

    /// Calls the first in line, unless somebody called has not left yet. One that is cancelled is not passed over: it is to see to
    /// it when it leaves.
    pub(crate) fn call_first(&self) {
        let token = {
            let mut seats = self.seats.borrow_mut();
            while seats.first != NONE && seats.slab[seats.first].token.is_gone() {
                let gone = seats.first;
                seats.unlink(gone, Standing::PassedOver);
            }
            let first = seats.first;
            if first == NONE || seats.called > 0 || !seats.slab[first].token.is_pending() {
                return;
            }
            seats.call(first)
        };
        token.fire();
    }

    /// Calls the first in line who is not cancelled. Returns whether there is one.
    pub(crate) fn call_next(&self) -> bool {
        let token = {
            let mut seats = self.seats.borrow_mut();
            loop {
                let first = seats.first;
                if first == NONE {
                    return false;
                }
                if seats.slab[first].token.is_pending() {
                    break seats.call(first);
                }
                seats.unlink(first, Standing::PassedOver);
            }
        };
        token.fire()
    }

    /// Calls up to `count` of those who are in line now. Wakers of other crates may bring new ones into it meanwhile.
    pub(crate) fn call(&self, count: usize) {
        let present = self.seats.borrow().in_line;
        for _ in 0..count.min(present) {
            if !self.call_next() {
                break;
            }
        }
    }

    /// Calls everyone who is in line now.
    pub(crate) fn call_all(&self) {
        let present = self.seats.borrow().in_line;
        for _ in 0..present {
            let token = {
                let mut seats = self.seats.borrow_mut();
                match seats.first {
                    NONE => break,
                    first => seats.call(first),
                }
            };
            token.fire();
        }
    }

    fn join(&self, token: Token) -> usize {
        let mut seats = self.seats.borrow_mut();
        let seat = seats.slab.insert(Seat { token, standing: Standing::InLine, before: NONE, behind: NONE });
        seats.link(seat);
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
                seats.link(seat);
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
                Standing::InLine => seats.unlink(seat, Standing::PassedOver),
                Standing::Called => seats.called -= 1,
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
        let token = self.wait.register(cx)?;
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
    fn drop(&mut self) {
        self.leave();
    }
}
