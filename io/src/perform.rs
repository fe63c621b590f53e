//! [`perform`]: the await of a single operation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use aioli_core::driver::OpId;
use aioli_core::op::{Op, Outcome};
use aioli_core::ops::{Owner, Submitted};
use aioli_core::{Loop, Result, Wait};

use crate::arrival::Arrival;
use crate::handle::Handle;
use crate::home::check_home;

/// Submits an operation and waits for what comes of it. If the await is cancelled or dropped, so is the operation, and its outcome is
/// ignored; what it opened is closed.
pub(crate) async fn perform(event_loop: &Loop, op: Op) -> Result<Outcome> {
    check_home(event_loop)?;
    let slot = Rc::new(Slot { event_loop: event_loop.clone(), arrival: Arrival::default() });
    let owner: Rc<dyn Owner> = Rc::<Slot>::clone(&slot);
    match event_loop.submit(op, &owner, 0)? {
        Submitted::Done(outcome) => Ok(outcome),
        Submitted::InFlight(id) => Performing { event_loop, slot, id, wait: Wait::new() }.await,
    }
}

/// Where the outcome arrives.
struct Slot {
    event_loop: Loop,
    arrival: Arrival,
}

impl Owner for Slot {
    fn complete(&self, _: u32, outcome: Outcome, _: bool) {
        self.arrival.set(outcome);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(Outcome::Opened(Ok(resource))) = self.arrival.take() {
            drop(Handle::adopt(&self.event_loop, resource));
        }
    }
}

struct Performing<'a> {
    event_loop: &'a Loop,
    slot: Rc<Slot>,
    id: OpId,
    wait: Wait,
}

impl Future for Performing<'_> {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        let Performing { slot, wait, .. } = &mut *self;
        slot.arrival.poll(wait, cx)
    }
}

impl Drop for Performing<'_> {
    fn drop(&mut self) {
        // One that is not in flight any more is ignored.
        self.event_loop.cancel_op(self.id);
    }
}

impl fmt::Debug for Performing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Performing").field(&self.id).finish()
    }
}
