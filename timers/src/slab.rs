//! The memory of the timers: nodes with a generation, found by index.

use std::num::NonZeroU32;

use crate::chunk::ROOM;
use crate::key::TimerKey;
use crate::run::PLACES;

/// No node, and no chunk.
pub(crate) const NIL: u32 = u32::MAX;

/// The most timers at once. A quarter of a thousand million is less than what a place can tell apart.
pub(crate) const MOST: u32 = 250_000_000;

/// Where a timer is: an entry of a list's chunk, a place in a run, or a state in which it is in neither.
pub(crate) type Place = u32;

/// In no list and not armed.
pub(crate) const IDLE: Place = Place::MAX;
/// Due, and waiting to be taken. Without a value if it was cancelled since.
pub(crate) const DUE: Place = Place::MAX - 1;
/// Holds no timer. No valid key leads here, save to a retired node by its very last key.
pub(crate) const VACANT: Place = Place::MAX - 2;
/// The first place in a run. What is below is an entry of a chunk.
pub(crate) const RUNS: Place = VACANT - PLACES as Place;

const _: () = assert!(RUNS / ROOM as Place >= MOST);

/// One timer, or the room for one.
pub(crate) struct Node<T> {
    generation: NonZeroU32,
    pub(crate) place: Place,
    /// Filled while the timer is idle, armed, or due and not cancelled.
    pub(crate) value: Option<T>,
}

// Four nodes a cache line for a payload of a pointer's size.
const _: () = assert!(size_of::<Node<&()>>() <= 16);

pub(crate) struct Slab<T> {
    pub(crate) nodes: Vec<Node<T>>,
    /// The vacant nodes that may be used again, the latest last. Were they chained through the nodes, taking several would mean waiting
    /// for one cache miss after the other.
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Slab { nodes: Vec::new(), free: Vec::new() }
    }

    /// An idle node with this value: one that was used before, or else a new one.
    #[inline]
    pub(crate) fn insert_with(&mut self, value: impl FnOnce() -> T) -> TimerKey {
        let free = self.free.pop();
        if let Some((index, node)) = free.and_then(|index| Some((index, self.nodes.get_mut(index as usize)?))) {
            node.place = IDLE;
            let before = node.value.replace(value());
            debug_assert!(before.is_none(), "a vacant node holds no value");
            // There is nothing to drop; saying so keeps a check and a call to T's destructor out of here.
            std::mem::forget(before);
            TimerKey { index, generation: node.generation }
        } else {
            self.grow(value())
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, value: T) -> TimerKey {
        let index = index_of_new(self.nodes.len());
        let generation = NonZeroU32::MIN;
        self.nodes.push(Node { generation, place: IDLE, value: Some(value) });
        TimerKey { index, generation }
    }

    /// The node that the key names, if it is of the key's generation.
    #[inline]
    pub(crate) fn get(&self, key: TimerKey) -> Option<&Node<T>> {
        self.nodes.get(key.index as usize).filter(|node| node.generation == key.generation)
    }

    /// As [`get`](Self::get), to change it.
    #[inline]
    pub(crate) fn get_mut(&mut self, key: TimerKey) -> Option<&mut Node<T>> {
        self.nodes.get_mut(key.index as usize).filter(|node| node.generation == key.generation)
    }

    /// The key of the timer that the node holds now.
    #[inline]
    pub(crate) fn key(&self, index: u32) -> TimerKey {
        TimerKey { index, generation: self.nodes[index as usize].generation }
    }

    /// Makes the node vacant and its key stale. The value must be out already.
    #[inline]
    pub(crate) fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        debug_assert!(node.value.is_none(), "the value is handed out before its node is released");
        node.place = VACANT;
        // After its last generation a node is retired: were it used again, an old key could name the new timer.
        if let Some(generation) = node.generation.checked_add(1) {
            node.generation = generation;
            self.free.push(index);
        }
    }
}

/// The index of the node that joins `nodes` others.
fn index_of_new(nodes: usize) -> u32 {
    match u32::try_from(nodes) {
        Ok(index) if index < MOST => index,
        _ => panic!("a TimerQueue cannot hold more than 250 million timers at once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_index_is_one_below_the_limit() {
        assert_eq!(index_of_new(0), 0);
        assert_eq!(index_of_new(MOST as usize - 1), MOST - 1);
    }

    #[test]
    #[should_panic(expected = "a TimerQueue cannot hold more than 250 million timers at once")]
    fn a_slab_that_is_full_says_so() {
        index_of_new(MOST as usize);
    }

    #[test]
    fn a_node_is_retired_after_its_last_generation() {
        let mut slab = Slab::new();
        let first = slab.insert_with(|| 'a');
        let node = slab.get_mut(first).unwrap();
        node.generation = NonZeroU32::MAX;
        node.value = None;
        let last = slab.key(first.index);
        slab.release(last.index);

        let next = slab.insert_with(|| 'b');
        assert_ne!(next.index, last.index, "a retired node was used again");
        let retired = slab.get(last).unwrap();
        assert_eq!((retired.place, retired.value), (VACANT, None));
        assert!(slab.get(first).is_none(), "a key of the first generation is stale");

        slab.get_mut(next).unwrap().value = None;
        slab.release(next.index);
        assert_eq!(slab.insert_with(|| 'c').index, next.index, "a node with generations left is used again");
    }
}
