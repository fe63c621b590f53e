//! [`Strays`]: tasks whose await points may have gone to another task without anybody's knowing.
//!
//! A combinator that polls only what was woken (`FuturesUnordered`, `Shared`) does not poll what it holds when another task polls it:
//! what it holds stays registered with the task before, and a request of its new task does not find it. That the combinator has moved
//! shows where it keeps the new task's waker and drops the one before. Nothing is done then but to remember it; a request that comes
//! later wakes what may have moved. What its task has not moved is polled once for nothing.
//!
//! A combinator that has been woken holds no waker, and one that was polled with another waker holds another: they may move without
//! a trace. So a task whose last waker goes is remembered, and if there still is none when a request comes, its combinators are elsewhere.
//!
//! Such a combinator may also yield before it has polled all that was woken. So whether a request reaches what was woken is told by
//! which came first, and not by the step in which it is polled.

use std::cell::{Cell, RefCell};
use std::rc::Weak;

use crate::await_point::{has_spilled, rouse_spilled};
use crate::foreign_waker::ForeignWaker;
use crate::scope::ScopeNode;
use crate::task::{RawTask, waker};

/// The tasks whose await points may be somewhere else, each once.
#[derive(Default)]
pub(crate) struct Strays {
    /// Each knows its place in it.
    tasks: RefCell<Vec<RawTask>>,
    /// Goes on with every request, and whenever something is woken. 0 until anything was.
    clock: Cell<u64>,
    /// How many were woken last.
    roused: Cell<usize>,
}

/// What the loop's [`Strays`] know of a task.
#[derive(Default)]
pub(crate) struct Stray {
    /// Its place among them, counted from 1; 0 if it is none.
    place: Cell<usize>,
    /// The turn in which nobody had its waker any more, if that is all that is known.
    lost_in: Cell<Option<u64>>,
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
        extra.stray.lost_in.set(None);
        self.add(task, &extra.stray);
    }

    /// Nobody has a waker of the task's, which combinators may have polled for it.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_lost(&self, task: &RawTask) {
        let Some(extra) = task.head().extra.get() else { return };
        if extra.stray.place.get() == 0 && (has_spilled(task) || !extra.foreign_scopes.borrow().is_empty()) {
            extra.stray.lost_in.set(Some(task.core().turn()));
            self.add(task, &extra.stray);
        }
    }

    fn add(&self, task: &RawTask, stray: &Stray) {
        if !task.raw().is_done() && stray.place.get() == 0 {
            let mut tasks = self.tasks.borrow_mut();
            tasks.push(task.clone());
            stray.place.set(tasks.len());
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
        let place = task.head().extra.get().map_or(0, |extra| extra.stray.place.take());
        let Some(at) = place.checked_sub(1) else { return };
        let mut tasks = self.tasks.borrow_mut();
        let gone = tasks.swap_remove(at);
        if let Some(moved) = tasks.get(at).and_then(|moved| moved.head().extra.get()) {
            moved.stray.place.set(place);
        }
        drop(tasks);
        drop(gone);
    }

    /// Takes those that have lost something by all that can be known.
    fn take(&self) -> Vec<RawTask> {
        let (mut found, mut kept) = (Vec::new(), Vec::new());
        for task in self.tasks.take() {
            let Some(extra) = task.head().extra.get() else { continue };
            let place = match extra.stray.lost_in.get() {
                None => &mut found,
                Some(_) if !waker::is_unheld(task.head()) => {
                    extra.stray.place.set(0);
                    continue;
                }
                // It was woken just now, and may yet poll its combinators.
                Some(turn) if task.head().queued.get() && task.core().turn() <= turn + 1 => &mut kept,
                Some(_) => &mut found,
            };
            place.push(task);
        }
        found.iter().for_each(|task| _ = task.head().extra.get().map(|extra| extra.stray.place.set(0)));
        let places = kept.iter().zip(1..).filter_map(|(task, place)| Some((task.head().extra.get()?, place)));
        places.for_each(|(extra, place)| extra.stray.place.set(place));
        self.tasks.replace(kept);
        found
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
        let strayed = if waker::was_cloned(task.head()) { self.take() } else { Vec::new() };
        if strayed.is_empty() && self.clock.get() == 0 {
            return;
        }
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
    let scopes: Vec<_> = extra.foreign_scopes.borrow().iter().filter_map(Weak::upgrade).collect();
    let mut found = rouse_spilled(task, now, extra.stray.lost_in.get().is_none());
    found.extend(scopes.iter().filter(|node| node.task() == *task).map(|node| node.rouse(now)));
    found
}
