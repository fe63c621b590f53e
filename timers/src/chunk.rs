//! The memory of the lists: chunks of entries in one arena.

use crate::slab::{MOST, NIL};

/// Entries a chunk, as many as there are bits to say which of them are live.
pub(crate) const ROOM: usize = u16::BITS as usize;

/// An armed timer, as a list knows it. The deadline is in two halves, which saves the bytes that would align it.
#[derive(Clone, Copy)]
struct Entry {
    low: u32,
    high: u32,
    index: u32,
}

/// Some timers of a list, in arming order.
#[derive(Clone, Copy)]
pub(crate) struct Chunk {
    entries: [Entry; ROOM],
    /// A bit an entry. Those that left early are holes, until all behind them have left, too.
    live: u16,
    pub(crate) list: u16,
    /// The neighbours in the list. Of a free chunk, `next` is another free one.
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

// A timer takes 13 bytes here at most, if its list is long and nobody left it early.
const _: () = assert!(size_of::<Chunk>() <= 13 * ROOM);

impl Chunk {
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.live >> (ROOM - 1) != 0
    }

    /// How many timers are left.
    #[inline]
    pub(crate) fn timers(&self) -> u32 {
        self.live.count_ones()
    }

    /// Adds an entry behind the last live one, and says where. The chunk must not be full.
    #[inline]
    pub(crate) fn push(&mut self, deadline: u64, index: u32) -> u32 {
        let slot = ROOM as u32 - self.live.leading_zeros();
        self.entries[slot as usize % ROOM] = Entry { low: deadline as u32, high: (deadline >> 32) as u32, index };
        self.live |= 1 << slot;
        slot
    }

    /// Takes an entry out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        self.live &= !(1 << slot);
    }

    #[inline]
    pub(crate) fn deadline(&self, slot: u32) -> u64 {
        let entry = &self.entries[slot as usize % ROOM];
        u64::from(entry.high) << 32 | u64::from(entry.low)
    }

    /// Takes all entries out.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.live = 0;
    }

    /// Calls `each` with the deadlines and the nodes of the live entries, in order.
    #[inline]
    pub(crate) fn for_each(&self, mut each: impl FnMut(u64, u32)) {
        let mut live = self.live;
        while live != 0 {
            let slot = live.trailing_zeros();
            live &= live - 1;
            each(self.deadline(slot), self.entries[slot as usize % ROOM].index);
        }
    }
}

/// The chunks of all lists, and those that none uses now.
pub(crate) struct Chunks {
    chunks: Vec<Chunk>,
    free: u32,
}

impl Chunks {
    pub(crate) const fn new() -> Self {
        Chunks { chunks: Vec::new(), free: NIL }
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&Chunk> {
        self.chunks.get(at as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Chunk> {
        self.chunks.get_mut(at as usize)
    }

    /// An empty chunk for a list, with a neighbour in front.
    #[inline]
    pub(crate) fn allocate(&mut self, list: u16, prev: u32) -> u32 {
        let at = self.free;
        if let Some(chunk) = self.chunks.get_mut(at as usize) {
            self.free = chunk.next;
            (chunk.list, chunk.prev, chunk.next) = (list, prev, NIL);
            return at;
        }
        // Each chunk of a list has a live timer, so there are no more chunks than there can be timers.
        let at = self.chunks.len() as u32;
        debug_assert!(at < MOST);
        let entries = [Entry { low: 0, high: 0, index: NIL }; ROOM];
        self.chunks.push(Chunk { entries, live: 0, list, prev, next: NIL });
        at
    }

    /// Frees a chunk that no list leads to any more.
    #[inline]
    pub(crate) fn free(&mut self, at: u32) {
        let chunk = &mut self.chunks[at as usize];
        chunk.clear();
        chunk.next = self.free;
        self.free = at;
    }

    /// Forgets all chunks. Their memory is kept.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.free = NIL;
    }

    /// How many chunks there ever were.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.chunks.len()
    }
}
