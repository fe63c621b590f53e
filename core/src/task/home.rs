//! Which loop runs on this thread, if one does.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::loop_ref::LoopRef;
use super::raw::RawTask;
use crate::event_loop::LoopCore;
use crate::shared::thread_local;

thread_local! {
    /// The number of the running loop; 0 where none runs. Numbers are never reused.
    static HOME: Cell<u64> = const { Cell::new(0) };
    /// The running loop; null where none runs. Valid while an [`Entered`] lives.
    static CORE: Cell<*mut LoopCore> = const { Cell::new(ptr::null_mut()) };
}

/// The number of the loop that runs on this thread, or 0.
#[inline]
pub(crate) fn home() -> u64 {
    HOME.with(Cell::get)
}

/// Calls `f` with the loop that runs on this thread, if one does.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&LoopRef) -> R) -> Option<R> {
    let core = NonNull::new(CORE.with(Cell::get))?;
    // SAFETY: the pointer was set by an `Entered` that still lives, from `LoopRef::as_ptr`: the loop it borrows outlives this call, since
    // leaving needs control to return to the loop's caller.
    let core = unsafe { LoopRef::borrowed(core) };
    Some(f(&core))
}

/// Calls `f` with the loop that runs on this thread and its current task, if there is one.
#[inline]
pub(crate) fn with_task<R>(f: impl FnOnce(&LoopRef, &RawTask) -> R) -> Option<R> {
    with(|core| core.current.with(|task| f(core, task))).flatten()
}

/// The loop that runs on this thread, shared.
pub(crate) fn current() -> Option<LoopRef> {
    with(LoopRef::clone)
}

/// Marks a loop as the running one until dropped. Whoever has borrowed it as its only user takes the only steps of this loop's tasks:
/// a loop steps its own, in one run at a time, which has one of these. (There is one on a thread; but after
/// [`forked`](crate::driver::forked), in the middle of a step, another loop may have one.)
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    _core: &'a LoopRef,
}

/// Makes `core` the running loop of this thread; `None` if one runs already.
pub(crate) fn enter(core: &LoopRef) -> Option<Entered<'_>> {
    if !CORE.with(Cell::get).is_null() {
        return None;
    }
    HOME.with(|home| home.set(core.id()));
    CORE.with(|known| known.set(core.as_ptr().as_ptr()));
    Some(Entered { _core: core })
}

/// No loop runs on this thread.
pub(crate) fn leave() {
    HOME.with(|home| home.set(0));
    CORE.with(|known| known.set(ptr::null_mut()));
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        leave();
    }
}
