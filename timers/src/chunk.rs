//! The memory of the lists: chunks of entries in one arena.

use crate::slab::{MOST, NIL};

/// Entries a chunk.
pub(crate) const ROOM: usize = 16;

/// An armed timer, as a list knows it. The deadline is in two halves, which saves the bytes that would align it.
#[derive(Clone, Copy)]
struct Entry {
    low: u32,
    high: u32,
    /// The node; [`NIL`] if the timer left early. Such holes stay until all behind them have left, too.
    index: u32,
}

/// Some timers of a list, in arming order.
#[derive(Clone, Copy)]
pub(crate) struct Chunk {
    entries: [Entry; ROOM],
    pub(crate) list: u16,
    /// Entries, with holes and without. The last entry is no hole.
    length: u8,
    timers: u8,
    /// The neighbours in the list. Of a free chunk, `next` is another free one.
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

// A timer takes 13 bytes here at most, if its list is long and nobody left it early.
const _: () = assert!(size_of::<Chunk>() <= 13 * ROOM);

impl Chunk {
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        usize::from(self.length) == ROOM
    }

    /// How many timers are left.
    #[inline]
    pub(crate) fn timers(&self) -> u8 {
        self.timers
    }

    /// Adds an entry behind the last one, and says where. The chunk must not be full.
    #[inline]
    pub(crate) fn push(&mut self, deadline: u64, index: u32) -> u32 {
        let slot = self.length;
        self.entries[usize::from(slot) % ROOM] = Entry { low: deadline as u32, high: (deadline >> 32) as u32, index };
        self.length += 1;
        self.timers += 1;
        slot.into()
    }

    /// Takes an entry out, and says how many timers are left.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) -> u8 {
        self.timers -= 1;
        self.entries[slot as usize % ROOM].index = NIL;
        if self.timers == 0 {
            self.length = 0;
        } else if slot + 1 == self.length.into() {
            self.length -= 1;
            while self.length > 0 && self.entries[usize::from(self.length - 1) % ROOM].index == NIL {
                self.length -= 1;
            }
        }
        self.timers
    }

    #[inline]
    pub(crate) fn deadline(&self, slot: u32) -> u64 {
        let entry = &self.entries[slot as usize % ROOM];
        u64::from(entry.high) << 32 | u64::from(entry.low)
    }

    /// Takes all entries out.
    #[inline]
    pub(crate) fn clear(&mut self) {
        (self.length, self.timers) = (0, 0);
    }

    /// Calls `each` with the deadlines and the nodes of the timers, in order.
    #[inline]
    pub(crate) fn for_each(&self, mut each: impl FnMut(u64, u32)) {
        for slot in 0..self.length.into() {
            let index = self.entries[slot as usize % ROOM].index;
            if index != NIL {
                each(self.deadline(slot), index);
            }
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
    pub(crate) fn allocate(&mut self, list: u16, prev: u32) -> (u32, &mut Chunk) {
        let mut at = self.free;
        if at == NIL {
            at = self.grow();
        }
        let chunk = &mut self.chunks[at as usize];
        self.free = chunk.next;
        (chunk.list, chunk.prev, chunk.next) = (list, prev, NIL);
        (at, chunk)
    }

    /// Adds a chunk, as if it were the only free one.
    #[cold]
    fn grow(&mut self) -> u32 {
        // Each chunk of a list has a timer, so there are no more chunks than there can be timers.
        let at = self.chunks.len() as u32;
        debug_assert!(at < MOST);
        let entries = [Entry { low: 0, high: 0, index: NIL }; ROOM];
        self.chunks.push(Chunk { entries, list: 0, length: 0, timers: 0, prev: NIL, next: NIL });
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
