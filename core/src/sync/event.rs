//! [`Event`]: a flag to wait for.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;

use crate::awaited::Awaited;
use crate::error::Result;
use crate::sync::waiters::{LoopBound, Waiter, Waiters};

/// A flag that tasks wait for: asyncio's `Event`.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use std::rc::Rc;
///
/// use aioli_core::{Event, create_task, sleep};
///
/// let ready = Rc::new(Event::new());
/// let waiting = create_task({
///     let ready = Rc::clone(&ready);
///     async move { ready.wait().await }
/// });
/// sleep(1.0).await?;
/// assert!(!waiting.done());
/// ready.set();
/// waiting.await?;
/// # Ok(())
/// # }).unwrap();
/// ```
pub struct Event {
    set: Cell<bool>,
    waiters: Waiters,
    bound: LoopBound,
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Self {
        Event {
            set: Cell::new(false),
            waiters: Waiters::new(Awaited::Event),
            bound: LoopBound::new(&"this event is bound to a different event loop"),
        }
    }

    /// Whether it is set: asyncio's `Event.is_set`.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Sets it and wakes all who wait, in the order in which they came: asyncio's `Event.set`. They go on even if it is cleared
    /// before they run.
    #[inline]
    pub fn set(&self) {
        if !self.set.replace(true) {
            self.waiters.call_all();
        }
    }

    /// Clears it: who comes from now on waits. asyncio's `Event.clear`.
    #[inline]
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Waits until it is set; returns at once if it is. asyncio's `Event.wait`.
    ///
    /// # Errors
    /// Cancelled, also if the event was set in the same turn; `Runtime` if it would have to wait outside of a task, or the event
    /// belongs to a different loop.
    #[inline]
    pub async fn wait(&self) -> Result<()> {
        if self.set.get() { Ok(()) } else { self.wait_in_line().await }
    }

    async fn wait_in_line(&self) -> Result<()> {
        let mut waiter = Waiter::new(&self.waiters, &self.bound);
        poll_fn(|cx| waiter.poll(cx, || ())).await
    }
}

impl Default for Event {
    fn default() -> Self {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.set.get()).field("waiters", &self.waiters).finish()
    }
}
