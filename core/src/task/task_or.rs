//! [`TaskOr`]: a task, or anything else, in one word.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, align_of};
use std::ptr::{self, NonNull};

use super::header::TaskHead;
use super::raw::RawTask;

/// Nothing, a counted reference to a task, or a `T` in a box: for what is nearly always one of the first two.
///
/// It is null, the address of the task, or that of the `T` and one more, since both are even.
pub(crate) struct TaskOr<T> {
    word: *mut (),
    kept: PhantomData<(RawTask, Box<T>)>,
}

/// What a [`TaskOr`] had, unless that was nothing.
pub(crate) enum Kept<T> {
    Task(RawTask),
    Other(Box<T>),
}

impl<T> TaskOr<T> {
    const EVEN: () = assert!(align_of::<T>() > 1 && align_of::<TaskHead>() > 1);

    pub(crate) const fn nothing() -> Self {
        TaskOr { word: ptr::null_mut(), kept: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn is_nothing(&self) -> bool {
        self.word.is_null()
    }

    /// Whether it is this task.
    #[inline(always)]
    pub(crate) fn is(&self, task: &RawTask) -> bool {
        ptr::eq(self.word, task.as_ptr().as_ptr().cast())
    }

    #[inline(always)]
    pub(crate) fn task(task: RawTask) -> Self {
        TaskOr { word: ManuallyDrop::new(task).as_ptr().as_ptr().cast(), kept: PhantomData }
    }

    pub(crate) fn other(other: Box<T>) -> Self {
        let () = Self::EVEN;
        TaskOr { word: Box::into_raw(other).map_addr(|address| address + 1).cast(), kept: PhantomData }
    }

    /// If it is this task, drops the reference beside this other one. Returns whether it was.
    #[inline(always)]
    pub(crate) fn drop_beside(&mut self, task: &RawTask) -> bool {
        let same = self.is(task);
        if same {
            self.word = ptr::null_mut();
            // SAFETY: this had a reference to the same task, and has none any more.
            unsafe { ptr::read(task) }.drop_beside(task);
        }
        same
    }

    pub(crate) fn take(&mut self) -> Option<Kept<T>> {
        let word = NonNull::new(std::mem::replace(&mut self.word, ptr::null_mut()))?;
        if word.addr().get() & 1 == 0 {
            // SAFETY: an even address is that of a task, of which this had a reference, and has none any more.
            return Some(Kept::Task(ManuallyDrop::into_inner(unsafe { RawTask::borrowed(word.cast()) })));
        }
        let other = word.as_ptr().map_addr(|address| address - 1).cast::<T>();
        // SAFETY: an odd address is that of a box, and one more. It was this one's, and is not any more.
        Some(Kept::Other(unsafe { Box::from_raw(other) }))
    }
}

impl<T> Drop for TaskOr<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_nothing() {
            drop_kept(self);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_kept<T>(this: &mut TaskOr<T>) {
    drop(this.take());
}

impl<T> fmt::Debug for TaskOr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOr").field("is_nothing", &self.is_nothing()).finish_non_exhaustive()
    }
}
