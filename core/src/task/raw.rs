//! Counted references to cells: [`RawFuture`] to any, [`RawTask`] to a task, [`FutureRef`] to one whose type is known.
//!
//! None of them can leave the thread, and every method is safe: what must hold of a cell is checked by its flags.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::process::abort;
use std::ptr::{self, NonNull};
use std::rc::{Rc, Weak};

use super::cell;
use super::current::CurrentTask;
use super::fetch::fetch;
use super::header::{FutureHead, Header, Stage, TaskHead, flag};
use super::home::Entered;
use super::loop_ref::LoopRef;
use super::peek;
use super::waker;
use crate::await_point;
use crate::callback::{Callback, Callbacks, Hook};
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::LoopCore;

/// A counted reference to a future or a task.
#[repr(transparent)]
pub(crate) struct RawFuture {
    cell: NonNull<Header>,
}

/// A counted reference to a task.
#[derive(Clone)]
#[repr(transparent)]
pub(crate) struct RawTask {
    raw: RawFuture,
}

/// A counted reference to a future or a task whose result is a `T`.
///
/// Handles are invariant in `T`:
///
/// ```compile_fail
/// fn shorten<'a>(handle: aioli_core::Future<&'static str>) -> aioli_core::Future<&'a str> {
///     handle
/// }
/// ```
pub(crate) struct FutureRef<T> {
    raw: RawFuture,
    /// A cell's value is never borrowed across a poll, so it does not matter to pinning. Values are put in and taken out through it,
    /// so it is invariant: a shorter lifetime must not be smuggled in.
    result: PhantomData<fn(T) -> T>,
}

impl Clone for RawFuture {
    #[inline]
    fn clone(&self) -> Self {
        let refs = &self.header().refs;
        match refs.get().checked_add(1) {
            Some(count) => refs.set(count),
            None => abort(),
        }
        RawFuture { cell: self.cell }
    }
}

impl Drop for RawFuture {
    #[inline]
    fn drop(&mut self) {
        let refs = &self.header().refs;
        match refs.get() {
            // SAFETY: the last count goes, and this reference with it. Nobody reads the count any more.
            1 => unsafe { bury(self.cell) },
            count => refs.set(count - 1),
        }
    }
}

/// Ends a cell. Cells that die meanwhile, because this one held them, wait in the loop's list: a long chain does not recurse.
///
/// # Safety
/// Whoever had the last count, which stays 1, gives the cell up, and nobody else uses it.
#[inline(never)]
unsafe fn bury(cell: NonNull<Header>) {
    // SAFETY: as the caller says.
    if unsafe { cell::is_empty(cell) } {
        // SAFETY: as above, and it holds nothing.
        unsafe { cell::free(cell) };
    } else {
        // SAFETY: as above.
        unsafe { bury_slowly(cell) }
    }
}

/// As [`bury`].
///
/// # Safety
/// As for [`bury`].
#[inline(never)]
unsafe fn bury_slowly(cell: NonNull<Header>) {
    // SAFETY: a cell whose memory is still there, and which keeps its loop.
    let core = LoopRef::clone(&*unsafe { LoopRef::borrowed(cell.as_ref().owner) });
    if core.graves.open.replace(true) {
        return core.graves.cells.borrow_mut().push(cell);
    }
    // SAFETY: as the caller says.
    unsafe { cell::destroy(cell) };
    loop {
        let next = core.graves.cells.borrow_mut().pop();
        match next {
            // SAFETY: the cell was put there when it was given up.
            Some(cell) => unsafe { cell::destroy(cell) },
            None => break,
        }
    }
    core.graves.open.set(false);
}

impl RawFuture {
    /// Another reference; `None` if there are too many to count one more, which ends the process elsewhere.
    #[inline]
    pub(crate) fn try_clone(&self) -> Option<RawFuture> {
        let refs = &self.header().refs;
        refs.set(refs.get().checked_add(1)?);
        Some(RawFuture { cell: self.cell })
    }
}

impl PartialEq for RawFuture {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cell == other.cell
    }
}

impl RawFuture {
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: this reference holds a count, so the cell lives.
        unsafe { self.cell.as_ref() }
    }

    /// A reference that was not counted, to a cell that is being destroyed.
    ///
    /// # Safety
    /// The cell's head and error flags are still in place, and the reference is neither cloned nor dropped.
    pub(super) unsafe fn uncounted(cell: NonNull<Header>) -> ManuallyDrop<RawFuture> {
        ManuallyDrop::new(RawFuture { cell })
    }

    /// The loop that the cell belongs to.
    #[inline]
    pub(crate) fn core(&self) -> &LoopCore {
        // SAFETY: the cell lives, and its loop as long.
        unsafe { self.header().owner.as_ref() }
    }

    /// The loop that the cell belongs to, shared.
    pub(crate) fn shared_core(&self) -> LoopRef {
        // SAFETY: `owner` came from `LoopRef::as_ptr`, and the loop lives as long as its cells.
        LoopRef::clone(&*unsafe { LoopRef::borrowed(self.header().owner) })
    }

    pub(crate) fn address(&self) -> usize {
        self.cell.as_ptr().addr()
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.header().has(flag::DONE)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.header().has(flag::CANCELLED)
    }

    #[inline]
    pub(crate) fn as_task(&self) -> Option<&RawTask> {
        if !self.header().has(flag::TASK) {
            return None;
        }
        // SAFETY: RawTask has one field, a RawFuture, and is transparent to it in layout; that the cell is a task was checked.
        Some(unsafe { &*(self as *const RawFuture).cast::<RawTask>() })
    }

    /// The error of a cell that has one; a clone.
    pub(crate) fn error(&self) -> Option<Error> {
        if !self.header().has(flag::FAILED | flag::CANCELLED) {
            return None;
        }
        // SAFETY: the flags say that the payload is an error. Cloning one runs no user code.
        Some(unsafe { (*cell::payload(self.cell).cast::<Error>()).clone() })
    }

    /// Stores the error of a cell that finished with one.
    ///
    /// The payload must be empty: `debug_assert`ed by flags, and kept by the callers in this module.
    pub(crate) fn put_error(&self, error: Error, state: u32) {
        let header = self.header();
        assert!(!header.has(flag::COROUTINE | flag::VALUE | flag::FAILED | flag::CANCELLED), "the payload is taken");
        // SAFETY: the payload is empty, as the flags say, and has room for an error.
        unsafe { cell::payload(self.cell).cast::<Error>().write(error) };
        header.set(state);
    }

    /// Replaces the error of a cancelled cell.
    pub(crate) fn replace_error(&self, error: Error) {
        if self.header().has(flag::FAILED | flag::CANCELLED) {
            // SAFETY: the flags say that the payload is an error. The old one is dropped after it was replaced.
            drop(unsafe { cell::payload(self.cell).cast::<Error>().replace(error) });
        }
    }

    /// Finishes a pending cell with an error and schedules its callbacks. The caller has seen that it is pending and, for a task,
    /// that the coroutine is gone.
    pub(crate) fn finish_error(&self, error: Error, cancelled: bool) {
        self.put_error(error, if cancelled { flag::CANCELLED } else { flag::FAILED | flag::LOG });
        self.finish();
    }

    /// Marks the cell finished and schedules its callbacks.
    fn finish(&self) {
        self.finish_with(self.header().flags.get());
    }

    /// The same, with these as its other flags.
    #[inline]
    pub(crate) fn finish_with(&self, flags: u32) {
        self.header().flags.set(flags | flag::DONE);
        if self.header().has_callbacks() {
            self.schedule_callbacks();
        }
    }

    fn schedule_callbacks(&self) {
        let slot = &self.header().callbacks;
        // SAFETY: the cell stays on its thread, and this borrow ends before anything that could come back is called.
        match unsafe { &*slot.as_ptr() } {
            // What nearly all are. It is moved out word by word, as it was put there: a processor stalls when it reads as one piece what
            // was just written as several. Nothing is called before the last word is written.
            Callbacks::One(Callback::Wake(task, serial)) if await_point::fires_plainly(task, *serial) => {
                // SAFETY: the slot is overwritten, and does not drop what was moved out.
                let task = unsafe { ptr::read(task) };
                // SAFETY: as above.
                unsafe { slot.as_ptr().write(Callbacks::None) };
                await_point::fire_plainly(task);
            }
            _ => self.schedule_all(),
        }
    }

    #[cold]
    fn schedule_all(&self) {
        self.header().callbacks.take().schedule(self);
    }

    /// Drops this reference beside another to the same cell.
    #[inline]
    pub(crate) fn drop_beside(self, other: &RawFuture) {
        if self == *other {
            std::mem::forget(self);
            let refs = &other.header().refs;
            // Not the last: there is the other one.
            refs.set(refs.get() - 1);
        }
    }

    /// Sets the delegate of a gather's outer future.
    pub(crate) fn set_delegate(&self, delegate: Weak<Box<dyn Hook>>) {
        assert!(!self.header().has(flag::TASK));
        self.header().set(flag::GATHER);
        // SAFETY: not a task, so the cell begins with a FutureHead.
        unsafe { self.cell.cast::<FutureHead>().as_ref() }.delegate.set(Some(delegate));
    }

    /// The delegate of a gather's outer future, while the gather runs.
    pub(crate) fn delegate(&self) -> Option<Rc<Box<dyn Hook>>> {
        if !self.header().has(flag::GATHER) {
            return None;
        }
        // SAFETY: the flag is set on plain futures only, and those begin with a FutureHead.
        let slot = &unsafe { self.cell.cast::<FutureHead>().as_ref() }.delegate;
        let weak = slot.take()?;
        let strong = weak.upgrade();
        slot.set(Some(weak));
        strong
    }
}

impl fmt::Debug for RawFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.header().flags.get() {
            flags if flags & flag::DONE == 0 => "pending",
            flags if flags & flag::CANCELLED != 0 => "cancelled",
            _ => "finished",
        };
        match self.as_task() {
            Some(task) => write!(f, "<Task {state} name={:?}>", task.name()),
            None => write!(f, "<Future {state}>"),
        }
    }
}

impl RawTask {
    #[inline]
    pub(crate) fn head(&self) -> &TaskHead {
        // SAFETY: this reference holds a count, and a RawTask is made of tasks only, which begin with a TaskHead.
        unsafe { self.raw.cell.cast::<TaskHead>().as_ref() }
    }

    /// Where the task is. The pointer may be used for the whole cell.
    #[inline]
    pub(super) fn as_ptr(&self) -> NonNull<TaskHead> {
        self.raw.cell.cast()
    }

    #[inline]
    pub(crate) fn raw(&self) -> &RawFuture {
        &self.raw
    }

    #[inline]
    pub(crate) fn core(&self) -> &LoopCore {
        self.raw.core()
    }

    /// Has the processor fetch so many lines of the task's memory, which it will need soon: two for the head, and some of the
    /// coroutine, which keeps its state behind its variables.
    #[inline]
    pub(crate) fn prefetch<const LINES: usize>(&self) {
        fetch::<LINES>(self.raw.cell.as_ptr().cast_const().cast());
    }

    /// Puts the task into the ready queue, unless it is there or done.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.is_idle() {
            self.core().push_task(self);
        }
    }

    /// Whether it is neither in the ready queue nor done.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        !self.raw.is_done() && !self.head().queued.get()
    }

    /// Whether a task with these flags has a coroutine, has not ended and has none of the flags `unless`.
    #[inline(always)]
    pub(crate) fn can_be_polled(flags: u32, unless: u32) -> bool {
        flags & (flag::DONE | flag::COROUTINE | unless) == flag::COROUTINE
    }

    /// Takes the task from the ready queue and polls its coroutine once, as the current task; the task has these flags and [can be
    /// polled](Self::can_be_polled). Returns the flags then. If the coroutine has ended, it is gone, as they tell, and its result is
    /// stored, but the task is not marked finished. The task is still the current one, which has to [end](CurrentTask::leave) before
    /// anything else happens but the next step.
    ///
    /// # Panics
    /// If it cannot be polled.
    #[inline(always)]
    pub(crate) fn poll_next(&self, current: &CurrentTask, _only: &mut Entered<'_>, flags: u32, unless: u32) -> u32 {
        let head = self.head();
        assert!(Self::can_be_polled(flags, unless));
        head.queued.set(false);
        head.stage.set(Stage::Polled);
        // SAFETY: a live task whose payload is the coroutine, which is not being dropped: then the flag would say that it is gone.
        // Nor is it being polled: the queues of its loop are all that steps it, and they would have borrowed the same `Entered`; or it
        // was new where `poll_inside` polls it.
        current.run_next(self, || unsafe { (head.header.vtable.poll)(self.raw.cell) });
        head.header.flags.get()
    }

    /// The same for a task that is the current one already, inside of the step of another, and stays it.
    ///
    /// # Panics
    /// If it cannot be polled, or may be being polled already: it has to be new, or [suspended](Self::suspend).
    pub(crate) fn poll_inside(&self, flags: u32) -> u32 {
        let head = self.head();
        assert!(Self::can_be_polled(flags, 0) && matches!(head.stage.get(), Stage::Unborn | Stage::Suspended));
        head.queued.set(false);
        head.stage.set(Stage::Polled);
        // SAFETY: a live task whose payload is the coroutine, which is neither being polled nor dropped, as the stage said.
        unsafe { (head.header.vtable.poll)(self.raw.cell) };
        head.stage.set(Stage::Suspended);
        head.header.flags.get()
    }

    /// Notes that it is not being polled, whichever task is the current one from now on.
    pub(super) fn suspend(&self) {
        if self.is_suspended() {
            self.head().stage.set(Stage::Suspended);
        }
    }

    /// Whether its coroutine is being polled or dropped.
    pub(crate) fn is_running(&self) -> bool {
        match self.head().stage.get() {
            Stage::Busy => true,
            Stage::Polled => self.core().is_current(self),
            Stage::Unborn | Stage::Suspended => false,
        }
    }

    /// Whether its coroutine was polled, and neither is now nor is being dropped.
    pub(crate) fn is_suspended(&self) -> bool {
        match self.head().stage.get() {
            Stage::Suspended => true,
            Stage::Polled => !self.core().is_current(self),
            Stage::Unborn | Stage::Busy => false,
        }
    }

    /// Drops the coroutine, if there is one that is not being polled.
    pub(crate) fn drop_coroutine(&self, core: &LoopCore) {
        let head = self.head();
        let stage = head.stage.get();
        if head.header.has(flag::COROUTINE) && !self.is_running() {
            head.stage.set(Stage::Busy);
            // SAFETY: a live task whose payload is the coroutine; the stage keeps others away.
            unsafe { cell::drop_coroutine(self.raw.cell, core) };
            head.stage.set(stage);
        }
    }

    /// Drops the value that `poll` stored, for a task that ends cancelled nevertheless. Returns whether there was one.
    pub(crate) fn discard_value(&self) -> bool {
        let header = self.raw.header();
        let stored = header.has(flag::VALUE) && !header.has(flag::DONE);
        if stored {
            header.clear(flag::VALUE);
            // SAFETY: the flag said that the payload is a value; it is cleared, so the value is dropped once. The task is not
            // marked done, so nobody else reads the payload.
            let drop = || unsafe { (header.vtable.drop_value)(self.raw.cell) };
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(drop)) {
                self.core().report_panic("a destructor of a result panicked", panic);
            }
        }
        stored
    }

    /// Whether it ends, with these flags, as most tasks do: nobody is to be told, and nothing is left of it but its result.
    #[inline]
    pub(crate) fn is_bare(&self, flags: u32) -> bool {
        const TOLD: u32 = flag::LOG | flag::SHIELDED | flag::SHARES_CONTEXT;
        let head = self.head();
        flags & TOLD == 0
            && !head.header.has_callbacks()
            && head.is_plain()
            && !await_point::are_left(self)
            && !peek::is_some(&head.context)
    }

    /// Whether there is one reference only.
    #[inline]
    pub(crate) fn is_held_once(&self) -> bool {
        self.raw.header().refs.get() == 1
    }

    /// Its wakers wake nobody from now on.
    pub(crate) fn forget_wakers(&self) {
        waker::forget(self.head());
    }
}

impl RawTask {
    /// Two more references, counted at once: each count waits for the one before.
    #[inline]
    pub(crate) fn clone_twice(&self) -> (RawTask, RawTask) {
        self.try_clone_twice().unwrap_or_else(|| abort())
    }

    /// The same; `None` if there are too many to count two more.
    #[inline]
    pub(crate) fn try_clone_twice(&self) -> Option<(RawTask, RawTask)> {
        let refs = &self.raw.header().refs;
        refs.set(refs.get().checked_add(2)?);
        let another = || RawTask { raw: RawFuture { cell: self.raw.cell } };
        Some((another(), another()))
    }

    /// Drops this reference by way of another to the same task, whose address may be known earlier.
    #[inline]
    pub(crate) fn drop_beside(self, other: &RawTask) {
        self.raw.drop_beside(&other.raw);
    }

    /// Queues a task that is neither queued nor done, and drops this reference. Nothing is called before the last word is written.
    #[inline]
    pub(crate) fn queue_and_drop(self) {
        let refs = &self.raw.header().refs;
        match refs.get() {
            1 => self.queue_and_drop_last(),
            count => {
                refs.set(count - 1);
                let task = ManuallyDrop::new(self);
                task.core().push_task(&task);
            }
        }
    }

    /// A task that is not done has a reference of its loop's besides.
    #[cold]
    fn queue_and_drop_last(self) {
        self.core().push_task(&self);
    }
}

impl PartialEq for RawTask {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<T> Clone for FutureRef<T> {
    #[inline]
    fn clone(&self) -> Self {
        FutureRef { raw: self.raw.clone(), result: PhantomData }
    }
}

impl<T: 'static> FutureRef<T> {
    /// A pending future of a loop.
    pub(crate) fn new(core: &LoopRef) -> Self {
        FutureRef { raw: RawFuture { cell: cell::new_future::<T>(core) }, result: PhantomData }
    }

    /// The same reference with the type of the value, if that is `T`.
    pub(crate) fn downcast(raw: RawFuture) -> Option<Self> {
        let known = (raw.header().vtable.value)() == TypeId::of::<T>();
        known.then_some(FutureRef { raw, result: PhantomData })
    }

    /// A task of a loop, without a context. It is marked as queued, but not yet in the list or queue; there is another reference for
    /// the list.
    #[inline]
    pub(crate) fn new_task<F>(
        core: &LoopRef,
        number: u64,
        location: &'static Location<'static>,
        coroutine: F,
    ) -> (Self, RawTask)
    where
        F: Future<Output = Result<T>> + 'static,
    {
        let cell = cell::new_task(core, number, location, coroutine);
        (FutureRef { raw: RawFuture { cell }, result: PhantomData }, RawTask { raw: RawFuture { cell } })
    }
}

impl<T> FutureRef<T> {
    #[inline]
    pub(crate) fn raw(&self) -> &RawFuture {
        &self.raw
    }

    /// The task that it leads to.
    ///
    /// # Panics
    /// If it is a plain future.
    #[inline]
    pub(crate) fn raw_task(&self) -> &RawTask {
        self.raw.as_task().expect("a handle to a task leads to a task")
    }

    /// Finishes a plain future with a value. Returns whether it was one, and pending: if not, nothing happens.
    #[inline]
    pub(crate) fn finish_value(&self, value: T) -> bool {
        let header = self.raw.header();
        let flags = header.flags.get();
        if flags & (flag::TASK | flag::DONE | flag::VALUE | flag::FAILED | flag::CANCELLED) != 0 {
            return false;
        }
        // SAFETY: a plain future that is pending has an empty payload, with room for its value, a `T`.
        unsafe { cell::future_payload::<T>(self.raw.cell).write(value) };
        self.raw.finish_with(flags | flag::VALUE);
        true
    }

    /// Moves the result out of a finished cell. An error stays and is cloned.
    #[inline]
    pub(crate) fn take(&self) -> Result<T> {
        let header = self.raw.header();
        if header.flags.get() & (flag::VALUE | flag::DONE | flag::CLONING) == flag::VALUE | flag::DONE {
            header.clear(flag::VALUE);
            // SAFETY: the flag said that the payload is a value, a `T`; it is cleared, so the value is moved out once. No clone of
            // it is being made.
            return Ok(unsafe { cell::payload(self.raw.cell).cast::<T>().read() });
        }
        Err(self.no_value())
    }

    /// Clones the result of a finished cell.
    pub(crate) fn cloned(&self) -> Result<T>
    where
        T: Clone,
    {
        let header = self.raw.header();
        if header.flags.get() & (flag::VALUE | flag::DONE) != flag::VALUE | flag::DONE {
            return Err(self.no_value());
        }
        let outer = header.flags.get() & flag::CLONING;
        header.set(flag::CLONING);
        let unmark = Unmark(self.raw.clone(), outer);
        // SAFETY: the flags say that the payload is a value, a `T`. CLONING keeps it in place while user code clones it, and the
        // count in `unmark` keeps the cell.
        let value = unsafe { (*cell::payload(self.raw.cell).cast::<T>()).clone() };
        drop(unmark);
        Ok(value)
    }

    /// Why there is no value to be had.
    #[cold]
    fn no_value(&self) -> Error {
        if !self.raw.is_done() {
            return Error::fixed(ErrorKind::InvalidState, &"the result is not set");
        }
        match self.raw.retrieve_error() {
            Some(error) => error,
            None if self.raw.header().has(flag::VALUE) => {
                Error::fixed(ErrorKind::InvalidState, &"the result is being cloned")
            }
            None => Error::fixed(ErrorKind::InvalidState, &"the result was already taken"),
        }
    }
}

impl<T> fmt::Debug for FutureRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

impl fmt::Debug for RawTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

/// Restores [`flag::CLONING`] after a clone, also when it panicked.
struct Unmark(RawFuture, u32);

impl Drop for Unmark {
    fn drop(&mut self) {
        let header = self.0.header();
        header.flags.set(header.flags.get() & !flag::CLONING | self.1);
    }
}

/// Cells without references that wait for their end, while another one's is under way.
#[derive(Default)]
pub(crate) struct Graves {
    open: Cell<bool>,
    cells: RefCell<Vec<NonNull<Header>>>,
}
