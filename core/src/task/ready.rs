//! [`ReadyQueue`]: the handles that are ready to run, first in, first out.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;

use aioli_timers::TimerKey;

use super::fetch::fetch;
use super::header::TaskHead;
use super::home::Entered;
use super::raw::RawTask;
use crate::callback::{Call, HookRef};
use crate::event_loop::LoopCore;

/// A handle that is not the step of a task.
pub(crate) enum Ready {
    Call(Rc<Call>),
    Hook(HookRef, u32),
    /// A timer that is due. Its entry stays in the timer queue until this is run, so that it keeps its place when cancelled.
    Timer(TimerKey),
    /// So many handles in a row: each hands the oldest completion to its owner.
    Completions(usize),
}

/// Handles in order: tasks to step, and gaps for others, which stand in a line of their own.
type Handles = Vec<Option<QueuedTask>>;

/// A task that is to be stepped, and is marked as queued.
///
/// It holds no reference: the list of tasks keeps a task until it ends, and one that ends while it is queued leaves the list's
/// reference here.
pub(crate) struct QueuedTask {
    task: NonNull<TaskHead>,
}

impl QueuedTask {
    fn new(task: &RawTask) -> Self {
        QueuedTask { task: task.as_ptr() }
    }

    /// The task, not counted. It lives at least until this is dropped or, if it has not ended yet, until it has.
    #[inline]
    pub(crate) fn task(&self) -> ManuallyDrop<RawTask> {
        // SAFETY: the task lives, by the reference that either the list or this holds.
        unsafe { RawTask::borrowed(self.task) }
    }
}

impl Drop for QueuedTask {
    #[cold]
    fn drop(&mut self) {
        let task = self.task();
        task.head().queued.set(false);
        if !task.core().lists(&task) {
            drop(ManuallyDrop::into_inner(task));
        }
    }
}

/// A queue that grew beyond this gives its memory back.
const KEPT_CAPACITY: usize = 1024;
/// When: at the second time that nothing is ready. Before the first, the next burst may be as large.
const BURST: u8 = 2;

/// With more handles than this in a turn, their tasks are not in the processor's nearest memory any more, and are fetched ahead by so
/// many.
const FAR: usize = 256;
const AHEAD: usize = 6;
/// Where there are very many tasks, that is so of any few handles. Then a task that ends would wait for its place in the list, too: that
/// is fetched when the task itself has come.
const SOME: usize = 8;
const NEAR: usize = 3;

/// What is fetched ahead.
mod fetched {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const TASKS: u8 = 1;
    pub(super) const PLACES: u8 = 2;
}

/// Nearly all handles are steps of tasks, which take one word each here. What is made ready while the handles of one turn run collects
/// in another vector, so that a turn is a walk over a vector.
///
/// Every queued task passes through here twice, so nothing checks for borrows: each method but the guarded walk of a turn ends without
/// having called anything that could come back.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    next: UnsafeCell<Handles>,
    /// Memory for the turn after.
    spare: Cell<Handles>,
    others: RefCell<VecDeque<Ready>>,
    /// Nothing is appended any more. There is no room then, so that this is asked only where there is none.
    closed: Cell<bool>,
    /// How often nothing has to be ready before memory is given back, if not 0.
    grown: Cell<u8>,
}

impl ReadyQueue {
    /// Appends a task that is in the loop's list, has not ended and is not queued, and marks it as queued; unless this is closed.
    #[inline]
    pub(crate) fn push_task(&self, task: &RawTask) {
        self.append(task, |task| task.head().queued.set(true));
    }

    /// The same for a new task, which is marked already.
    #[inline]
    pub(crate) fn push_new(&self, task: &RawTask) {
        self.append(task, |_| ());
    }

    #[inline(always)]
    fn append(&self, task: &RawTask, mark: impl FnOnce(&RawTask)) {
        // SAFETY: the queue is not Sync, and this borrow ends before anything else is called.
        let next = unsafe { &mut *self.next.get() };
        let length = next.len();
        if length == next.capacity() {
            return self.append_without_room(task);
        }
        mark(task);
        // SAFETY: there is room for one more, which is written before it counts.
        unsafe {
            next.as_mut_ptr().add(length).write(Some(QueuedTask::new(task)));
            next.set_len(length + 1);
        }
    }

    #[cold]
    fn append_without_room(&self, task: &RawTask) {
        if !self.closed.get() {
            task.head().queued.set(true);
            // SAFETY: as in `append`; a push onto a vector calls nothing but the allocator.
            unsafe { &mut *self.next.get() }.push(Some(QueuedTask::new(task)));
        }
    }

    /// Appends another handle, unless this is closed.
    pub(crate) fn push(&self, handle: Ready) {
        if !self.closed.get() {
            self.others.borrow_mut().push_back(handle);
            // SAFETY: as in `append`.
            unsafe { &mut *self.next.get() }.push(None);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: a look at the length; no other borrow lives.
        unsafe { &*self.next.get() }.len()
    }

    /// Runs what is ready now, so many handles, and nothing that becomes ready meanwhile. Each gap stands for one
    /// [`pop_other`](Self::pop_other).
    ///
    /// The handles run from here and from no function in between: after a system call the processor foresees no return any more, so
    /// that each on the way back from a coroutine costs ten nanoseconds.
    #[inline(always)]
    pub(crate) fn run(&self, core: &LoopCore, entered: &mut Entered<'_>, count: usize) {
        if count == 1 {
            // SAFETY: the borrow ends with the pop.
            if let Some(only) = unsafe { &mut *self.next.get() }.pop() {
                core.run_handle(only, entered);
            }
            return;
        }
        // SAFETY: the borrow ends with the exchange, which drops nothing.
        let now = unsafe { self.next.get().replace(self.spare.take()) };
        if count > KEPT_CAPACITY {
            self.grown.set(BURST);
        }
        self.spare.set(if count > SOME && core.has_many_tasks() {
            Self::run_wide(now, core, entered)
        } else if count > FAR {
            Self::run_far(now, core, entered)
        } else {
            Self::run_all::<{ fetched::NOTHING }>(now, core, entered)
        });
    }

    #[inline(never)]
    fn run_far(handles: Handles, core: &LoopCore, entered: &mut Entered<'_>) -> Handles {
        Self::run_all::<{ fetched::TASKS }>(handles, core, entered)
    }

    #[inline(never)]
    fn run_wide(handles: Handles, core: &LoopCore, entered: &mut Entered<'_>) -> Handles {
        Self::run_all::<{ fetched::PLACES }>(handles, core, entered)
    }

    /// Runs handles, and gives the vector back empty.
    #[inline(always)]
    fn run_all<const FETCHED: u8>(mut handles: Handles, core: &LoopCore, entered: &mut Entered<'_>) -> Handles {
        let range = handles.as_ptr_range();
        // SAFETY: an empty vector is always right. What it held is moved out below, each handle once: its memory stays as it is, since
        // nobody else has the vector. Should a handle unwind, which none does, the rest would be leaked.
        unsafe { handles.set_len(0) };
        let mut next = range.start;
        while next != range.end {
            let ahead = next.wrapping_add(AHEAD);
            if FETCHED >= fetched::TASKS && ahead < range.end {
                // SAFETY: one of those that are still there.
                if let Some(queued) = unsafe { &*ahead } {
                    fetch::<4>(queued.task.as_ptr().cast_const().cast());
                }
            }
            let near = next.wrapping_add(NEAR);
            if FETCHED >= fetched::PLACES && near < range.end {
                // SAFETY: one of those that are still there.
                if let Some(queued) = unsafe { &*near } {
                    core.prefetch_place(&queued.task());
                }
            }
            // SAFETY: as above.
            core.run_handle(unsafe { next.read() }, entered);
            // SAFETY: it is at most the end.
            next = unsafe { next.add(1) };
        }
        handles
    }

    /// The timer that will be run a few handles later, if one will.
    pub(crate) fn timer_ahead(&self) -> Option<TimerKey> {
        match self.others.borrow().get(AHEAD) {
            Some(Ready::Timer(key)) => Some(*key),
            _ => None,
        }
    }

    /// The next handle that is not the step of a task.
    pub(crate) fn pop_other(&self) -> Option<Ready> {
        self.others.borrow_mut().pop_front()
    }

    /// Nothing is ready: memory that a burst took may be given back.
    #[inline]
    pub(crate) fn rest(&self) {
        match self.grown.get() {
            0 => (),
            1 => self.shrink(),
            left => self.grown.set(left - 1),
        }
    }

    #[cold]
    fn shrink(&self) {
        self.grown.set(0);
        // SAFETY: as in `append`.
        unsafe { &mut *self.next.get() }.shrink_to(KEPT_CAPACITY);
        let mut spare = self.spare.take();
        spare.shrink_to(KEPT_CAPACITY);
        self.spare.set(spare);
        self.others.borrow_mut().shrink_to(KEPT_CAPACITY);
    }

    /// Takes nothing any more. Gives back what was there, to be dropped.
    pub(crate) fn close(&self) -> (Vec<Option<QueuedTask>>, VecDeque<Ready>) {
        self.closed.set(true);
        // SAFETY: the borrow ends with the exchange, which drops nothing.
        let tasks = unsafe { self.next.get().replace(Vec::new()) };
        (tasks, self.others.take())
    }
}

impl fmt::Debug for ReadyQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyQueue").field("len", &self.len()).finish_non_exhaustive()
    }
}
