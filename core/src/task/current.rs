//! [`CurrentTask`]: the task that a loop is running, and the scope it is in.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use super::header::{Stage, TaskHead};
use super::peek;
use super::raw::RawTask;
use crate::scope::ScopeNode;

/// The task whose step, destructor or end a loop is in. It is borrowed, not counted: whoever runs it holds it.
///
/// After a step the task may still be here, though it is suspended or has ended: until the next step begins, or the loop does anything else, nobody asks.
#[derive(Default)]
pub(crate) struct CurrentTask {
    task: Cell<Option<NonNull<TaskHead>>>,
    /// The innermost scope of that task whose body is being polled.
    scope: Cell<Option<Rc<ScopeNode>>>,
    cover: Cell<Option<Cover>>,
}

/// While a `cancellable` polls what it holds, requests from outside of it are its own to answer: its task, and the scope around it.
/// Both are only compared.
pub(crate) type Cover = (*const TaskHead, *const ScopeNode);

/// Ends the process if it is dropped: what must not unwind has done so.
struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl CurrentTask {
    /// Calls `f`, which does not unwind, with `task` as the current one; the one before becomes it again afterwards.
    #[inline(always)]
    pub(crate) fn run<R>(&self, task: &RawTask, f: impl FnOnce() -> R) -> R {
        task.suspend();
        let outer = self.task.replace(Some(task.as_ptr()));
        // SAFETY: as in `with`.
        let outer_task = outer.map(|outer| unsafe { RawTask::borrowed(outer) });
        // At the end of its step, when requests are passed on, it is suspended, and stays so.
        let polled = outer_task.filter(|outer| outer.head().stage.get() == Stage::Polled);
        if let Some(outer) = &polled {
            outer.head().stage.set(Stage::Busy);
        }
        let outer_scope = self.scope.take();
        let unwinding = NoUnwind;
        let result = f();
        std::mem::forget(unwinding);
        if let Some(outer) = &polled {
            outer.head().stage.set(Stage::Polled);
        }
        self.task.set(outer);
        drop(self.scope.replace(outer_scope));
        result
    }

    /// The same where no task is inside of its step. It stays the current one until [`leave`](Self::leave), which has to come before
    /// anything but the step of another task.
    #[inline(always)]
    pub(crate) fn run_next<R>(&self, task: &RawTask, f: impl FnOnce() -> R) -> R {
        self.task.set(Some(task.as_ptr()));
        let unwinding = NoUnwind;
        let result = f();
        std::mem::forget(unwinding);
        result
    }

    /// No task is inside of its step any more.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.task.set(None);
    }

    /// Covers what is polled from now on, and gives back the cover before, to be put back afterwards.
    pub(crate) fn replace_cover(&self, cover: Option<Cover>) -> Option<Cover> {
        self.cover.replace(cover)
    }

    /// The cover at this point of the task: the scope around it.
    pub(crate) fn cover(&self, task: &RawTask) -> Option<*const ScopeNode> {
        self.cover.get().filter(|(of, _)| std::ptr::eq(*of, task.head())).map(|(_, scope)| scope)
    }

    #[inline]
    pub(crate) fn has_scope(&self) -> bool {
        peek::is_some(&self.scope)
    }

    /// The innermost scope whose body is being polled.
    #[inline]
    pub(crate) fn scope(&self) -> Option<Rc<ScopeNode>> {
        let scope = self.scope.take()?;
        self.scope.set(Some(Rc::clone(&scope)));
        Some(scope)
    }

    /// Makes a scope the innermost one, and gives back the one before, to be put back afterwards.
    #[inline]
    pub(crate) fn replace_scope(&self, scope: Option<Rc<ScopeNode>>) -> Option<Rc<ScopeNode>> {
        self.scope.replace(scope)
    }

    /// Calls `f` with the current task, if there is one.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&RawTask) -> R) -> Option<R> {
        let head = self.task.get()?;
        // SAFETY: the pointer was put there by a `run` that has not returned, or a `run_next` since which nothing else was called; both
        // borrow a task that lives.
        let task = unsafe { RawTask::borrowed(head) };
        Some(f(&task))
    }

    #[inline]
    pub(crate) fn is(&self, task: &RawTask) -> bool {
        self.task.get() == Some(task.as_ptr())
    }
}

impl RawTask {
    /// A reference to a task that is there, not counted.
    ///
    /// # Safety
    /// The task lives for as long as the reference is used.
    #[inline]
    pub(super) unsafe fn borrowed(head: NonNull<TaskHead>) -> ManuallyDrop<RawTask> {
        // SAFETY: a RawTask is a pointer to the cell of a task, which begins with its head.
        ManuallyDrop::new(unsafe { std::mem::transmute::<NonNull<TaskHead>, RawTask>(head) })
    }
}

impl fmt::Debug for CurrentTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|task| task.fmt(f)).unwrap_or_else(|| f.write_str("None"))
    }
}
