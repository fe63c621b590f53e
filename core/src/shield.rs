//! [`shield`]: protection from the cancellation of whoever waits.

use std::rc::{Rc, Weak};

use crate::awaitable::{Awaitable, Child};
use crate::callback::{Callback, Hook, HookRef};
use crate::cancel;
use crate::error::Error;
use crate::event_loop::LoopCore;
use crate::future::{self, Future};
use crate::report::Report;
use crate::task::header::flag;
use crate::task::{FutureRef, RawFuture, home};

/// A future with the result of `awaitable`, whose cancellation does not reach it: asyncio's `shield`.
///
/// A task that awaits the shield and is cancelled gets Cancelled, while the inner task runs on. If the inner one is cancelled itself,
/// so is the shield. What is done already is returned as it is. If the inner one fails after its shield was cancelled, the loop's
/// exception handler is told at once. Dropping the shield changes nothing for what it protects.
///
/// # Errors
/// The future ends with the error of `awaitable`, or with Cancelled if it was cancelled. Awaiting it gives `Runtime` if `awaitable` is
/// of another loop.
///
/// # Panics
/// Outside of a running loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{create_task, shield, sleep, wait_for};
/// use std::time::Duration;
///
/// let saved = create_task(async {
///     sleep(Duration::from_secs(5)).await?;
///     Ok("saved")
/// });
/// assert!(wait_for(shield(&saved), Duration::from_secs(1)).await.unwrap_err().is_timeout());
/// assert_eq!(saved.await?, "saved");
/// # Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn shield<A: Awaitable>(awaitable: A) -> Future<A::Value> {
    let core = home::current().expect("no running event loop: shield is called inside of `run`");
    let inner = match awaitable.into_child() {
        Ok(inner) => inner,
        Err(error) => {
            let outer = future::pending::<A::Value>(&core);
            outer.raw().finish_error(error, false);
            return outer;
        }
    };
    // It belongs to the loop of what it protects: in another loop its await fails.
    let outer = future::pending::<A::Value>(&inner.raw().shared_core());
    inner.raw().header().clear(flag::QUIET);
    if inner.raw().is_done() {
        return Future::from_ref(inner.cell().clone());
    }
    let on_inner: HookRef = Rc::new(Box::new(InnerDone { inner: inner.clone(), outer: outer.cell().clone() }));
    core.remember(&on_inner);
    inner.raw().add_callback(Callback::Hook(Rc::clone(&on_inner), 0));
    let on_outer: HookRef = Rc::new(Box::new(OuterDone { inner, on_inner: Rc::downgrade(&on_inner) }));
    outer.raw().add_callback(Callback::Hook(on_outer, 0));
    outer
}

/// Copies the result to the shield.
struct InnerDone<T> {
    inner: Child<T>,
    outer: FutureRef<T>,
}

impl<T: 'static> Hook for InnerDone<T> {
    fn run(&self, _: &LoopCore, _: u32) {
        let outer = self.outer.raw();
        if outer.is_done() {
            return;
        }
        if self.inner.raw().is_cancelled() {
            cancel::cancel(outer, None);
            return;
        }
        let read = std::panic::AssertUnwindSafe(|| self.inner.read());
        let result = std::panic::catch_unwind(read).unwrap_or_else(|panic| Err(Error::panicked(panic)));
        match result {
            // Reading may have cloned the value, which is user code: it may have ended the shield.
            _ if outer.is_done() => (),
            Ok(value) => assert!(self.outer.finish_value(value), "it was pending"),
            Err(error) => outer.finish_error(error, false),
        }
    }

    fn children(&self) -> &[RawFuture] {
        std::slice::from_ref(self.inner.raw())
    }
}

/// The shield has ended; if it was cancelled, nobody takes the error of what it protected.
struct OuterDone<T> {
    inner: Child<T>,
    /// Held by the inner one; it holds the shield, so that a counted reference here would be a circle.
    on_inner: Weak<Box<dyn Hook>>,
}

impl<T: 'static> Hook for OuterDone<T> {
    fn run(&self, _: &LoopCore, _: u32) {
        let inner = self.inner.raw();
        if !inner.is_done() {
            if let Some(on_inner) = self.on_inner.upgrade() {
                inner.remove_hook(&on_inner);
            }
            inner.header().set(flag::SHIELDED);
        }
    }
}

/// Reports the error that something ended with whose shield was cancelled. In asyncio 3.14 a callback does it, in a turn of its own.
#[cold]
pub(crate) fn report_lost(inner: &RawFuture) {
    if inner.is_cancelled() {
        return;
    }
    if let Some(error) = inner.retrieve_error() {
        let report = Report::new("exception in shielded future").with_error(error);
        match inner.as_task() {
            Some(task) => inner.core().report_of(task, report),
            None => inner.core().report(report),
        }
    }
}
