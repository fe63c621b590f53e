//! [`Landing`]: the memory that the next receive of a stream goes to.

use std::cell::Cell;

use bytes::BytesMut;

/// The least memory, and what a new stream has.
pub(crate) const LEAST: usize = 8 * 1024;
/// The most that is received in one turn: asyncio's.
pub(crate) const MOST: usize = 256 * 1024;
/// After so many receives in a row that needed only a quarter, there is half of it.
const PATIENCE: u8 = 16;

/// The buffer for a stream's next receive. It follows the amounts that come: a receive that fills it makes it larger, so that what
/// comes regularly is received at once, and an idle stream holds little.
#[repr(C)]
pub(crate) struct Landing {
    buffer: Cell<BytesMut>,
    size: Cell<usize>,
    small: Cell<u8>,
}

impl Landing {
    pub(crate) fn new() -> Self {
        Landing { buffer: Cell::new(BytesMut::new()), size: Cell::new(LEAST), small: Cell::new(0) }
    }

    /// How much to receive at once.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size.get()
    }

    /// Whether what comes is more than a new stream has memory for.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.size.get() > LEAST
    }

    /// An empty buffer with the memory for one receive.
    #[inline]
    pub(crate) fn lend(&self) -> BytesMut {
        let mut buffer = self.buffer.take();
        let size = self.size.get();
        if buffer.capacity() > 2 * size {
            return BytesMut::with_capacity(size);
        }
        buffer.reserve(size);
        buffer
    }

    /// Takes the memory of a receive back; it is empty.
    #[inline]
    pub(crate) fn put_back(&self, buffer: BytesMut) {
        self.buffer.set(buffer);
    }

    /// Takes note of how much came.
    #[inline]
    pub(crate) fn note(&self, count: usize, filled: bool) {
        let size = self.size.get();
        if filled || count > size {
            self.size.set((size * 2).min(MOST));
            self.small.set(0);
        } else if count < size / 4 && size > LEAST {
            let small = self.small.get() + 1;
            self.small.set(small % PATIENCE);
            if small == PATIENCE {
                self.size.set(size / 2);
            }
        } else {
            self.small.set(0);
        }
    }
}
