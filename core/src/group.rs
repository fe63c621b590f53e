//! [`task_group`]: tasks that end together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::await_point::{Token, Wait, WaitPoll};
use crate::awaited::Awaited;
use crate::callback::{Callback, Hook, HookRef};
use crate::cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::LoopCore;
use crate::report::Report;
use crate::scope::{BodyPoll, Scope, ScopeNode};
use crate::serial;
use crate::task::{RawTask, home};
use crate::tasks::{Task, TaskBuilder};

/// Runs `body` with a group of tasks, and waits for them all: asyncio's `TaskGroup`.
///
/// If the body or a task of the group fails, the others and the body are cancelled, and when all have ended the group returns an
/// error of kind [`Group`](crate::ErrorKind::Group) with what failed, in the order in which it happened, the body's last. A
/// cancellation from outside cancels the tasks and is returned when they have ended.
///
/// Dropping the future cancels the tasks; the loop drives them to their end, and errors go to its exception handler.
///
/// # Errors
/// A [`Group`](crate::ErrorKind::Group) if anything failed; Cancelled if the caller was cancelled. `Runtime` outside of a task.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Error, sleep, task_group};
/// use std::time::Duration;
///
/// let sum = task_group(async |group| {
///     let one = group.create_task(async { Ok(1) })?;
///     let two = group.create_task(async { sleep(Duration::from_secs(1)).await.map(|()| 2) })?;
///     Ok(one.await? + two.await?)
/// }).await?;
/// assert_eq!(sum, 3);
///
/// let failed = task_group(async |group| {
///     group.create_task(async { Err::<(), _>(Error::msg("no luck")) })?;
///     sleep(Duration::from_secs(60)).await
/// }).await.unwrap_err();
/// assert_eq!(failed.errors().len(), 1);
/// # Ok(())
/// # }).unwrap();
/// ```
pub async fn task_group<F, T>(body: F) -> Result<T>
where
    F: AsyncFnOnce(TaskGroup) -> Result<T>,
{
    match run(body).await? {
        Ended::Value(value) => Ok(value),
        Ended::Cancelled(error) => Err(error),
    }
}

/// As [`task_group`], for a group that is meant to be left early by [`TaskGroup::cancel`]: `None` if that ended the body.
///
/// # Errors
/// As [`task_group`].
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{cancellable_task_group, sleep};
/// use std::time::Duration;
///
/// let left = cancellable_task_group(async |group| {
///     let inside = group.clone();
///     group.create_task(async move { Ok(inside.cancel()) })?;
///     sleep(Duration::from_secs(60)).await
/// }).await?;
/// assert_eq!(left, None);
/// # Ok(())
/// # }).unwrap();
/// ```
pub async fn cancellable_task_group<F, T>(body: F) -> Result<Option<T>>
where
    F: AsyncFnOnce(TaskGroup) -> Result<T>,
{
    match run(body).await? {
        Ended::Value(value) => Ok(Some(value)),
        Ended::Cancelled(_) => Ok(None),
    }
}

/// How a group ended that did not fail.
enum Ended<T> {
    Value(T),
    /// By its own `cancel`, which took the body's value.
    Cancelled(Error),
}

async fn run<F, T>(body: F) -> Result<Ended<T>>
where
    F: AsyncFnOnce(TaskGroup) -> Result<T>,
{
    let group = TaskGroup::new();
    let guard = Guard(&group.state);
    let mut scope = Scope::new();
    let result = {
        let mut running = pin!(body(group.clone()));
        poll_fn(|cx| group.state.poll_body(&mut scope, cx, running.as_mut())).await?
    };
    let ended = group.state.exit(&mut scope, result).await;
    drop(guard);
    ended
}

/// A group of tasks, see [`task_group`]: asyncio's `TaskGroup`. Clones are the same group, so that its tasks may create others in
/// it; one that is kept past the end takes no more.
///
/// ```
/// # aioli_exec_sim::run(async {
/// use aioli_core::{Result, TaskGroup, sleep, task_group};
///
/// /// Halves the work until it is small.
/// async fn work(group: TaskGroup, size: u32) -> Result<()> {
///     sleep(f64::from(size)).await?;
///     if size > 1 {
///         group.create_task(work(group.clone(), size / 2))?;
///         group.create_task(work(group.clone(), size / 2))?;
///     }
///     Ok(())
/// }
///
/// let begin = aioli_core::get_running_loop()?.time();
/// let kept = task_group(async |group| {
///     group.create_task(work(group.clone(), 4))?;
///     Ok(group)
/// })
/// .await?;
/// assert_eq!((aioli_core::get_running_loop()?.time() - begin).as_secs(), 4 + 2 + 1);
/// assert!(kept.create_task(async { Ok(()) }).is_err()); // the group is finished
/// # Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct TaskGroup {
    state: Rc<Group>,
}

struct Group {
    phase: Cell<Phase>,
    /// Those not done, by their numbers.
    tasks: RefCell<BTreeMap<u32, RawTask>>,
    /// The number of the latest.
    last: Cell<u32>,
    errors: RefCell<Vec<Error>>,
    /// The scope of the body and of the wait for the tasks.
    scope: RefCell<Option<Rc<ScopeNode>>>,
    /// The tasks were cancelled: there will be no more.
    aborting: Cell<bool>,
    /// The scope was cancelled by the group itself.
    parent_cancelled: Cell<bool>,
    /// Who waits for the last task.
    waiter: Cell<Option<Token>>,
    hook: RefCell<Option<HookRef>>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// The body runs.
    Running,
    /// The body has ended.
    Exiting,
    Finished,
    /// The future of the group was dropped: what comes of the tasks is nobody's any more.
    Abandoned,
}

impl TaskGroup {
    fn new() -> Self {
        let state = Group {
            phase: Cell::new(Phase::Running),
            tasks: RefCell::default(),
            last: Cell::new(0),
            errors: RefCell::new(Vec::new()),
            scope: RefCell::new(None),
            aborting: Cell::new(false),
            parent_cancelled: Cell::new(false),
            waiter: Cell::new(None),
            hook: RefCell::new(None),
        };
        TaskGroup { state: Rc::new(state) }
    }

    /// Creates a task in the group: asyncio's `TaskGroup.create_task`. The handle may be dropped: the group waits for the task.
    ///
    /// # Errors
    /// `Runtime` if the group is shutting down or finished, or belongs to another loop than the one that runs; the coroutine is
    /// dropped.
    #[track_caller]
    pub fn create_task<F, T>(&self, coroutine: F) -> Result<Task<T>>
    where
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        self.create_task_with(TaskBuilder::new(), coroutine)
    }

    /// Creates a task in the group, with a name or a context, which are keyword arguments of asyncio's `TaskGroup.create_task`, or an
    /// eager start.
    ///
    /// # Errors
    /// As [`create_task`](Self::create_task).
    #[track_caller]
    pub fn create_task_with<F, T>(&self, builder: TaskBuilder, coroutine: F) -> Result<Task<T>>
    where
        F: Future<Output = Result<T>> + 'static,
        T: 'static,
    {
        self.state.accepts()?;
        let location = Location::caller();
        let created = home::with(|core| {
            self.state.check_loop(core)?;
            let task = builder.create_on(core, location, coroutine);
            self.state.adopt(core, task.raw_task());
            Ok(task)
        });
        created.unwrap_or_else(|| {
            Err(Error::fixed(ErrorKind::Runtime, &"no running event loop: a group's tasks are created inside of `run`"))
        })
    }

    /// Cancels the body and all tasks of the group, which then ends without an error of its own: the `TaskGroup.cancel()` of
    /// Python 3.15. Does nothing when the group is finished.
    pub fn cancel(&self) {
        let group = &self.state;
        if matches!(group.phase.get(), Phase::Running | Phase::Exiting) && !group.aborting.get() {
            group.abort();
            if !group.parent_cancelled.replace(true) {
                group.cancel_parent();
            }
        }
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("phase", &self.state.phase.get())
            .field("tasks", &self.state.tasks.borrow().len())
            .field("errors", &self.state.errors.borrow().len())
            .finish()
    }
}

impl Group {
    fn accepts(&self) -> Result<()> {
        match self.phase.get() {
            Phase::Exiting if self.tasks.borrow().is_empty() => Err(finished()),
            Phase::Finished | Phase::Abandoned => Err(finished()),
            _ if self.aborting.get() => {
                Err(Error::fixed(ErrorKind::Runtime, &"the task group is shutting down: it takes no more tasks"))
            }
            _ => Ok(()),
        }
    }

    fn check_loop(&self, core: &LoopCore) -> Result<()> {
        match &*self.scope.borrow() {
            Some(scope) if scope.task().core().id() != core.id() => {
                Err(Error::fixed(ErrorKind::Runtime, &"the task group belongs to a different event loop"))
            }
            _ => Ok(()),
        }
    }

    fn adopt(self: &Rc<Self>, core: &LoopCore, task: &RawTask) {
        if core.is_closed() {
            return;
        }
        let index = serial::next(self.last.get(), |index| self.tasks.borrow().contains_key(&index));
        self.last.set(index);
        self.tasks.borrow_mut().insert(index, task.clone());
        if self.aborting.get() {
            // Its first step, taken eagerly, ended the group.
            cancel::cancel(task.raw(), None);
        }
        let hook = self.hook.borrow_mut().get_or_insert_with(|| Rc::new(Box::new(OnDone(Rc::clone(self))))).clone();
        task.raw().add_callback(Callback::Hook(hook, index));
    }

    /// Cancels every task.
    fn abort(&self) {
        self.aborting.set(true);
        let tasks: Vec<RawTask> = self.tasks.borrow().values().cloned().collect();
        for task in tasks {
            cancel::cancel(task.raw(), None);
        }
    }

    /// Cancels the body, or the wait for the tasks.
    fn cancel_parent(&self) {
        let scope = self.scope.borrow().clone();
        if let Some(scope) = scope {
            cancel::cancel_scope(&scope, None);
        }
    }

    /// A task has ended.
    fn on_done(&self, core: &LoopCore, index: u32) {
        let Some(task) = self.tasks.borrow_mut().remove(&index) else { return };
        if self.tasks.borrow().is_empty() {
            if let Some(token) = self.waiter.take() {
                token.fire();
            }
            // The hook holds the group: with the last task it goes. A further task brings another.
            let hook = self.hook.borrow_mut().take();
            drop(hook);
        }
        if task.raw().is_cancelled() {
            return;
        }
        let Some(error) = task.raw().retrieve_error() else { return };
        if matches!(self.phase.get(), Phase::Finished | Phase::Abandoned) {
            return core.report_of(&task, Report::new("task of an abandoned group failed").with_error(error));
        }
        self.errors.borrow_mut().push(error);
        if !self.aborting.get() && !self.parent_cancelled.get() {
            self.abort();
            self.parent_cancelled.set(true);
            self.cancel_parent();
        }
    }

    /// Polls something inside the group's scope: the error is of the scope, which cannot be polled here.
    fn poll_body<T>(
        &self,
        scope: &mut Scope,
        cx: &mut Context<'_>,
        body: Pin<&mut impl Future<Output = Result<T>>>,
    ) -> Poll<Result<Result<T>>> {
        let node = match scope.enter(cx, &"a task group is used inside of a task") {
            Ok(node) => node,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if self.scope.borrow().is_none() {
            self.scope.replace(Some(node));
            if self.parent_cancelled.get() {
                // By whoever made the body, or by a task that was started eagerly.
                self.cancel_parent();
            }
        }
        match scope.poll_body(cx, body) {
            BodyPoll::Pending => Poll::Pending,
            BodyPoll::Ready(result) => Poll::Ready(Ok(result)),
            BodyPoll::Abandon => Poll::Ready(Ok(Err(scope.abandon()))),
        }
    }

    /// Waits for the tasks and tells how the group ended.
    async fn exit<T>(self: &Rc<Self>, scope: &mut Scope, result: Result<T>) -> Result<Ended<T>> {
        self.phase.set(Phase::Exiting);
        let mut interruption = result.as_ref().err().filter(|error| error.is_cancelled()).cloned();
        if result.is_err() && !self.aborting.get() {
            self.abort();
        }
        while !self.tasks.borrow().is_empty() {
            let mut all = pin!(AllDone { group: self, wait: Wait::new() });
            let waited = poll_fn(|cx| self.poll_body(scope, cx, all.as_mut())).await?;
            if let Err(error) = waited
                && !self.aborting.get()
            {
                interruption = Some(error);
                self.abort();
            }
        }
        self.phase.set(Phase::Finished);
        let around = scope.node().map(|node| (node.task(), node.parent()));
        let left = scope.leave(self.parent_cancelled.get());
        drop(self.scope.take());
        let by_itself = self.parent_cancelled.get() && left == 0;
        let mut errors = self.errors.take();
        match interruption {
            Some(error) if errors.is_empty() => {
                return if by_itself { Ok(Ended::from(result, error)) } else { Err(error) };
            }
            _ => (),
        }
        let value = match result {
            Ok(value) => Some(value),
            Err(error) if error.is_cancelled() => None,
            Err(error) => {
                errors.push(error);
                None
            }
        };
        if let (Some(value), true) = (value, errors.is_empty()) {
            return Ok(Ended::Value(value));
        }
        if let Some((task, parent)) = around.filter(|_| left > 0) {
            // Cancelled from outside as well: that request stands, and the next await returns it.
            cancel::reopen_at(&task, parent);
        }
        Err(Error::group("unhandled errors in a task group", errors))
    }
}

impl<T> Ended<T> {
    /// A group that its own `cancel` ended: the body may have a value nevertheless.
    fn from(result: Result<T>, interruption: Error) -> Self {
        result.map_or(Ended::Cancelled(interruption), Ended::Value)
    }
}

fn finished() -> Error {
    Error::fixed(ErrorKind::Runtime, &"the task group is finished: it takes no more tasks")
}

/// What the group's tasks call when they end.
struct OnDone(Rc<Group>);

impl Hook for OnDone {
    fn run(&self, core: &LoopCore, index: u32) {
        self.0.on_done(core, index);
    }
}

/// Until the last task of a group has ended.
struct AllDone<'a> {
    group: &'a Group,
    wait: Wait,
}

impl Future for AllDone<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.wait.is_registered() {
            match this.wait.poll(cx) {
                WaitPoll::Pending => return Poll::Pending,
                WaitPoll::Fired => return Poll::Ready(Ok(())),
                WaitPoll::Cancelled(error) => return Poll::Ready(Err(error)),
                WaitPoll::Moved(_) => (),
            }
        }
        if this.group.tasks.borrow().is_empty() {
            return Poll::Ready(Ok(()));
        }
        let token = match this.wait.register_for(cx, Awaited::Group) {
            Ok(token) => token,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let old = this.group.waiter.replace(Some(token));
        drop(old);
        Poll::Pending
    }
}

impl Drop for AllDone<'_> {
    fn drop(&mut self) {
        let old = self.group.waiter.take();
        drop(old);
    }
}

/// Cancels the tasks of a group whose future is dropped before its end.
struct Guard<'a>(&'a Group);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.0.phase.get() != Phase::Finished {
            self.0.phase.set(Phase::Abandoned);
            self.0.abort();
            drop(self.0.scope.take());
        }
    }
}
