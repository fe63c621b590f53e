//! The order of the armed timers: lists by the magnitude of what is left until the deadline.

use crate::slab::{NIL, Node, Place};

/// A digit is 6 bits of a deadline, so that a row's lists fit one bitmap.
const DIGIT_BITS: u32 = 6;
/// Lists a row.
const WIDTH: usize = 1 << DIGIT_BITS;
/// The row of the deadlines before the base; only its first list is used. The row of digit `n` is `n + 1`.
const PAST: usize = 0;
/// One row for the past and one for each of the 11 digits of a `u64`.
const ROWS: usize = 1 + u64::BITS.div_ceil(DIGIT_BITS) as usize;
const LISTS: usize = ROWS * WIDTH;

/// Timers in arming order, linked through their nodes.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
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
/// it is the first one left after everything due is gone, and it is then spread over the rows below. A timer is moved in this way at most
/// once a row.
///
/// **Equal deadlines stay in arming order.** A place follows from the deadline and the base alone, and each move of the base keeps it up
/// for every timer; so at any time equal deadlines are in one list, however long ago each was armed. New timers join a list at its end.
/// Spreading a list walks it from its head, and the lists it fills were empty: they would have held only deadlines that the base has
/// passed. So no step changes the order of two equal deadlines.
pub(crate) struct Wheel {
    base: u64,
    /// A bit for each row with an occupied list.
    occupied: u16,
    armed: usize,
    rows: [Row; ROWS],
    lists: Box<[List; LISTS]>,
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
            armed: 0,
            rows: [Row { occupied: 0, loose: 0 }; ROWS],
            lists: Box::new([List { head: NIL, tail: NIL, bound: 0 }; LISTS]),
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

    #[inline]
    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    #[inline]
    fn place(&self, deadline: u64) -> usize {
        if deadline < self.base {
            return PAST * WIDTH;
        }
        let digit = ((deadline ^ self.base) | 1).ilog2() / DIGIT_BITS;
        let value = (deadline >> (digit * DIGIT_BITS)) as usize % WIDTH;
        (digit as usize + 1) * WIDTH + value
    }

    /// Whether this is the place of a node in a list.
    #[inline]
    pub(crate) const fn is_list(place: Place) -> bool {
        (place as usize) < LISTS
    }

    /// Puts a node that is in no list at the end of its list.
    #[inline]
    pub(crate) fn link<T>(&mut self, nodes: &mut [Node<T>], index: u32, deadline: u64) {
        let place = self.place(deadline);
        let (row, bit) = (place / WIDTH, 1 << (place % WIDTH));
        let list = &mut self.lists[place];
        let tail = list.tail;
        list.tail = index;
        if tail == NIL {
            list.head = index;
            list.bound = deadline;
            self.rows[row].occupied |= bit;
            self.occupied |= 1 << row;
        } else {
            nodes[tail as usize].next = index;
            list.bound = list.bound.min(deadline);
        }
        let node = &mut nodes[index as usize];
        node.deadline = deadline;
        node.prev = tail;
        node.next = NIL;
        node.place = place as Place;
        self.armed += 1;
    }

    /// Takes a node out of its list. Its `place` is left to the caller.
    #[inline]
    pub(crate) fn unlink<T>(&mut self, nodes: &mut [Node<T>], index: u32) {
        let &Node { deadline, prev, next, place, .. } = &nodes[index as usize];
        let place = place as usize;
        let list = &mut self.lists[place];
        if prev == NIL {
            list.head = next;
        } else {
            nodes[prev as usize].next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            nodes[next as usize].prev = prev;
        }
        if list.head == NIL {
            self.vacate(place);
        } else if deadline == list.bound {
            self.rows[place / WIDTH].loose |= 1 << (place % WIDTH);
        }
        self.armed -= 1;
    }

    /// Notes that the list has become empty.
    #[inline]
    fn vacate(&mut self, place: usize) {
        let row = &mut self.rows[place / WIDTH];
        row.occupied &= !(1 << (place % WIDTH));
        row.loose &= !(1 << (place % WIDTH));
        if row.occupied == 0 {
            self.occupied &= !(1 << (place / WIDTH));
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
    pub(crate) fn tighten<T>(&mut self, nodes: &[Node<T>], list: usize) {
        let bit = 1 << (list % WIDTH);
        if self.rows[list / WIDTH].loose & bit == 0 {
            return;
        }
        let mut lowest = u64::MAX;
        let mut next = self.lists[list].head;
        while let Some(node) = nodes.get(next as usize) {
            lowest = lowest.min(node.deadline);
            next = node.next;
        }
        self.lists[list].bound = lowest;
        self.rows[list / WIDTH].loose &= !bit;
    }

    /// How far `now` reaches into this list, which must be the first.
    #[inline]
    pub(crate) fn reach(&self, list: usize, now: u64) -> Reach {
        let bound = self.lists[list].bound;
        // The digits that may differ within the list. A bound, loose or not, is one of the deadlines that belong in it.
        let within = match list / WIDTH {
            PAST => 0,
            row => (1 << ((row - 1) as u32 * DIGIT_BITS)) - 1,
        };
        if bound | within <= now {
            Reach::Whole
        } else if bound & !within <= now {
            Reach::Part
        } else {
            Reach::Nothing
        }
    }

    /// Empties the list and gives its nodes, from the head, to `each`, which must leave them in another place.
    #[inline]
    pub(crate) fn unlink_all<T>(
        &mut self,
        nodes: &mut [Node<T>],
        list: usize,
        mut each: impl FnMut(&mut Self, &mut [Node<T>], u32),
    ) {
        let mut index = self.lists[list].head;
        self.lists[list].head = NIL;
        self.lists[list].tail = NIL;
        self.vacate(list);
        while index != NIL {
            let next = nodes[index as usize].next;
            self.armed -= 1;
            each(self, nodes, index);
            index = next;
        }
    }

    /// Forgets every timer. The base stays.
    pub(crate) fn clear(&mut self) {
        while let Some(list) = self.first() {
            self.lists[list].head = NIL;
            self.lists[list].tail = NIL;
            self.vacate(list);
        }
        self.armed = 0;
    }
}
