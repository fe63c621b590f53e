//! [`PollWaker`]: the waker of a poll, by value.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::raw::RawTask;
use super::waker;

/// The waker that something is polled with, for as long as the poll lasts.
///
/// A context is handed on by its address. Then it has to lie in memory, and is written there in each poll, even if only a way that is
/// hardly ever gone wants it. What is handed on by value stays in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollWaker<'a> {
    data: *const (),
    vtable: &'static RawWakerVTable,
    poll: PhantomData<&'a Waker>,
}

impl<'a> PollWaker<'a> {
    #[inline(always)]
    pub(crate) fn of(cx: &Context<'a>) -> Self {
        PollWaker { data: cx.waker().data(), vtable: cx.waker().vtable(), poll: PhantomData }
    }

    /// Whether it is the one that `task` itself is polled with, or a clone of it.
    #[inline(always)]
    pub(crate) fn is_own(self, task: &RawTask) -> bool {
        waker::is_own(self.data, self.vtable, task)
    }

    /// Calls `f` with the waker.
    pub(crate) fn with<R>(self, f: impl FnOnce(&Waker) -> R) -> R {
        // SAFETY: both came from a waker that is borrowed for as long as this lives. It is not dropped, so it stays the only one that
        // counts.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(self.data, self.vtable)) });
        f(&waker)
    }

    /// A clone, which it panics in making if the waker does.
    pub(crate) fn to_waker(self) -> Waker {
        self.with(Waker::clone)
    }
}
