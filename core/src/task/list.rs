//! [`TaskList`]: the tasks of a loop that are not done, in the order of their creation.

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

use super::header::{TaskHead, flag};
use super::raw::RawTask;

/// An intrusive list. It holds a reference to each task in it.
#[derive(Default)]
pub(crate) struct TaskList {
    first: Cell<Option<NonNull<TaskHead>>>,
    last: Cell<Option<NonNull<TaskHead>>>,
    len: Cell<usize>,
}

impl TaskList {
    /// Appends a task that is in no list. The list keeps the reference.
    #[inline]
    pub(crate) fn push(&self, task: RawTask) {
        let head = task.head();
        debug_assert!(!head.header.has(flag::LINKED));
        head.header.set(flag::LINKED);
        let node = task.as_ptr();
        head.previous.set(self.last.get());
        match self.last.get() {
            // SAFETY: a task in the list lives, since the list holds a reference.
            Some(last) => unsafe { last.as_ref() }.next.set(Some(node)),
            None => self.first.set(Some(node)),
        }
        self.last.set(Some(node));
        self.len.set(self.len.get() + 1);
        std::mem::forget(task);
    }

    /// Takes a task out, and gives back the reference that the list held; `None` if the task is not in the list.
    #[inline]
    pub(crate) fn remove(&self, task: &RawTask) -> Option<RawTask> {
        let head = task.head();
        if !head.header.has(flag::LINKED) {
            return None;
        }
        head.header.clear(flag::LINKED);
        let (previous, next) = (head.previous.take(), head.next.take());
        match previous {
            // SAFETY: neighbours in the list live, since the list holds a reference to each.
            Some(previous) => unsafe { previous.as_ref() }.next.set(next),
            None => self.first.set(next),
        }
        match next {
            // SAFETY: as above.
            Some(next) => unsafe { next.as_ref() }.previous.set(previous),
            None => self.last.set(previous),
        }
        self.len.set(self.len.get() - 1);
        // SAFETY: `push` forgot one reference to this task, which is handed back here; LINKED says that it was not before.
        Some(unsafe { std::ptr::read(task) })
    }

    /// References to all tasks in the list.
    pub(crate) fn snapshot(&self) -> Vec<RawTask> {
        let mut tasks = Vec::with_capacity(self.len.get());
        let mut at = self.first.get();
        while let Some(node) = at {
            // SAFETY: a task in the list lives; nothing changes the list during this loop, which runs no user code.
            let task = unsafe { RawTask::borrowed(node) };
            tasks.push(RawTask::clone(&task));
            at = task.head().next.get();
        }
        tasks
    }

    /// Marks every task as one that does not run any more, without a result. Only good for a process that shall not run them.
    pub(crate) fn end_all(&self) {
        let mut at = self.first.get();
        while let Some(node) = at {
            // SAFETY: as in `snapshot`.
            let head = unsafe { node.as_ref() };
            if !head.header.has(flag::RUNNING) {
                head.header.set(flag::DONE);
            }
            at = head.next.get();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }
}

impl fmt::Debug for TaskList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskList").field("len", &self.len.get()).finish()
    }
}
