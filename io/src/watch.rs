//! [`Watch`]: calls a callback for as long as a descriptor is ready.

use std::cell::Cell;
use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::rc::{Rc, Weak};

use aioli_core::driver::OpId;
use aioli_core::op::{Interest, Op, Outcome};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Context, Error, Loop, Report, Result};

use crate::descriptors::forget;
use crate::handle::{explained, unexpected};

/// A poll has ended.
const POLLED: u32 = 0;
/// The descriptor was ready still when the callback had been called.
const STILL_READY: u32 = 1;

/// Which calls on a descriptor would not block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Side {
    Reading,
    Writing,
}

/// Calls a callback in every turn in which a descriptor is ready, until it is stopped or the loop closes.
///
/// Polls are one-shot, and each tests the level: after a call the next is submitted. If that finds the descriptor ready still, the
/// callback is called in the next turn, unless somebody else has read or written everything meanwhile.
pub(crate) struct Watch {
    this: Weak<Watch>,
    event_loop: Loop,
    fd: RawFd,
    side: Side,
    /// Away while it is called; for good when the watch has ended.
    callback: Cell<Option<Box<dyn FnMut()>>>,
    context: Context,
    location: &'static Location<'static>,
    in_flight: Cell<Option<OpId>>,
    ended: Cell<bool>,
}

impl Watch {
    /// Begins to watch a descriptor. The callback is not called before the next turn.
    ///
    /// # Errors
    /// `Runtime` if the loop is closed; `Io` if the descriptor is not open, and on a backend without descriptors.
    pub(crate) fn start(
        event_loop: &Loop,
        fd: RawFd,
        side: Side,
        location: &'static Location<'static>,
        callback: Box<dyn FnMut()>,
    ) -> Result<Rc<Self>> {
        let watch = Rc::new_cyclic(|this| Watch {
            this: this.clone(),
            event_loop: event_loop.clone(),
            fd,
            side,
            callback: Cell::new(Some(callback)),
            context: Context::copy_current(),
            location,
            in_flight: Cell::new(None),
            ended: Cell::new(false),
        });
        watch.arm()?;
        Ok(watch)
    }

    pub(crate) fn event_loop(&self) -> &Loop {
        &self.event_loop
    }

    pub(crate) fn place(&self) -> (RawFd, Side) {
        (self.fd, self.side)
    }

    /// Calls the callback no more. Returns whether it would have been.
    pub(crate) fn stop(&self) -> bool {
        if self.ended.replace(true) {
            return false;
        }
        if let Some(id) = self.in_flight.take() {
            self.event_loop.cancel_op(id);
        }
        drop(self.callback.take());
        true
    }

    /// Whether the descriptor is ready now; if not, its owner is told when it is.
    fn poll(&self) -> Result<bool> {
        let Some(this) = self.this.upgrade() else { return Ok(false) };
        let owner: Rc<dyn Owner> = this;
        let interest = Interest { readable: self.side == Side::Reading, writable: self.side == Side::Writing };
        match self.event_loop.submit(Op::PollFd { fd: self.fd, interest }, &owner, POLLED)? {
            Submitted::InFlight(id) => {
                self.in_flight.set(Some(id));
                Ok(false)
            }
            Submitted::Done(Outcome::Ready(found)) => {
                found.map_err(|error| explained(error, "descriptors"))?;
                Ok(true)
            }
            Submitted::Done(other) => Err(unexpected(&other)),
        }
    }

    /// Sees to it that the callback is called when the descriptor is ready, but not before the next turn.
    fn arm(&self) -> Result<()> {
        if self.poll()?
            && let Some(this) = self.this.upgrade()
        {
            let owner: Rc<dyn Owner> = this;
            let interest = Interest { readable: self.side == Side::Reading, writable: self.side == Side::Writing };
            self.event_loop.post(&owner, STILL_READY, Outcome::Ready(Ok(interest)));
        }
        Ok(())
    }

    fn call(&self) {
        let Some(mut callback) = self.callback.take() else { return };
        self.event_loop.call_in(&self.context, self.location, &mut callback);
        if !self.ended.get() {
            self.callback.set(Some(callback));
        }
    }

    /// The descriptor cannot be watched any more.
    fn fail(&self, error: Error) {
        forget(self);
        self.stop();
        if !self.event_loop.is_closed() {
            let message = format!("file descriptor {} cannot be watched any more", self.fd);
            self.event_loop.call_exception_handler(Report::new(message).with_error(error));
        }
    }
}

impl Owner for Watch {
    fn complete(&self, tag: u32, outcome: Outcome, _: bool) {
        self.in_flight.set(None);
        if self.ended.get() {
            return;
        }
        let ready = match outcome {
            // The loop closes.
            _ if self.event_loop.is_closed() => Err(Error::runtime("the event loop is closed")),
            Outcome::Ready(Ok(_)) if tag == STILL_READY => self.poll(),
            Outcome::Ready(Ok(_)) => Ok(true),
            Outcome::Ready(Err(error)) => Err(error.into()),
            other => Err(unexpected(&other)),
        };
        let armed = match ready {
            Ok(false) => return,
            Ok(true) => {
                self.call();
                if self.ended.get() { Ok(()) } else { self.arm() }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = armed {
            self.fail(error);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("fd", &self.fd).field("side", &self.side).finish_non_exhaustive()
    }
}
