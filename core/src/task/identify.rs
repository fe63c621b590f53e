//! Telling aioli's own handles apart from other futures, where they may borrow and so have no `TypeId` of their own.

use super::raw::RawFuture;
use crate::future::{AwaitRef, Future};
use crate::tasks::Task;

/// What a future leads to, if it is a [`Task`], a [`Future`] or the await of a reference to one.
pub(crate) fn identify<F, T>(future: &F) -> Option<RawFuture> {
    fn cast<F, H>(future: &F) -> Option<&H> {
        // SAFETY: the ids are equal, so both are the same type but for lifetimes; the reference is only used to read, here, for no
        // longer than `future` is borrowed.
        (typeid::of::<F>() == typeid::of::<H>()).then(|| unsafe { &*(future as *const F).cast::<H>() })
    }
    if let Some(task) = cast::<F, Task<T>>(future) {
        return Some(task.raw().clone());
    }
    if let Some(future) = cast::<F, Future<T>>(future) {
        return Some(future.raw().clone());
    }
    cast::<F, AwaitRef<'_, T>>(future).map(|awaited| awaited.raw().clone())
}
