//! [`tell_readable`]: what the watch of a stream is told.

use aioli_core::driver::{Completion, Completions, OpId};
use aioli_core::op::{Interest, Outcome};

/// Tells a watch that a read may go on.
#[inline(always)]
pub fn tell_readable(id: OpId, out: &mut Completions) {
    if out.len() == out.capacity() {
        return tell_growing(id, out);
    }
    out.push_back(readable(id));
}

/// A queue that grows in between has what is added to it lie elsewhere first, and be moved.
#[cold]
#[inline(never)]
fn tell_growing(id: OpId, out: &mut Completions) {
    out.push_back(readable(id));
}

#[inline(always)]
fn readable(id: OpId) -> Completion {
    Completion { id, more: true, outcome: Outcome::Ready(Ok(Interest { readable: true, writable: false })) }
}
