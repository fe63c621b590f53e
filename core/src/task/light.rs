//! [`Light`]: what is dropped in many places and hardly ever holds anything.

use std::mem::ManuallyDrop;
use std::ops::Deref;

/// A value that mostly has nothing to drop, and tells so.
pub(crate) trait Weighed {
    /// Whether there is anything to drop.
    fn weighs(&self) -> bool;
}

/// A value that is handed to its destructor by value, and only if there is anything to drop. A destructor as the compiler makes it takes an
/// address, and then what is dropped lies in memory, and is written there, also where nothing is to be done.
#[derive(Clone)]
pub(crate) struct Light<T: Weighed>(ManuallyDrop<T>);

impl<T: Weighed> Light<T> {
    #[inline(always)]
    pub(crate) fn new(value: T) -> Self {
        Light(ManuallyDrop::new(value))
    }

    #[inline(always)]
    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: its own destructor does not run any more.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T: Weighed> Deref for Light<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Weighed> Drop for Light<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0.weighs() {
            // SAFETY: this is the destructor, after which nobody uses it.
            drop_slowly(unsafe { ManuallyDrop::take(&mut self.0) });
        }
    }
}

#[cold]
#[inline(never)]
fn drop_slowly<T>(value: T) {
    drop(value);
}
