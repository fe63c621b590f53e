//! [`Loop`]: the running loop, for the code that runs on it.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::callback::{Call, Handle, TimerHandle};
use crate::context;
use crate::delay::IntoDelay;
use crate::driver::DriverReport;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::LoopCore;
use crate::future::{self, Future};
use crate::remote::RemoteLoop;
use crate::report::Report;
use crate::shared::Arc;
use crate::task::home;
use crate::task::ready::Ready;
use crate::tasks::{Task, TaskBuilder};
use crate::time::Instant;
use crate::timer::TimerTarget;

/// A loop: asyncio's event loop object. Clones are handles to the same loop.
#[derive(Clone)]
pub struct Loop {
    core: Rc<LoopCore>,
}

/// The loop that runs on this thread: asyncio's `get_running_loop`.
///
/// # Errors
/// `Runtime` if none runs.
pub fn get_running_loop() -> Result<Loop> {
    home::current()
        .map(Loop::from_core)
        .ok_or_else(|| Error::fixed(ErrorKind::Runtime, &"no running event loop: this is called inside of `run`"))
}

impl Loop {
    pub(crate) fn from_core(core: Rc<LoopCore>) -> Self {
        Loop { core }
    }

    pub(crate) fn core(&self) -> &Rc<LoopCore> {
        &self.core
    }

    /// Has `callback` called in the next turn, after what was scheduled before. It runs in the context that holds now.
    ///
    /// # Errors
    /// `Runtime` if the loop is closed.
    #[track_caller]
    pub fn call_soon(&self, callback: impl FnOnce() + 'static) -> Result<Handle> {
        self.open()?;
        let call = Call::new(&self.core, context::current(), Location::caller(), move |_| callback());
        self.core.push(Ready::Call(Rc::clone(&call)));
        Ok(Handle::new(call))
    }

    /// Has `callback` called after a delay. Zero and less is the next turn.
    ///
    /// # Errors
    /// `Value` if the delay is not finite; `Runtime` if the loop is closed.
    #[track_caller]
    pub fn call_later(&self, delay: impl IntoDelay, callback: impl FnOnce() + 'static) -> Result<TimerHandle> {
        let when = self.core.now() + delay.into_delay().duration()?;
        self.call_at(when, callback)
    }

    /// Has `callback` called at a point on the loop's clock; one in the past is the next turn.
    ///
    /// # Errors
    /// `Runtime` if the loop is closed.
    #[track_caller]
    pub fn call_at(&self, when: Instant, callback: impl FnOnce() + 'static) -> Result<TimerHandle> {
        self.open()?;
        let call = Call::new(&self.core, context::current(), Location::caller(), move |_| callback());
        let target = TimerTarget::Call(Rc::clone(&call));
        let key = self.core.timers.start_at(when, target, || self.core.now());
        call.set_timer(key);
        Ok(TimerHandle::new(call, when, &self.core))
    }

    /// A future of this loop, for somebody to set.
    pub fn create_future<T: 'static>(&self) -> Future<T> {
        future::pending(&self.core)
    }

    /// Creates a task on this loop, which need not run yet.
    #[track_caller]
    pub fn create_task<F, T>(&self, coroutine: F) -> Task<T>
    where
        F: std::future::Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        let task = TaskBuilder::new().create_on(&self.core, Location::caller(), coroutine);
        if !self.is_current() {
            // What holds here, outside of that loop.
            let none = task.raw_task().head().context.replace(context::current());
            drop(none);
        }
        task
    }

    /// The loop's clock.
    pub fn time(&self) -> Instant {
        self.core.now()
    }

    /// The number of the turn that runs: how often the loop has taken handles from its queue and run them.
    pub fn turn(&self) -> u64 {
        self.core.turn()
    }

    /// Ends [`Runner::run_forever`](crate::Runner::run_forever) after the current turn.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Whether the loop runs.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// Whether the loop is closed.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// The loop as other threads see it.
    pub fn remote(&self) -> RemoteLoop {
        RemoteLoop::new(Arc::clone(&self.core.shared))
    }

    /// Has reports of unhandled errors given to `handler` instead of printed; `None` prints them again.
    #[allow(clippy::type_complexity)]
    pub fn set_exception_handler(&self, handler: Option<Box<dyn Fn(&Report)>>) {
        self.core.set_handler(handler.map(Rc::from));
    }

    /// Reports something that went wrong to the loop's exception handler.
    pub fn call_exception_handler(&self, report: Report) {
        self.core.report(report);
    }

    /// The backend that drives this loop, and what its probe found; `None` once the loop is closed.
    pub fn report(&self) -> Option<DriverReport> {
        self.core.with_driver(|driver| driver.report())
    }

    /// Whether both are handles to the same loop.
    pub fn same(&self, other: &Loop) -> bool {
        Rc::ptr_eq(&self.core, &other.core)
    }

    fn open(&self) -> Result<()> {
        if self.core.is_closed() {
            return Err(Error::fixed(ErrorKind::Runtime, &"the event loop is closed"));
        }
        Ok(())
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}
