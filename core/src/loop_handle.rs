//! [`Loop`]: the running loop, for the code that runs on it.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::callback::{Call, Handle, TimerHandle};
use crate::context;
use crate::delay::IntoDelay;
use crate::driver::DriverReport;
use crate::error::{Error, ErrorKind, Result};
use crate::future::{self, Future};
use crate::remote::RemoteLoop;
use crate::report::Report;
use crate::shared::Arc;
use crate::task::ready::Ready;
use crate::task::{LoopRef, home};
use crate::tasks::{Task, TaskBuilder};
use crate::time::Instant;
use crate::timer::TimerTarget;

/// A loop: asyncio's event loop object. Clones are handles to the same loop, and may outlive it.
///
/// Code inside of a coroutine rarely needs it: [`create_task`](crate::create_task), [`sleep`](crate::sleep) and the like find the
/// running loop themselves. It is for callbacks, futures, the clock, and the way to it from other threads
/// ([`remote`](Self::remote)).
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::get_running_loop;
/// use std::{cell::RefCell, rc::Rc, time::Duration};
///
/// let running = get_running_loop()?;
/// let log = Rc::new(RefCell::new(Vec::new()));
/// let note = |text: &'static str| {
///     let log = Rc::clone(&log);
///     move || log.borrow_mut().push(text)
/// };
/// running.call_later(Duration::from_secs(1), note("a second later"))?;
/// running.call_soon(note("first"))?;
/// running.call_soon(note("second"))?;
/// aioli_core::sleep(Duration::from_secs(2)).await?;
/// assert_eq!(*log.borrow(), ["first", "second", "a second later"]);
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Loop {
    core: LoopRef,
}

/// The loop that runs on this thread: asyncio's `get_running_loop`.
///
/// # Errors
/// `Runtime` if none runs.
///
/// ```
/// use aioli_core::{ErrorKind, get_running_loop, sleep};
/// use std::time::Duration;
///
/// aioli_exec_sim::run(async {
///     let begin = get_running_loop()?.time();
///     sleep(Duration::from_secs(3)).await?;
///     assert_eq!(get_running_loop()?.time() - begin, Duration::from_secs(3));
///     Ok(())
/// }).unwrap();
/// assert_eq!(get_running_loop().unwrap_err().kind(), ErrorKind::Runtime);
/// ```
pub fn get_running_loop() -> Result<Loop> {
    home::current()
        .map(Loop::from_core)
        .ok_or_else(|| Error::fixed(ErrorKind::Runtime, &"no running event loop: this is called inside of `run`"))
}

impl Loop {
    pub(crate) fn from_core(core: LoopRef) -> Self {
        Loop { core }
    }

    pub(crate) fn core(&self) -> &LoopRef {
        &self.core
    }

    /// Has `callback` called in the next turn, after what was scheduled before: asyncio's `loop.call_soon`. It runs in the context
    /// that holds now. If it panics, that is reported to the loop's exception handler. From other threads:
    /// [`RemoteLoop::call_soon_threadsafe`].
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

    /// Has `callback` called after a delay, a `Duration` or a number of seconds: asyncio's `loop.call_later`. Zero and less is the
    /// next turn.
    ///
    /// # Errors
    /// `Value` if the delay is not finite; `Runtime` if the loop is closed.
    #[track_caller]
    pub fn call_later(&self, delay: impl IntoDelay, callback: impl FnOnce() + 'static) -> Result<TimerHandle> {
        let when = self.core.now() + delay.into_delay().duration()?;
        self.call_at(when, callback)
    }

    /// Has `callback` called at a point on the loop's clock: asyncio's `loop.call_at`. One in the past is the next turn.
    ///
    /// # Errors
    /// `Runtime` if the loop is closed.
    #[track_caller]
    pub fn call_at(&self, when: Instant, callback: impl FnOnce() + 'static) -> Result<TimerHandle> {
        self.open()?;
        let call = Call::new(&self.core, context::current(), Location::caller(), move |_| callback());
        let target = TimerTarget::Call(Rc::clone(&call));
        let key = self.core.start_at(when, target);
        call.set_timer(key);
        Ok(TimerHandle::new(call, when, &self.core))
    }

    /// A future of this loop, for somebody to set: asyncio's `loop.create_future`.
    pub fn create_future<T: 'static>(&self) -> Future<T> {
        future::pending(&self.core)
    }

    /// Creates a task on this loop, which need not run yet: asyncio's `loop.create_task`. If the loop is closed, the task has
    /// failed already, with `Runtime`.
    ///
    /// ```
    /// use aioli_core::Runner;
    ///
    /// let runner = Runner::new(aioli_exec_sim::SimDriver::new());
    /// let early = runner.get_loop().create_task(async { Ok(7) });
    /// assert_eq!(runner.run(early).unwrap(), 7);
    /// ```
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

    /// The loop's clock: asyncio's `loop.time`. It is the driver's, and may be virtual; it never goes back.
    pub fn time(&self) -> Instant {
        self.core.now()
    }

    /// How late the loop may make timers where they are dense; see [`set_timer_slack`](Self::set_timer_slack).
    pub fn timer_slack(&self) -> Duration {
        self.core.timers.slack.most()
    }

    /// Sets how late the loop may make timers where they are dense: 500 µs unless told otherwise, zero for never.
    ///
    /// No timer fires early, and where there are few, each fires when it is due. But where hundreds are armed, more than one in 10 µs has
    /// been due, and nothing else is to be done, the loop lets the next ones gather for this time instead of waking for each of them, which
    /// takes half of the processor's time. They fire in the order of their deadlines all the same. On a virtual clock it has no effect.
    ///
    /// asyncio has no counterpart; on epoll it makes every timer up to a millisecond late.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use std::time::Duration;
    ///
    /// aioli_core::get_running_loop()?.set_timer_slack(Duration::ZERO);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn set_timer_slack(&self, most: Duration) {
        self.core.timers.slack.set_most(most);
    }

    /// The number of the turn that runs: how often the loop has taken handles from its queue and run them. asyncio has no
    /// counterpart; it is for tests that are to show how many turns something takes.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{get_running_loop, sleep};
    ///
    /// let begin = get_running_loop()?.turn();
    /// sleep(0.0).await?; // a bare yield
    /// assert_eq!(get_running_loop()?.turn(), begin + 1);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn turn(&self) -> u64 {
        self.core.turn()
    }

    /// Ends [`Runner::run_forever`](crate::Runner::run_forever) after the current turn: asyncio's `loop.stop`. A
    /// [`run`](crate::Runner::run) ends too, with a `Runtime` error, unless its coroutine is done.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Whether the loop runs: asyncio's `loop.is_running`.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// Whether the loop is closed: asyncio's `loop.is_closed`.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// The loop as other threads see it. See [`RemoteLoop`].
    pub fn remote(&self) -> RemoteLoop {
        RemoteLoop::new(Arc::clone(&self.core.shared))
    }

    /// Has reports of unhandled errors given to `handler` instead of printed to stderr; `None` prints them again. asyncio's
    /// `loop.set_exception_handler`. A handler that panics is reported on stderr. See [`Report`].
    #[allow(clippy::type_complexity)]
    pub fn set_exception_handler(&self, handler: Option<Box<dyn Fn(&Report)>>) {
        self.core.set_handler(handler.map(Rc::from));
    }

    /// Reports something that went wrong to the loop's exception handler: asyncio's `loop.call_exception_handler`.
    pub fn call_exception_handler(&self, report: Report) {
        self.core.report(report);
    }

    /// The backend that drives this loop, and what its probe found; `None` once the loop is closed.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// let report = aioli_core::get_running_loop()?.report().unwrap();
    /// assert_eq!(report.name, "sim");
    /// println!("{report}"); // the name, and a line for each capability
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn report(&self) -> Option<DriverReport> {
        self.core.with_driver(|driver| driver.report())
    }

    /// Whether both are handles to the same loop.
    pub fn same(&self, other: &Loop) -> bool {
        self.core.same(&other.core)
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
