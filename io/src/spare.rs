//! Memory for large receives, which the streams of a thread hand on to each other: what was used last is still in the caches.

use std::cell::Cell;

use bytes::BytesMut;

/// Larger pieces are not kept.
const LARGEST: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// Gives an empty buffer room for at least half of `size`.
pub(crate) fn borrow(buffer: &mut BytesMut, size: usize) {
    let spare = SPARE.try_with(Cell::take).unwrap_or_default();
    if spare.capacity() > 0 {
        *buffer = spare;
    }
    // What was cut from it may be alive still, and keep it from being used as a whole.
    if buffer.capacity() < size / 2 && !buffer.try_reclaim(size) {
        *buffer = BytesMut::with_capacity(size);
    }
}

/// Takes the memory of an empty buffer back.
pub(crate) fn give_back(buffer: &mut BytesMut) {
    let buffer = std::mem::take(buffer);
    if buffer.capacity() <= LARGEST {
        let _ = SPARE.try_with(|spare| spare.set(buffer));
    }
}
