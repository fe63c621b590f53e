//! [`Task`]: a coroutine that the loop drives.

use std::fmt;
use std::future::IntoFuture;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as PollContext, Poll};

use crate::callback::CallbackId;
use crate::cancel;
use crate::context::Context;
use crate::error::{self, Error, Result};
use crate::event_loop::LoopCore;
use crate::future::{self, AwaitRef, Future, Join};
use crate::task::header::flag;
use crate::task::{FutureRef, RawFuture, RawTask, home};

/// A coroutine that the loop drives, and a handle to its result: asyncio's `Task`.
///
/// The loop owns the task: dropping the handle detaches it, and it runs on. Awaiting the handle takes the value; awaiting a reference
/// clones it. Cancelling the task that awaits passes the request on to this one.
///
/// An error that nobody retrieves is reported to the loop's exception handler when the last handle goes.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{create_task, sleep};
/// use std::time::Duration;
///
/// let task = create_task(async {
///     sleep(Duration::from_secs(1)).await?;
///     Ok("done")
/// });
/// assert!(!task.done());
/// assert_eq!(task.await?, "done");
/// # Ok(())
/// # }).unwrap();
/// ```
#[repr(C)]
pub struct Task<T> {
    /// First, so that a fresh handle is written as it is copied: two words of nothing, and one.
    join: Join,
    cell: FutureRef<T>,
}

impl<T> Task<T> {
    pub(crate) fn from_ref(cell: FutureRef<T>) -> Self {
        Task { cell, join: Join::new() }
    }

    pub(crate) fn cell(&self) -> &FutureRef<T> {
        &self.cell
    }

    pub(crate) fn raw(&self) -> &RawFuture {
        self.cell.raw()
    }

    pub(crate) fn raw_task(&self) -> &RawTask {
        self.cell.raw_task()
    }

    /// Whether the coroutine has ended.
    pub fn done(&self) -> bool {
        self.raw().is_done()
    }

    /// Whether the coroutine ended as cancelled.
    pub fn cancelled(&self) -> bool {
        self.raw().is_cancelled()
    }

    /// Requests the cancellation of the task. Returns whether it was still running.
    ///
    /// The await that the task is suspended on returns Cancelled in the next turn; what the task does then is its own affair. A task
    /// that was not started never starts. Each request is delivered once.
    pub fn cancel(&self, message: Option<&str>) -> bool {
        cancel::cancel(self.raw(), error::message(message))
    }

    /// How many requests are not taken back.
    pub fn cancelling(&self) -> u32 {
        cancel::cancelling(self.raw_task())
    }

    /// Takes one request back. Returns how many are left.
    pub fn uncancel(&self) -> u32 {
        self.view().uncancel()
    }

    /// The result: a clone of the value, or the error.
    ///
    /// # Errors
    /// The error it ended with; Cancelled if it was cancelled; `InvalidState` if it is not done or its value was taken.
    pub fn result(&self) -> Result<T>
    where
        T: Clone,
    {
        self.cell.cloned()
    }

    /// The result, with the value moved out.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub fn take_result(&self) -> Result<T> {
        self.cell.take()
    }

    /// The error it ended with, `None` if it has a result.
    ///
    /// # Errors
    /// `InvalidState` if it is not done; Cancelled if it was cancelled.
    pub fn exception(&self) -> Result<Option<Error>> {
        future::exception(self.raw())
    }

    /// The task's name: the one it was given, or "Task-N".
    pub fn name(&self) -> Rc<str> {
        self.raw_task().name()
    }

    /// Gives the task another name.
    pub fn set_name(&self, name: &str) {
        self.raw_task().set_name(name);
    }

    /// Has `callback` called with a future that leads to this task, in a turn after it is done. Callbacks run in the order in which
    /// they were added, in the context that holds now.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<T>) + 'static) -> CallbackId
    where
        T: 'static,
    {
        future::add_done_callback(&self.cell, Location::caller(), move |cell| callback(&Future::from_ref(cell)))
    }

    /// Removes a callback. Returns whether it was there; once it was scheduled it is not.
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        self.raw().remove_call(id)
    }

    /// A handle to the task that does not know the type of its result.
    pub fn view(&self) -> AnyTask {
        AnyTask { task: self.raw_task().clone() }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.join.detach(self.cell.raw());
    }
}

/// Takes the value. Cancelling the task that waits passes the request on to this one.
impl<T> std::future::Future for Task<T> {
    type Output = Result<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut PollContext<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        match this.join.poll(this.cell.raw(), cx) {
            Poll::Ready(Ok(())) => Poll::Ready(this.cell.take()),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Clones the value.
impl<'a, T: Clone> IntoFuture for &'a Task<T> {
    type Output = Result<T>;
    type IntoFuture = AwaitRef<'a, T>;

    fn into_future(self) -> AwaitRef<'a, T> {
        AwaitRef::new(&self.cell)
    }
}

/// A handle to a task whose result is of any type, as [`current_task`] and [`all_tasks`] give.
#[derive(Clone, PartialEq)]
pub struct AnyTask {
    task: RawTask,
}

impl AnyTask {
    pub(crate) fn raw(&self) -> &RawFuture {
        self.task.raw()
    }

    /// The task's name: the one it was given, or "Task-N".
    pub fn name(&self) -> Rc<str> {
        self.task.name()
    }

    /// Gives the task another name.
    pub fn set_name(&self, name: &str) {
        self.task.set_name(name);
    }

    /// Whether the coroutine has ended.
    pub fn done(&self) -> bool {
        self.task.raw().is_done()
    }

    /// Whether the coroutine ended as cancelled.
    pub fn cancelled(&self) -> bool {
        self.task.raw().is_cancelled()
    }

    /// The error it ended with, `None` if it has a result.
    ///
    /// # Errors
    /// `InvalidState` if it is not done; Cancelled if it was cancelled.
    pub fn exception(&self) -> Result<Option<Error>> {
        future::exception(self.task.raw())
    }

    /// Requests the cancellation of the task, see [`Task::cancel`].
    pub fn cancel(&self, message: Option<&str>) -> bool {
        cancel::cancel(self.task.raw(), error::message(message))
    }

    /// How many requests are not taken back. Inside the task: the task's and those of the scopes around this point.
    pub fn cancelling(&self) -> u32 {
        cancel::cancelling(&self.task)
    }

    /// Takes one request back. Returns how many are left; when none is, one that was not delivered yet is dropped.
    pub fn uncancel(&self) -> u32 {
        let inside = self.task.core().is_current(&self.task);
        let scope = if inside { self.task.core().current.scope() } else { None };
        cancel::uncancel_at(&self.task, scope)
    }

    /// Where the task was created.
    pub fn location(&self) -> &'static Location<'static> {
        self.task.head().location
    }
}

impl fmt::Debug for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}

/// How a task is to be created, beyond its coroutine.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::TaskBuilder;
///
/// let task = TaskBuilder::new().name("greeter").eager_start(true).create_task(async { Ok("hello") });
/// assert!(task.done());
/// assert_eq!(&*task.name(), "greeter");
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default, Debug)]
pub struct TaskBuilder {
    name: Option<Rc<str>>,
    context: Option<Context>,
    eager: bool,
}

impl TaskBuilder {
    /// A builder with asyncio's defaults: named "Task-N", a copy of the current context, first step in the next turn.
    pub fn new() -> Self {
        Self::default()
    }

    /// The task's name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(Rc::from(name));
        self
    }

    /// The context that the task runs in, shared with whoever else has it.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Whether the task takes its first step at once, inside `create_task`.
    #[must_use]
    pub fn eager_start(mut self, eager: bool) -> Self {
        self.eager = eager;
        self
    }

    /// Creates the task on the running loop.
    ///
    /// # Panics
    /// Outside of a running loop.
    #[track_caller]
    pub fn create_task<F, T>(self, coroutine: F) -> Task<T>
    where
        F: std::future::Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        let location = Location::caller();
        let created = home::with(|core| self.create_on(core, location, coroutine));
        created.unwrap_or_else(|| no_loop())
    }

    pub(crate) fn create_on<F, T>(
        self,
        core: &Rc<LoopCore>,
        location: &'static Location<'static>,
        coroutine: F,
    ) -> Task<T>
    where
        F: std::future::Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        let cell = new_cell(core, location, coroutine);
        let raw = cell.raw_task();
        if let Some(context) = self.context {
            let old = raw.head().context.take();
            // It is a new task, so there is none yet.
            let _ = raw.head().extra().shared_context.set(context);
            raw.raw().header().set(flag::SHARES_CONTEXT);
            drop(old);
        }
        if let Some(name) = self.name {
            raw.head().extra().name.replace(Some(name));
        }
        start(core, &cell, self.eager);
        Task::from_ref(cell)
    }
}

/// Creates a task on the running loop. Its first step comes in the next turn.
///
/// While the loop closes, the task has failed already and the coroutine is dropped.
///
/// # Panics
/// Outside of a running loop.
#[track_caller]
#[inline]
pub fn create_task<F, T>(coroutine: F) -> Task<T>
where
    F: std::future::Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let location = Location::caller();
    let created = home::with(|core| {
        let cell = new_cell(core, location, coroutine);
        start(core, &cell, false);
        cell
    });
    // Made last: a handle that passes through an `Option` is copied more often.
    Task::from_ref(created.unwrap_or_else(|| no_loop()))
}

#[inline]
pub(crate) fn new_cell<F, T>(core: &Rc<LoopCore>, location: &'static Location<'static>, coroutine: F) -> FutureRef<T>
where
    F: std::future::Future<Output = Result<T>> + 'static,
    T: 'static,
{
    FutureRef::new_task(core, core.next_task_number(), core.context(), location, coroutine)
}

#[inline]
pub(crate) fn start<T>(core: &Rc<LoopCore>, cell: &FutureRef<T>, eager: bool) {
    if core.is_closed() {
        return refuse(core, cell.raw_task());
    }
    core.start(cell.raw_task(), eager);
}

#[cold]
fn refuse(core: &LoopCore, task: &RawTask) {
    task.drop_coroutine(core);
    task.raw().finish_error(Error::runtime("the event loop is closed: no task can be created"), false);
    task.raw().header().clear(flag::LOG);
}

#[cold]
#[track_caller]
fn no_loop() -> ! {
    panic!("no running event loop: tasks are created inside of `run`")
}

/// The task that runs now; `None` inside of a callback and outside of a loop.
pub fn current_task() -> Option<AnyTask> {
    home::with(|core| core.current_task()).flatten().map(|task| AnyTask { task })
}

/// The tasks of the running loop that are not done, in the order in which they were created. Empty outside of a loop.
pub fn all_tasks() -> Vec<AnyTask> {
    home::with(|core| core.all_tasks()).unwrap_or_default().into_iter().map(|task| AnyTask { task }).collect()
}

/// How many numbers a loop takes from the process-wide counter at once.
const NUMBERS: u64 = 1024;

/// Numbers for "Task-N", unique in the process.
pub(crate) fn take_numbers() -> std::ops::Range<u64> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let first = NEXT.fetch_add(NUMBERS, Ordering::Relaxed);
    first..first + NUMBERS
}
