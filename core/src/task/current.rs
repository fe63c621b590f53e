//! [`CurrentTask`]: the task that a loop is running, and the scope it is in.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use super::header::TaskHead;
use super::raw::RawTask;
use crate::scope::ScopeNode;

/// The task whose step, destructor or end a loop is in. It is borrowed, not counted: whoever runs it holds it.
#[derive(Default)]
pub(crate) struct CurrentTask {
    task: Cell<Option<NonNull<TaskHead>>>,
    /// The innermost scope of that task whose body is being polled.
    scope: Cell<Option<Rc<ScopeNode>>>,
}

/// Marks a task as the current one until dropped.
pub(crate) struct Running<'a> {
    slot: &'a CurrentTask,
    outer: Option<NonNull<TaskHead>>,
    outer_scope: Option<Rc<ScopeNode>>,
    task: PhantomData<&'a RawTask>,
}

impl CurrentTask {
    /// Makes `task` the current one; the one before becomes it again afterwards. The guard is not to be leaked.
    #[inline]
    pub(crate) fn enter<'a>(&'a self, task: &'a RawTask) -> Running<'a> {
        let outer = self.task.replace(Some(task.as_ptr()));
        Running { slot: self, outer, outer_scope: self.scope.take(), task: PhantomData }
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
        // SAFETY: the pointer was put there by an `enter` whose guard lives, and with it the borrow of a counted reference. Guards
        // are dropped in reverse order, so `f` returns before that one is dropped.
        let task = unsafe { RawTask::borrowed(head) };
        Some(f(&task))
    }

    #[inline]
    pub(crate) fn is(&self, task: &RawTask) -> bool {
        self.task.get() == Some(task.as_ptr())
    }
}

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        self.slot.task.set(self.outer);
        self.slot.scope.set(self.outer_scope.take());
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
