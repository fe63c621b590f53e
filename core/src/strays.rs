//! [`Strays`]: tasks whose await points may have gone to another task without anybody's knowing.
//!
//! A combinator that polls only what was woken (`FuturesUnordered`, `Shared`) does not poll what it holds when another task polls it:
//! what it holds stays registered with the task before, and a request of its new task does not find it. That the combinator has moved
//! shows where it keeps the new task's waker and drops the one before. Nothing is done then but to remember it; a request that comes
//! later wakes what may have moved. What its task has not moved is polled once for nothing.
//!
//! Such a combinator may also yield before it has polled all that was woken. So whether a request reaches what was woken is told by
//! which came first, and not by the step in which it is polled.

use std::cell::{Cell, RefCell};
use std::rc::Weak;

use crate::await_point::rouse_spilled;
use crate::foreign_waker::ForeignWaker;
use crate::scope::ScopeNode;
use crate::task::{RawTask, waker};

/// The tasks whose await points may be somewhere else, each once.
#[derive(Default)]
pub(crate) struct Strays {
    tasks: RefCell<Vec<RawTask>>,
    /// Goes on with every request, and whenever something is woken. 0 until anything was.
    clock: Cell<u64>,
    /// How many were woken last.
    roused: Cell<usize>,
}

/// The requests of a task that may not have reached all that was woken for them.
#[derive(Default)]
pub(crate) struct Lingering {
    /// When the first of them was made of the task or of one of its scopes; 0 if there is none.
    since: Cell<u64>,
    /// When the last request was made of the task itself.
    asked: Cell<u64>,
    /// How many more steps are waited before foreign awaits are given up.
    patience: Cell<usize>,
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

    /// The time, which no other event has.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// A request is made of `task`, or of a scope in it: whatever may have gone to it, or from it, is polled soon, and is asked if it is
    /// polled where the request reaches it.
    #[inline]
    pub(crate) fn rouse(&self, task: &RawTask, scope: Option<&ScopeNode>) {
        let any = self.clock.get() != 0 || !self.tasks.borrow().is_empty();
        if any && !task.head().is_plain() {
            self.rouse_for(task, scope);
        }
    }

    #[cold]
    fn rouse_for(&self, task: &RawTask, scope: Option<&ScopeNode>) {
        // Where no waker was ever cloned there is no such combinator.
        let strayed = if waker::was_cloned(task.head()) { self.tasks.take() } else { Vec::new() };
        let mut roused = Vec::new();
        if !strayed.is_empty() {
            let now = self.tick();
            strayed.iter().for_each(|task| roused.extend(wakers(task, now)));
            self.roused.set(roused.len());
        }
        let lingering = &task.head().extra().lingering;
        let now = self.tick();
        scope.map_or(&lingering.asked, |scope| &scope.asked_at).set(now);
        lingering.patience.set(self.roused.get());
        if lingering.since.get() == 0 {
            lingering.since.set(now);
        }
        for mut waker in roused {
            if let Some(waker) = waker.take() {
                task.core().guard("a waker panicked", || waker.wake());
            }
        }
    }
}

impl Lingering {
    /// Whether a request was made of the task itself at this time or later.
    pub(crate) fn asked_since(&self, time: u64) -> bool {
        self.asked.get() >= time
    }

    pub(crate) fn since(&self) -> Option<u64> {
        Some(self.since.get()).filter(|since| *since != 0)
    }

    /// Whether foreign awaits are given another step: in this one a combinator may have yielded before it polled all.
    pub(crate) fn puts_off(&self, task: &RawTask) -> bool {
        let puts_off = self.since.get() != 0 && task.head().queued.get() && self.patience.get() != 0;
        if puts_off {
            self.patience.set(self.patience.get() - 1);
        }
        puts_off
    }

    /// Its task has ended a step and waits: what was woken for its requests was polled, unless it is not there.
    pub(crate) fn end(&self) {
        self.since.set(0);
    }
}

/// The wakers of what combinators have polled for a task.
fn wakers(task: &RawTask, now: u64) -> Vec<ForeignWaker> {
    let Some(extra) = task.head().extra.get() else { return Vec::new() };
    extra.strayed.set(false);
    let scopes: Vec<_> = extra.foreign_scopes.borrow().iter().filter_map(Weak::upgrade).collect();
    let mut found = rouse_spilled(task, now);
    found.extend(scopes.iter().filter(|node| node.task() == *task).map(|node| node.rouse(now)));
    found
}
