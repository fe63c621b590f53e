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
use crate::future::{self, AwaitRef, Future};
use crate::task::header::flag;
use crate::task::{FutureRef, Handle, LoopRef, RawFuture, RawTask, home};

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
pub struct Task<T> {
    handle: Handle<T>,
}

impl<T> Task<T> {
    pub(crate) fn from_ref(cell: FutureRef<T>) -> Self {
        Task { handle: Handle::new(cell) }
    }

    #[inline]
    pub(crate) fn cell(&self) -> &FutureRef<T> {
        self.handle.cell()
    }

    pub(crate) fn raw(&self) -> &RawFuture {
        self.cell().raw()
    }

    pub(crate) fn raw_task(&self) -> &RawTask {
        self.cell().raw_task()
    }

    /// Whether the coroutine has ended: asyncio's `Task.done`.
    pub fn done(&self) -> bool {
        self.raw().is_done()
    }

    /// Whether the coroutine ended as cancelled: asyncio's `Task.cancelled`. A request alone does not count.
    pub fn cancelled(&self) -> bool {
        self.raw().is_cancelled()
    }

    /// Requests the cancellation of the task: asyncio's `Task.cancel`. Returns whether it was still running.
    ///
    /// The await that the task is suspended on returns Cancelled in the next turn; what the task does then is its own affair. A
    /// task that was not started never starts. Each request is delivered once. This returns at once: await the task to see it end.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{create_task, sleep};
    ///
    /// let worker = create_task(async {
    ///     if let Err(error) = sleep(60.0).await {
    ///         sleep(1.0).await?; // cleanup may await
    ///         return Err(error);
    ///     }
    ///     Ok(())
    /// });
    /// sleep(1.0).await?;
    /// assert!(worker.cancel(Some("enough")));
    /// assert!(!worker.done()); // it was only asked
    /// assert_eq!((&worker).await.unwrap_err().cancel_message(), Some("enough"));
    /// assert!(worker.cancelled());
    /// assert!(!worker.cancel(None)); // too late
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn cancel(&self, message: Option<&str>) -> bool {
        cancel::cancel(self.raw(), error::message(message))
    }

    /// How many requests are not taken back: asyncio's `Task.cancelling`. Called from outside of the task, this counts those of its
    /// [`timeout`](crate::timeout)s, task groups and other scopes too; see [`AnyTask::cancelling`].
    pub fn cancelling(&self) -> u32 {
        cancel::cancelling(self.raw_task())
    }

    /// Takes one request back: asyncio's `Task.uncancel`. Returns how many are left. When none is, one that was not delivered yet
    /// is dropped.
    pub fn uncancel(&self) -> u32 {
        self.view().uncancel()
    }

    /// The result: a clone of the value, or the error. asyncio's `Task.result`.
    ///
    /// # Errors
    /// The error it ended with; Cancelled if it was cancelled; `InvalidState` if it is not done or its value was taken.
    pub fn result(&self) -> Result<T>
    where
        T: Clone,
    {
        self.cell().cloned()
    }

    /// The result, with the value moved out: for values that cannot be cloned. A later take, and an await, get `InvalidState`.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub fn take_result(&self) -> Result<T> {
        self.cell().take()
    }

    /// The error it ended with, `None` if it has a result: asyncio's `Task.exception`. The error counts as retrieved.
    ///
    /// # Errors
    /// `InvalidState` if it is not done; Cancelled if it was cancelled.
    pub fn exception(&self) -> Result<Option<Error>> {
        future::exception(self.raw())
    }

    /// The task's name: the one it was given, or "Task-N". asyncio's `Task.get_name`.
    pub fn name(&self) -> Rc<str> {
        self.raw_task().name()
    }

    /// Gives the task another name: asyncio's `Task.set_name`.
    pub fn set_name(&self, name: &str) {
        self.raw_task().set_name(name);
    }

    /// The context that the task runs in, see [`AnyTask::context`].
    pub fn context(&self) -> Context {
        self.raw_task().context()
    }

    /// Has `callback` called with a future that leads to this task, in a turn after it is done: asyncio's `Task.add_done_callback`.
    /// Callbacks run in the order in which they were added, in the context that holds now. If the task is done, that is the next
    /// turn. A callback that panics is reported to the loop's exception handler. See [`CallbackId`].
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&Future<T>) + 'static) -> CallbackId
    where
        T: 'static,
    {
        future::add_done_callback(self.cell(), Location::caller(), move |cell| callback(&Future::from_ref(cell)))
    }

    /// Removes a callback: asyncio's `Task.remove_done_callback`. Returns whether it was there; once it was scheduled it is not.
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
        self.cell().fmt(f)
    }
}

/// Takes the value. Cancelling the task that waits passes the request on to this one.
impl<T> std::future::Future for Task<T> {
    type Output = Result<T>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut PollContext<'_>) -> Poll<Result<T>> {
        self.get_mut().handle.poll(cx)
    }
}

/// Clones the value.
impl<'a, T: Clone> IntoFuture for &'a Task<T> {
    type Output = Result<T>;
    type IntoFuture = AwaitRef<'a, T>;

    fn into_future(self) -> AwaitRef<'a, T> {
        AwaitRef::new(self.cell())
    }
}

/// A handle to a task whose result is of any type, as [`current_task`], [`all_tasks`] and [`Task::view`] give. Clones are handles
/// to the same task, and equal. Dropping it changes nothing.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{AnyTask, create_task, sleep, wait};
///
/// // Tasks of several types in one collection.
/// let number = create_task(async { sleep(1.0).await.map(|()| 7) });
/// let text = create_task(async { sleep(2.0).await.map(|()| "seven") });
/// let tasks: Vec<AnyTask> = vec![number.view(), text.view()];
/// assert!(tasks[1].cancel(None));
/// let (done, pending) = wait(&tasks).await?;
/// assert_eq!((done.len(), pending.len()), (2, 0));
/// assert!(tasks[1].cancelled());
/// assert_eq!(number.await?, 7);
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone, PartialEq)]
pub struct AnyTask {
    task: RawTask,
}

impl AnyTask {
    pub(crate) fn raw(&self) -> &RawFuture {
        self.task.raw()
    }

    /// The task's name: the one it was given, or "Task-N". asyncio's `Task.get_name`.
    pub fn name(&self) -> Rc<str> {
        self.task.name()
    }

    /// Gives the task another name: asyncio's `Task.set_name`.
    pub fn set_name(&self, name: &str) {
        self.task.set_name(name);
    }

    /// The context that the task runs in: asyncio's `Task.get_context`. It is the one that it was given, or its own, and is shared from
    /// now on: what others set in it, the task finds after its next await. What the task sets is in it when the step ends. Of a task
    /// that is done and was given none, the context is empty.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{ContextVar, create_task, sleep};
    /// use std::sync::LazyLock;
    ///
    /// static USER: LazyLock<ContextVar<&str>> = LazyLock::new(ContextVar::new);
    ///
    /// let session = create_task(async {
    ///     USER.set("ada");
    ///     sleep(1.0).await?;
    ///     Ok(USER.get())
    /// });
    /// sleep(0.0).await?;
    /// assert_eq!(session.context().run(|| USER.get()), Some("ada"));
    /// session.context().run(|| USER.set("grace"));
    /// assert_eq!(session.await?, Some("grace"));
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn context(&self) -> Context {
        self.task.context()
    }

    /// Whether the coroutine has ended.
    pub fn done(&self) -> bool {
        self.task.raw().is_done()
    }

    /// Whether the coroutine ended as cancelled.
    pub fn cancelled(&self) -> bool {
        self.task.raw().is_cancelled()
    }

    /// The error it ended with, `None` if it has a result: asyncio's `Task.exception`. The error counts as retrieved.
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

    /// How many requests are not taken back: asyncio's `Task.cancelling`. Inside the task: the task's and those of the scopes
    /// around this point. Outside of it: the task's and those of all its scopes.
    pub fn cancelling(&self) -> u32 {
        cancel::cancelling(&self.task)
    }

    /// Takes one request back: asyncio's `Task.uncancel`. Returns how many are left; when none is, one that was not delivered yet
    /// is dropped.
    ///
    /// ```
    /// # aioli_exec_sim::run(async {
    /// use aioli_core::{create_task, current_task, sleep};
    ///
    /// let stubborn = create_task(async {
    ///     if sleep(60.0).await.is_err() {
    ///         current_task().unwrap().uncancel(); // refuses, and says so
    ///     }
    ///     sleep(60.0).await.map(|()| current_task().unwrap().cancelling())
    /// });
    /// sleep(1.0).await?;
    /// stubborn.cancel(None);
    /// assert_eq!(stubborn.await?, 0);
    /// # Ok(())
    /// # }).unwrap();
    /// ```
    pub fn uncancel(&self) -> u32 {
        let inside = self.task.core().is_current(&self.task);
        let scope = if inside { self.task.core().current.scope() } else { None };
        cancel::uncancel_at(&self.task, scope)
    }

    /// Where the task was created: the caller of [`create_task`] or the like. Reports tell it too.
    pub fn location(&self) -> &'static Location<'static> {
        self.task.head().location
    }
}

impl fmt::Debug for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}

/// How a task is to be created, beyond its coroutine: the keyword arguments of asyncio's `Task`.
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

    /// The task's name: asyncio's argument `name`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(Rc::from(name));
        self
    }

    /// The context that the task runs in, shared with whoever else has it: asyncio's argument `context`.
    #[must_use]
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Whether the task takes its first step at once, inside `create_task`: asyncio's `eager_start`.
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

    pub(crate) fn create_on<F, T>(self, core: &LoopRef, location: &'static Location<'static>, coroutine: F) -> Task<T>
    where
        F: std::future::Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        let (cell, raw) = new_cell(core, location, coroutine);
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
        start(core, raw, self.eager);
        Task::from_ref(cell)
    }
}

/// Creates a task on the running loop: asyncio's `create_task`. Its first step comes in the next turn.
///
/// A name, a context and an eager start are given with a [`TaskBuilder`]. While the loop closes, the task has failed already, with
/// `Runtime`, and the coroutine is dropped.
///
/// # Panics
/// Outside of a running loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{create_task, sleep};
/// use std::time::Duration;
///
/// let slow = create_task(async { sleep(Duration::from_secs(2)).await.map(|()| "slow") });
/// let quick = create_task(async { sleep(Duration::from_secs(1)).await.map(|()| "quick") });
/// sleep(Duration::from_millis(1500)).await?; // both run meanwhile
/// assert!(quick.done() && !slow.done());
/// assert_eq!((slow.await?, quick.await?), ("slow", "quick"));
/// # Ok(())
/// # }).unwrap();
/// ```
#[track_caller]
#[inline]
pub fn create_task<F, T>(coroutine: F) -> Task<T>
where
    F: std::future::Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let location = Location::caller();
    let created = home::with(|core| {
        let (cell, raw) = new_cell(core, location, coroutine);
        start(core, raw, false);
        cell
    });
    // Made last: a handle that passes through an `Option` is copied more often.
    Task::from_ref(created.unwrap_or_else(|| no_loop()))
}

/// A task that is to be [started](start) by the reference beside it.
#[inline]
pub(crate) fn new_cell<F, T>(
    core: &LoopRef,
    location: &'static Location<'static>,
    coroutine: F,
) -> (FutureRef<T>, RawTask)
where
    F: std::future::Future<Output = Result<T>> + 'static,
    T: 'static,
{
    let (cell, task) = FutureRef::new_task(core, core.next_task_number(), location, coroutine);
    if let Some(context) = core.context() {
        task.put_context(Some(context));
    }
    (cell, task)
}

#[inline(always)]
pub(crate) fn start(core: &LoopCore, task: RawTask, eager: bool) {
    if core.is_closed() {
        return refuse(core, task);
    }
    core.start(task, eager);
}

#[cold]
fn refuse(core: &LoopCore, task: RawTask) {
    task.head().queued.set(false);
    task.drop_coroutine(core);
    task.raw().finish_error(Error::runtime("the event loop is closed: no task can be created"), false);
    task.raw().header().clear(flag::LOG);
}

#[cold]
#[track_caller]
fn no_loop() -> ! {
    panic!("no running event loop: tasks are created inside of `run`")
}

/// The task that runs now; `None` inside of a callback and outside of a loop. asyncio's `current_task`, which raises `RuntimeError`
/// outside of a loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{TaskBuilder, current_task};
///
/// let task = TaskBuilder::new().name("clerk").create_task(async { Ok(current_task().unwrap().name()) });
/// assert_eq!(&*task.await?, "clerk");
/// # Ok(())
/// # }).unwrap();
/// ```
pub fn current_task() -> Option<AnyTask> {
    home::with(|core| core.current_task()).flatten().map(|task| AnyTask { task })
}

/// The tasks of the running loop that are not done, in the order in which they were created. Empty outside of a loop. asyncio's
/// `all_tasks`, which gives a set, and raises `RuntimeError` outside of a loop.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{all_tasks, create_task, current_task, sleep};
///
/// for n in 1..=3 {
///     create_task(async move { sleep(f64::from(n)).await });
/// }
/// // Asks everything else to end, and leaves it the time to.
/// for task in all_tasks().iter().filter(|task| current_task().as_ref() != Some(task)) {
///     task.cancel(Some("closing time"));
/// }
/// sleep(0.0).await?;
/// assert_eq!(all_tasks().len(), 1);
/// # Ok(())
/// # }).unwrap();
/// ```
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
