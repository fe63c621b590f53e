//! [`is_some`]: a look into a cell.

use std::cell::Cell;

/// Whether there is anything in a cell, without a write to it: to take it out and put it back is two.
#[inline(always)]
pub(crate) fn is_some<T>(cell: &Cell<Option<T>>) -> bool {
    // SAFETY: a cell stays on its thread, and nothing else happens while this looks.
    unsafe { (*cell.as_ptr()).is_some() }
}
