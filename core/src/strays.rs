//! [`Strays`]: tasks whose await points may have gone to another task without anybody's knowing.
//!
//! A combinator that polls only what was woken (`FuturesUnordered`, `Shared`) does not poll what it holds when another task polls it:
//! what it holds stays registered with the task before, and a request of its new task does not find it. That the combinator has moved
//! shows where it keeps the new task's waker and drops the one before. Nothing is done then but to remember it; a request that comes
//! later wakes what may have moved. What its task has not moved is polled once for nothing.

use std::cell::RefCell;
use std::rc::Weak;

use crate::await_point::rouse_spilled;
use crate::event_loop::LoopCore;
use crate::foreign_waker::ForeignWaker;
use crate::task::{RawTask, waker};

/// The tasks whose await points may be somewhere else, each once.
#[derive(Default)]
pub(crate) struct Strays {
    tasks: RefCell<Vec<RawTask>>,
}

impl Strays {
    /// Something of a task's was seen with another one.
    #[cold]
    pub(crate) fn note(&self, task: &RawTask) {
        let Some(extra) = task.head().extra.get() else { return };
        if !task.raw().is_done() && !extra.strayed.replace(true) {
            self.tasks.borrow_mut().push(task.clone());
        }
    }

    /// A waker of the task's is dropped. If another task runs, that one has put its own in the place.
    #[cold]
    pub(crate) fn note_waker(&self, task: &RawTask) {
        if task.core().current_task().is_some_and(|current| current != *task) {
            self.note(task);
        }
    }

    /// The task has ended.
    pub(crate) fn forget(&self, task: &RawTask) {
        let strayed = task.head().extra.get().is_some_and(|extra| extra.strayed.take());
        let known = if strayed { self.tasks.borrow().iter().position(|known| known == task) } else { None };
        drop(known.map(|at| self.tasks.borrow_mut().swap_remove(at)));
    }

    /// A request is made of `task`: whatever may have gone to it, or from it, is polled soon, and is asked if it is polled where the
    /// request reaches it.
    #[inline]
    pub(crate) fn rouse(&self, task: &RawTask) {
        // Where no waker was ever cloned there is no such combinator.
        if !self.tasks.borrow().is_empty() && waker::was_cloned(task.head()) {
            self.rouse_all(task.core());
        }
    }

    #[cold]
    fn rouse_all(&self, core: &LoopCore) {
        for task in self.tasks.take() {
            for mut waker in wakers(&task) {
                if let Some(waker) = waker.take() {
                    core.guard("a waker panicked", || waker.wake());
                }
            }
        }
    }
}

/// The wakers of what combinators have polled for a task.
fn wakers(task: &RawTask) -> Vec<ForeignWaker> {
    let Some(extra) = task.head().extra.get() else { return Vec::new() };
    extra.strayed.set(false);
    let scopes: Vec<_> = extra.foreign_scopes.borrow().iter().filter_map(Weak::upgrade).collect();
    let mut found = rouse_spilled(task);
    found.extend(scopes.iter().filter(|node| node.task() == *task).map(|node| node.take_waker()));
    found
}
