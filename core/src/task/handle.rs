//! [`Handle`]: a reference to a future or task that can be awaited.

use std::mem::ManuallyDrop;
use std::task::{Context, Poll};

use super::raw::FutureRef;
use crate::error::Result;
use crate::join::Join;

/// A counted reference to a future or task, and the await point of whoever awaits it.
///
/// Nearly every handle is dropped when nobody awaits it any more. That is told by one look, and then there is nothing but the reference
/// to drop: nothing has to be kept over a call.
#[repr(C)]
pub(crate) struct Handle<T> {
    join: ManuallyDrop<Join>,
    cell: ManuallyDrop<FutureRef<T>>,
}

impl<T> Handle<T> {
    #[inline]
    pub(crate) fn new(cell: FutureRef<T>) -> Self {
        Handle { join: ManuallyDrop::new(Join::new()), cell: ManuallyDrop::new(cell) }
    }

    #[inline]
    pub(crate) fn cell(&self) -> &FutureRef<T> {
        &self.cell
    }

    /// Ready with the result, which is moved out, or with what the await returns instead.
    #[inline(always)]
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<T>> {
        match self.join.poll(self.cell.raw(), cx) {
            Poll::Ready(Ok(())) => Poll::Ready(self.cell.take()),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_awaited(&mut self) {
        self.join.detach(self.cell.raw());
        // SAFETY: called by the destructor alone, which does nothing else then.
        unsafe { ManuallyDrop::drop(&mut self.cell) };
    }
}

impl<T> Drop for Handle<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.join.is_fresh() {
            return self.drop_awaited();
        }
        // SAFETY: the destructor, after which nobody uses it. What is fresh holds nothing.
        unsafe { ManuallyDrop::drop(&mut self.cell) };
    }
}

// It is moved about, in and out of collections and coroutines.
const _: () = assert!(size_of::<Handle<u64>>() == 16);
