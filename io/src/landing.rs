//! [`Landing`]: how much memory the next receive of a stream has.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};

/// The least memory, and what a new stream has.
pub(crate) const LEAST: usize = 8 * 1024;
/// The most that is received in one turn: asyncio's.
pub(crate) const MOST: usize = 256 * 1024;
/// After so many receives in a row that needed only a quarter, there is half of it.
const PATIENCE: u8 = 16;

/// How much a stream receives at once. It follows the amounts that come: a receive that fills it makes it larger, so that what
/// comes regularly is received at once, and an idle stream holds little.
pub(crate) struct Landing {
    size: Cell<u32>,
    small: Cell<u8>,
}

impl Landing {
    pub(crate) fn new() -> Self {
        Landing { size: Cell::new(LEAST as u32), small: Cell::new(0) }
    }

    /// How much to receive at once.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size.get() as usize
    }

    /// Whether what comes is more than a new stream has memory for.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.size() > LEAST
    }

    /// An empty buffer with the memory for one receive: that of the last one, if it fits.
    #[inline]
    pub(crate) fn prepare(&self, mut last: BytesMut) -> BytesMut {
        let size = self.size();
        if last.capacity() > 2 * size {
            return BytesMut::with_capacity(size);
        }
        last.reserve(size);
        last
    }

    /// Takes note of how much came.
    #[inline]
    pub(crate) fn note(&self, count: usize, filled: bool) {
        let size = self.size();
        if filled || count > size {
            self.resize((size * 2).min(MOST));
            self.small.set(0);
        } else if count < size / 4 && size > LEAST {
            let small = self.small.get() + 1;
            self.small.set(small % PATIENCE);
            if small == PATIENCE {
                self.resize(size / 2);
            }
        } else if self.small.get() != 0 {
            self.small.set(0);
        }
    }

    fn resize(&self, size: usize) {
        self.size.set(size as u32);
    }
}

/// What came, to be handed out. A small part of the memory would keep all of it.
pub(crate) fn fitting(buffer: BytesMut) -> Bytes {
    if buffer.len() < buffer.capacity() / 2 { Bytes::copy_from_slice(&buffer) } else { buffer.freeze() }
}
