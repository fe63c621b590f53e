//! [`Runner`]: a loop from its beginning to its end.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::callback::{Callback, Hook, HookRef};
use crate::cancel;
use crate::context::Context;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::event_loop::LoopCore;
use crate::executor;
use crate::loop_handle::Loop;
use crate::report::Report;
use crate::task::{LoopRef, RawFuture, RawTask, home};
use crate::tasks::TaskBuilder;

/// A loop on a driver, which runs main coroutines one after the other and leaves in good order: asyncio's `Runner`.
///
/// Backends wrap it in a function `run` of their own; applications rarely need it.
///
/// ```
/// use aioli_core::{Runner, create_task, sleep};
/// use std::time::Duration;
///
/// let runner = Runner::new(aioli_exec_sim::SimDriver::new());
/// assert_eq!(runner.run(async { Ok(1) }).unwrap(), 1);
/// runner.run(async {
///     create_task(async { sleep(Duration::from_secs(1)).await });
///     Ok(())
/// }).unwrap();
/// runner.close().unwrap();
/// ```
pub struct Runner {
    core: LoopRef,
    executor_timeout: Option<Duration>,
    /// What all main coroutines run in: a copy of what held at the first run.
    context: OnceCell<Context>,
}

/// How long a runner waits for the threads of the default executor, as asyncio does.
const EXECUTOR_TIMEOUT: Duration = Duration::from_secs(300);

impl Runner {
    /// A loop on a driver. It does not run yet.
    pub fn new(driver: impl Driver) -> Self {
        let core = LoopRef::new(LoopCore::new(Box::new(driver)));
        Runner { core, executor_timeout: Some(EXECUTOR_TIMEOUT), context: OnceCell::new() }
    }

    /// How long [`close`](Self::close) waits for the threads of the default executor: 300 seconds unless told otherwise, `None` for
    /// no limit. See [`Loop::shutdown_default_executor`].
    #[must_use]
    pub fn executor_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.executor_timeout = timeout;
        self
    }

    /// The loop, to schedule something before it runs: asyncio's `Runner.get_loop`.
    pub fn get_loop(&self) -> Loop {
        Loop::from_core(self.core.clone())
    }

    /// Runs `main` as a task, and returns its result one turn after it is done: asyncio's `Runner.run`. Other tasks stay and go on
    /// in the next run. All runs share one context.
    ///
    /// # Errors
    /// What `main` returns; `Panicked` if it panicked; `Interrupted` if Ctrl-C cancelled it, or came in its last step or after it.
    /// `Runtime` if a loop runs on this thread already, or the runner is closed, or the loop was stopped before `main` was done. `Io` if
    /// the backend broke.
    #[track_caller]
    pub fn run<F, T>(&self, main: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        if home::home() != 0 {
            return Err(Error::runtime("run cannot be called from a running event loop: await the coroutine instead"));
        }
        self.core.check_process()?;
        if self.core.is_closed() {
            return Err(Error::runtime("the runner is closed"));
        }
        let context = self.context.get_or_init(Context::copy_current).clone();
        let task = TaskBuilder::new().context(context).create_on(&self.core, Location::caller(), main);
        self.core.set_main(Some(task.raw_task().clone()));
        // A main that was stopped may have left one behind.
        self.core.take_interrupted();
        let ran = self.run_until_done(task.raw());
        self.core.set_main(None);
        ran?;
        let (interrupted, unheard) = (self.core.take_interrupted(), self.core.take_unheard());
        match task.take_result() {
            // Nobody else has heard of it.
            Ok(_) if unheard => Err(Error::interrupted()),
            Err(error) if error.is_cancelled() && interrupted && task.uncancel() == 0 => Err(Error::interrupted()),
            result => result,
        }
    }

    /// Runs until [`Loop::stop`]: asyncio's `loop.run_forever`. Tasks stay, and go on in the next run.
    ///
    /// # Errors
    /// `Runtime` if a loop runs on this thread already, or the runner is closed. `Io` if the backend broke.
    ///
    /// ```
    /// use aioli_core::{Runner, get_running_loop, sleep};
    /// use std::time::Duration;
    ///
    /// let runner = Runner::new(aioli_exec_sim::SimDriver::new());
    /// let _task = runner.get_loop().create_task(async {
    ///     sleep(Duration::from_secs(1)).await?;
    ///     Ok(get_running_loop()?.stop())
    /// });
    /// runner.run_forever().unwrap();
    /// runner.close().unwrap();
    /// ```
    pub fn run_forever(&self) -> Result<()> {
        self.core.run_forever()
    }

    fn run_until_done(&self, raw: &RawFuture) -> Result<()> {
        let (stop, _armed) = stop_after(1);
        raw.add_callback(Callback::Hook(Rc::clone(&stop), 0));
        let ran = self.core.run_forever();
        raw.remove_hook(&stop);
        ran?;
        if !raw.is_done() {
            return Err(Error::runtime("the event loop was stopped before the future was done"));
        }
        Ok(())
    }

    /// Leaves: cancels what is left and awaits it, reports what failed, shuts the thread pool down, and closes the driver.
    /// asyncio's `Runner.close`.
    ///
    /// Each task is cancelled once and has all the time it takes. Tasks that are created meanwhile are dropped at the end.
    ///
    /// In a process that was forked from the loop's own, this only closes the backend's descriptors: the tasks are the parent's, and
    /// are left as they are.
    ///
    /// # Errors
    /// `Runtime` if the loop runs. `Io` if the backend broke.
    pub fn close(self) -> Result<()> {
        self.leave()
    }

    fn leave(&self) -> Result<()> {
        if self.core.check_process().is_err() {
            self.core.close_elsewhere();
            return Ok(());
        }
        if self.core.is_closed() {
            return Ok(());
        }
        let cancelled = self.cancel_all();
        let shut_down = self.shut_executor_down();
        self.core.close()?;
        cancelled.and(shut_down)
    }

    fn shut_executor_down(&self) -> Result<()> {
        let Some(mut shutdown) = executor::begin_shutdown(&self.core, self.executor_timeout)? else { return Ok(()) };
        self.run_until_done(shutdown.ended.raw())?;
        let in_time = shutdown.ended.take_result()?;
        shutdown.conclude(&self.core, in_time);
        Ok(())
    }

    fn cancel_all(&self) -> Result<()> {
        let tasks = self.core.all_tasks();
        if tasks.is_empty() {
            return Ok(());
        }
        for task in &tasks {
            cancel::cancel(task.raw(), None);
        }
        // One more task would be seen by those that count them: a hook on each counts instead.
        let (left, _armed) = stop_after(tasks.len());
        for task in &tasks {
            task.raw().add_callback(Callback::Hook(Rc::clone(&left), 0));
        }
        let ran = self.core.run_forever();
        tasks.iter().for_each(|task| self.report_failed(task));
        ran
    }

    fn report_failed(&self, task: &RawTask) {
        if task.raw().is_cancelled() {
            return;
        }
        if let Some(error) = task.raw().retrieve_error() {
            self.core.report_of(task, Report::new("unhandled exception during shutdown").with_error(error));
        }
    }
}

/// Dropping a runner closes it, if no loop runs on this thread.
impl Drop for Runner {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            self.core.report(Report::new("the event loop could not be closed").with_error(error));
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("loop", &self.core).finish()
    }
}

/// Stops the loop when it was called so many times, unless it is disarmed.
struct StopAfter {
    left: Rc<Cell<usize>>,
}

impl Hook for StopAfter {
    fn run(&self, core: &LoopCore, _: u32) {
        let left = self.left.get();
        if left == 1 {
            core.stop();
        }
        self.left.set(left.saturating_sub(1));
    }
}

/// Until it is dropped, a [`StopAfter`] stops the loop. One that is ready already is not to stop the next run.
struct Armed(Rc<Cell<usize>>);

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

fn stop_after(calls: usize) -> (HookRef, Armed) {
    let left = Rc::new(Cell::new(calls));
    (Rc::new(Box::new(StopAfter { left: Rc::clone(&left) })), Armed(left))
}

/// Runs `main` on a driver and leaves: asyncio's `run`. Backends and the crate `aioli` have a function `run` that takes no driver.
///
/// # Errors
/// As [`Runner::run`], and as [`Runner::close`] if `main` succeeded.
///
/// ```
/// use aioli_core::sleep;
/// use aioli_exec_sim::SimDriver;
/// use std::time::Duration;
///
/// let day = aioli_core::run(SimDriver::new(), async {
///     sleep(Duration::from_secs(24 * 60 * 60)).await?;
///     Ok("tomorrow")
/// });
/// assert_eq!(day.unwrap(), "tomorrow");
/// ```
#[track_caller]
pub fn run<F, T>(driver: impl Driver, main: F) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let runner = Runner::new(driver);
    let result = runner.run(main);
    let closed = runner.close();
    result.and_then(|value| closed.map(|()| value))
}
