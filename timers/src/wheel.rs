//! The order of the armed timers: lists by the magnitude of what is left until the deadline.

use crate::chunk::{Chunk, Chunks, ROOM};
use crate::slab::{NIL, Place};

/// A digit is 6 bits of a deadline, so that a row's lists fit one bitmap.
const DIGIT_BITS: u32 = 6;
/// Lists a row.
const WIDTH: usize = 1 << DIGIT_BITS;
/// The row of the deadlines before the base; only its first list is used. The row of digit `n` is `n + 1`.
const PAST: usize = 0;
/// One row for the past and one for each of the 11 digits of a `u64`.
pub(crate) const ROWS: usize = 1 + u64::BITS.div_ceil(DIGIT_BITS) as usize;
const LISTS: usize = ROWS * WIDTH;
/// A chunk that has so few timers left is joined with a neighbour…
const SPARSE: u8 = 2;
/// …if both have no more than so many: then it takes a while until it can be joined again.
const JOINED: u8 = ROOM as u8 / 2;

/// Timers in arming order, in a chain of chunks.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    timers: u32,
    /// No deadline in the list is lower. It is one of theirs, unless the timer it came from left early: see `Row::loose`.
    bound: u64,
}

/// What is in a row's lists, a bit a list.
#[derive(Clone, Copy)]
struct Row {
    occupied: u64,
    /// The list's `bound` may be lower than each of its deadlines.
    loose: u64,
}

/// The armed timers, in lists.
///
/// Deadlines and the base are read as numbers of 11 digits to the base 64. A timer that differs from the base first in digit `n`, where
/// it has digit `d`, is in list `d` of digit `n`'s row. So the first list of the lowest row that has any holds the earliest timers, and
/// all deadlines in a list of digit 0's row are equal.
///
/// The base is the latest `now`. Moving it on changes the place of those timers alone that are in the list that the new base falls into:
/// it is the first one left after everything due is gone, and it is then emptied. Its timers become a [run](crate::run) if they are few
/// and near, and are spread over the rows below otherwise. A timer is moved in this way at most once a row.
///
/// A timer that moves is copied from one chunk to another, and its node is told its new place; nothing is read from the node. So the
/// processor need not wait for the memory of one timer to find the next.
///
/// **Equal deadlines stay in arming order.** A place follows from the deadline and the base alone, and each move of the base keeps it up
/// for every timer; so at any time equal deadlines are in one list, however long ago each was armed, if they are not in a run. New timers
/// join a list at its end. Spreading a list walks it from its head, and the lists it fills were empty: they would have held only
/// deadlines that the base has passed. So no step changes the order of two equal deadlines.
pub(crate) struct Wheel {
    base: u64,
    /// A bit for each row with an occupied list.
    occupied: u16,
    rows: [Row; ROWS],
    lists: Box<[List; LISTS]>,
    chunks: Chunks,
}

/// How much of a list is due.
pub(crate) enum Reach {
    /// All of it.
    Whole,
    /// Perhaps some of it: `now` falls into the list.
    Part,
    /// Nothing, nor does `now` fall into it.
    Nothing,
}

impl Wheel {
    pub(crate) fn new(base: u64) -> Self {
        Wheel {
            base,
            occupied: 0,
            rows: [Row { occupied: 0, loose: 0 }; ROWS],
            lists: Box::new([List { head: NIL, tail: NIL, timers: 0, bound: 0 }; LISTS]),
            chunks: Chunks::new(),
        }
    }

    /// The latest time that this wheel was moved to.
    #[inline]
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The base becomes `now`, the latest. Everything before it must have left the lists, and the list that it falls into, if that is not
    /// one of digit 0, must be emptied next and its timers linked anew.
    #[inline]
    pub(crate) fn set_base(&mut self, now: u64) {
        debug_assert!(now >= self.base);
        self.base = now;
    }

    /// The list for a deadline.
    #[inline]
    fn list(&self, deadline: u64) -> usize {
        if deadline < self.base {
            return PAST * WIDTH;
        }
        let digit = ((deadline ^ self.base) | 1).ilog2() / DIGIT_BITS;
        let value = (deadline >> (digit * DIGIT_BITS)) as usize % WIDTH;
        (digit as usize + 1) * WIDTH + value
    }

    /// Puts a timer at the end of its list, and returns its place.
    #[inline]
    pub(crate) fn push(&mut self, index: u32, deadline: u64) -> Place {
        let number = self.list(deadline);
        let list = &mut self.lists[number];
        let at = list.tail;
        match self.chunks.get_mut(at) {
            Some(chunk) if !chunk.is_full() => {
                list.timers += 1;
                list.bound = list.bound.min(deadline);
                at * ROOM as u32 + chunk.push(deadline, index)
            }
            _ => self.push_on_new_chunk(number, index, deadline),
        }
    }

    #[inline(never)]
    fn push_on_new_chunk(&mut self, number: usize, index: u32, deadline: u64) -> Place {
        let list = &mut self.lists[number];
        let (at, chunk) = self.chunks.allocate(number as u16, list.tail);
        let place = at * ROOM as u32 + chunk.push(deadline, index);
        match self.chunks.get_mut(list.tail) {
            Some(tail) => {
                tail.next = at;
                list.bound = list.bound.min(deadline);
            }
            None => {
                list.head = at;
                list.bound = deadline;
                self.rows[number / WIDTH].occupied |= 1 << (number % WIDTH);
                self.occupied |= 1 << (number / WIDTH);
            }
        }
        list.tail = at;
        list.timers += 1;
        place
    }

    /// Takes out the timer at a place. Others may have to move: `moved` is told their nodes and new places.
    #[inline]
    pub(crate) fn remove(&mut self, place: Place, moved: impl FnMut(u32, Place)) {
        let (at, slot) = (place / ROOM as u32, place % ROOM as u32);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        let (number, deadline) = (usize::from(chunk.list), chunk.deadline(slot));
        let list = &mut self.lists[number];
        list.timers -= 1;
        match chunk.remove(slot) {
            0 => {
                self.unlink(at);
                if self.lists[number].timers == 0 {
                    return self.vacate(number);
                }
            }
            // Not each time, since the neighbours are seldom in the cache.
            SPARSE if chunk.prev & chunk.next != NIL => self.join(at, moved),
            _ => (),
        }
        if deadline == self.lists[number].bound {
            self.rows[number / WIDTH].loose |= 1 << (number % WIDTH);
        }
    }

    /// Takes an empty chunk out of its list.
    #[inline]
    fn unlink(&mut self, at: u32) {
        let Some(&Chunk { list, prev, next, .. }) = self.chunks.get(at) else { return };
        let list = &mut self.lists[usize::from(list)];
        match self.chunks.get_mut(prev) {
            Some(prev) => prev.next = next,
            None => list.head = next,
        }
        match self.chunks.get_mut(next) {
            Some(next) => next.prev = prev,
            None => list.tail = prev,
        }
        self.chunks.free(at);
    }

    /// Makes one chunk of a sparse one and a neighbour, if they fit well. So many short timers between few long ones leave no more than
    /// a chunk for two of these. A chunk is made after some `ROOM` timers and joined once, so it is less than one move a timer.
    #[inline(never)]
    fn join(&mut self, at: u32, mut moved: impl FnMut(u32, Place)) {
        let timers = |at| self.chunks.get(at).map_or(JOINED, Chunk::timers);
        let Some(chunk) = self.chunks.get(at) else { return };
        let (first, second) = if timers(chunk.next) + chunk.timers() <= JOINED {
            (at, chunk.next)
        } else if timers(chunk.prev) + chunk.timers() <= JOINED {
            (chunk.prev, at)
        } else {
            return;
        };
        let (Some(&front), Some(&back)) = (self.chunks.get(first), self.chunks.get(second)) else { return };
        self.chunks.free(second);
        match self.chunks.get_mut(back.next) {
            Some(next) => next.prev = first,
            None => self.lists[usize::from(back.list)].tail = first,
        }
        let Some(joined) = self.chunks.get_mut(first) else { return };
        joined.next = back.next;
        joined.clear();
        for half in [front, back] {
            half.for_each(|deadline, index| moved(index, first * ROOM as u32 + joined.push(deadline, index)));
        }
    }

    /// The deadline of the timer at a place.
    #[inline]
    pub(crate) fn deadline(&self, place: Place) -> Option<u64> {
        Some(self.chunks.get(place / ROOM as u32)?.deadline(place % ROOM as u32))
    }

    /// Notes that the list has become empty.
    #[inline]
    fn vacate(&mut self, list: usize) {
        let row = &mut self.rows[list / WIDTH];
        row.occupied &= !(1 << (list % WIDTH));
        row.loose &= !(1 << (list % WIDTH));
        if row.occupied == 0 {
            self.occupied &= !(1 << (list / WIDTH));
        }
    }

    /// The list with the earliest timers, if any is armed.
    #[inline]
    pub(crate) fn first(&self) -> Option<usize> {
        if self.occupied == 0 {
            return None;
        }
        let row = self.occupied.trailing_zeros() as usize;
        Some(row * WIDTH + self.rows[row].occupied.trailing_zeros() as usize)
    }

    /// No deadline in this occupied list is lower.
    #[inline]
    pub(crate) fn bound(&self, list: usize) -> u64 {
        self.lists[list].bound
    }

    /// Makes the bound of this occupied list the lowest of its deadlines.
    pub(crate) fn tighten(&mut self, list: usize) {
        let bit = 1 << (list % WIDTH);
        if self.rows[list / WIDTH].loose & bit == 0 {
            return;
        }
        let mut lowest = u64::MAX;
        let mut next = self.lists[list].head;
        while let Some(chunk) = self.chunks.get(next) {
            chunk.for_each(|deadline, _| lowest = lowest.min(deadline));
            next = chunk.next;
        }
        self.lists[list].bound = lowest;
        self.rows[list / WIDTH].loose &= !bit;
    }

    /// The row of a list, and how many timers it has.
    #[inline]
    pub(crate) fn row_and_timers(&self, list: usize) -> (usize, usize) {
        (list / WIDTH, self.lists[list].timers as usize)
    }

    /// The digits that may differ within a list, all set.
    #[inline]
    fn within(list: usize) -> u64 {
        match list / WIDTH {
            PAST => 0,
            row => (1 << ((row - 1) as u32 * DIGIT_BITS)) - 1,
        }
    }

    /// The lowest deadline that belongs in this occupied list.
    #[inline]
    pub(crate) fn start(&self, list: usize) -> u64 {
        // A bound, loose or not, is one of the deadlines that belong in it.
        self.lists[list].bound & !Self::within(list)
    }

    /// How far `now` reaches into this list, which must be the first.
    #[inline]
    pub(crate) fn reach(&self, list: usize, now: u64) -> Reach {
        let (bound, within) = (self.lists[list].bound, Self::within(list));
        if bound | within <= now {
            Reach::Whole
        } else if bound & !within <= now {
            Reach::Part
        } else {
            Reach::Nothing
        }
    }

    /// Empties the list and gives its deadlines and nodes, from the head, to `each`, which must leave them in another place.
    #[inline]
    pub(crate) fn empty(&mut self, list: usize, mut each: impl FnMut(&mut Self, u64, u32)) {
        let List { head: mut at, .. } = self.lists[list];
        self.forget(list);
        while let Some(&chunk) = self.chunks.get(at) {
            // Free at once, so that `each` uses again what is in the cache.
            self.chunks.free(at);
            at = chunk.next;
            chunk.for_each(|deadline, index| each(self, deadline, index));
        }
    }

    fn forget(&mut self, list: usize) {
        self.lists[list] = List { head: NIL, tail: NIL, timers: 0, bound: 0 };
        self.vacate(list);
    }

    /// How many chunks there ever were.
    #[cfg(test)]
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.count()
    }

    /// Forgets every timer. The base stays.
    pub(crate) fn clear(&mut self) {
        while let Some(list) = self.first() {
            self.forget(list);
        }
        self.chunks.clear();
    }
}
