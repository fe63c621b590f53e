//! [`TaskList`]: the tasks of a loop that are not done.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::{self, NonNull};

use super::fetch::fetch;
use super::header::{TaskHead, flag};
use super::raw::RawTask;

/// No place; greater than all others. It fits beside a mark.
const NOWHERE: u32 = u32::MAX >> 1;
/// So many places are 32 KiB.
const WIDE: usize = 4096;

/// A table of tasks, each of which knows its place in it. It holds a reference to each.
///
/// A linked list would lie in the tasks themselves: each that ends would fetch two others that may have been out of the caches for long.
#[derive(Default)]
pub(crate) struct TaskList {
    /// Each borrow ends before anything is called that could come back. To check that would cost a tenth of a task's making and end.
    places: UnsafeCell<Places>,
}

struct Places {
    slots: Vec<Slot>,
    /// The vacant place that is taken next, or [`NOWHERE`]; each leads to another.
    vacant: u32,
}

impl Default for Places {
    fn default() -> Self {
        Places { slots: Vec::new(), vacant: NOWHERE }
    }
}

/// The address of a task; or an odd number, where there is none: it tells of the next vacant place.
#[derive(Clone, Copy)]
struct Slot(*mut TaskHead);

impl Slot {
    fn vacant(next: u32) -> Self {
        Slot(ptr::without_provenance_mut((next as usize) << 1 | 1))
    }

    /// Where it leads, if it is vacant.
    fn next(self) -> u32 {
        (self.0.addr() >> 1) as u32
    }

    fn task(self) -> Option<NonNull<TaskHead>> {
        if self.0.addr() & 1 == 0 { NonNull::new(self.0) } else { None }
    }
}

impl TaskList {
    /// The place of the task that is added next. A new task has it from the start, so that nothing is left to note when it is added.
    #[inline]
    pub(crate) fn next_place(&self) -> u32 {
        // SAFETY: a look, during which nothing else is called.
        unsafe { &*self.places.get() }.vacant
    }

    /// Adds a task that is in no list, at its place if that is still the next. The list keeps the reference.
    #[inline]
    pub(crate) fn push(&self, task: RawTask) {
        let taken = Slot(task.as_ptr().as_ptr());
        let place = task.head().place.get();
        // SAFETY: the list is not Sync, and nothing that is called here but the allocator is foreign.
        let places = unsafe { &mut *self.places.get() };
        match places.slots.get_mut(place as usize) {
            Some(slot) if place == places.vacant => {
                places.vacant = slot.next();
                *slot = taken;
            }
            _ => task.head().place.set(places.find(taken)),
        }
        std::mem::forget(task);
    }

    /// Whether there are so many places that those of tasks which take turns are not in the processor's nearest memory.
    #[inline]
    pub(crate) fn is_wide(&self) -> bool {
        // SAFETY: as in `next_place`.
        unsafe { &*self.places.get() }.slots.len() > WIDE
    }

    /// Has the processor fetch the place of a task.
    #[inline(always)]
    pub(crate) fn prefetch(&self, task: &RawTask) {
        // SAFETY: as in `next_place`.
        let slots = unsafe { &*self.places.get() }.slots.as_ptr();
        fetch::<1>(slots.wrapping_add(task.head().place.get() as usize).cast());
    }

    /// Whether it is in the list.
    #[inline]
    pub(crate) fn has(&self, task: &RawTask) -> bool {
        // SAFETY: as in `next_place`.
        let places = unsafe { &*self.places.get() };
        let slot = places.slots.get(task.head().place.get() as usize);
        slot.is_some_and(|slot| slot.0 == task.as_ptr().as_ptr())
    }

    /// Takes a task out, and gives back the reference that the list held; `None` if the task is not in the list.
    #[inline]
    pub(crate) fn remove(&self, task: &RawTask) -> Option<RawTask> {
        let place = task.head().place.get();
        // SAFETY: as in `push`.
        let places = unsafe { &mut *self.places.get() };
        let slot = places.slots.get_mut(place as usize).filter(|slot| slot.0 == task.as_ptr().as_ptr())?;
        *slot = Slot::vacant(places.vacant);
        places.vacant = place;
        // SAFETY: `push` forgot one reference to this task, which is handed back here; its slot says that it was not before.
        Some(unsafe { std::ptr::read(task) })
    }

    /// References to all tasks in the list, in the order of their creation.
    pub(crate) fn snapshot(&self) -> Vec<RawTask> {
        // SAFETY: as in `push`; counting a reference calls nothing.
        let places = unsafe { &*self.places.get() };
        let mut tasks: Vec<RawTask> = places
            .tasks()
            // SAFETY: a task in the list lives.
            .map(|task| RawTask::clone(&*unsafe { RawTask::borrowed(task) }))
            .collect();
        tasks.sort_unstable_by_key(|task| task.head().number);
        tasks
    }

    /// Marks every task as one that does not run any more, without a result. Only good for a process that shall not run them.
    pub(crate) fn end_all(&self) {
        // SAFETY: as in `push`, none of which a fork can interrupt.
        let places = unsafe { &*self.places.get() };
        for task in places.tasks() {
            // SAFETY: a task in the list lives.
            let task = unsafe { RawTask::borrowed(task) };
            if !task.is_running() {
                task.raw().header().set(flag::DONE);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        // SAFETY: as in `push`.
        let places = unsafe { &*self.places.get() };
        places.tasks().count()
    }
}

impl Places {
    fn tasks(&self) -> impl Iterator<Item = NonNull<TaskHead>> {
        self.slots.iter().filter_map(|slot| slot.task())
    }

    /// A place for a task that knew none.
    #[cold]
    fn find(&mut self, taken: Slot) -> u32 {
        if let Some(slot) = self.slots.get_mut(self.vacant as usize) {
            let next = slot.next();
            *slot = taken;
            return std::mem::replace(&mut self.vacant, next);
        }
        self.append(taken)
    }

    fn append(&mut self, slot: Slot) -> u32 {
        let place = u32::try_from(self.slots.len()).ok().filter(|place| *place < NOWHERE);
        self.slots.push(slot);
        place.expect("two billion tasks do not fit into memory")
    }
}

impl fmt::Debug for TaskList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskList").field("len", &self.len()).finish()
    }
}
