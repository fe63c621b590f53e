//! [`Slots`]: a table whose places are used again.

use std::ops::{Index, IndexMut};

use aioli_core::driver::prefetch;
use slab::Slab;

/// Items by their places, which are small numbers.
///
/// An item's id is its place in the low half, and above that a number that no other item had: an id of an item that was removed is
/// recognised although the place is used again. Items begin at a line of the processor's caches.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Slab<Slot<T>>,
    generation: u32,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot<T> {
    generation: u32,
    item: T,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { slots: Slab::new(), generation: 0 }
    }
}

impl<T> Slots<T> {
    /// What an item takes.
    pub const SIZE: usize = size_of::<Slot<T>>();

    /// Adds an item. Returns its id.
    pub fn insert(&mut self, item: T) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        id(self.generation, self.slots.insert(Slot { generation: self.generation, item }))
    }

    /// The id of the item at a place.
    #[inline]
    pub fn id(&self, n: usize) -> u64 {
        id(self.slots[n].generation, n)
    }

    /// The place in an id.
    #[inline]
    pub fn place(id: u64) -> usize {
        id as u32 as usize
    }

    /// An item and its place, if it is still there.
    #[inline]
    pub fn find(&self, id: u64) -> Option<(usize, &T)> {
        let n = Self::place(id);
        let slot = self.slots.get(n)?;
        (u64::from(slot.generation) == id >> 32).then_some((n, &slot.item))
    }

    /// The same, to change it.
    #[inline]
    pub fn find_mut(&mut self, id: u64) -> Option<(usize, &mut T)> {
        let n = Self::place(id);
        let slot = self.slots.get_mut(n)?;
        (u64::from(slot.generation) == id >> 32).then_some((n, &mut slot.item))
    }

    /// The item at a place, if there is one.
    pub fn get(&self, n: usize) -> Option<&T> {
        self.slots.get(n).map(|slot| &slot.item)
    }

    /// The same, to change it.
    #[inline]
    pub fn get_mut(&mut self, n: usize) -> Option<&mut T> {
        self.slots.get_mut(n).map(|slot| &mut slot.item)
    }

    /// Has the processor fetch an item.
    #[inline]
    pub fn prefetch(&self, n: usize) {
        if let Some(slot) = self.slots.get(n) {
            prefetch(slot);
        }
    }

    /// Takes an item out.
    pub fn remove(&mut self, n: usize) -> T {
        self.slots.remove(n).item
    }

    /// Takes an item out, if it is still there.
    pub fn take(&mut self, id: u64) -> Option<T> {
        let (n, _) = self.find(id)?;
        Some(self.remove(n))
    }

    /// Gives an item a new id.
    pub fn renew(&mut self, n: usize) {
        self.generation = self.generation.wrapping_add(1);
        self.slots[n].generation = self.generation;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The ids of all items.
    pub fn ids(&self) -> Vec<u64> {
        self.slots.iter().map(|(n, slot)| id(slot.generation, n)).collect()
    }

    /// All items.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().map(|(_, slot)| &mut slot.item)
    }

    /// Takes all items out.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.slots.drain().map(|slot| slot.item)
    }
}

#[inline]
fn id(generation: u32, place: usize) -> u64 {
    u64::from(generation) << 32 | place as u64
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;
    #[inline]
    fn index(&self, n: usize) -> &T {
        &self.slots[n].item
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, n: usize) -> &mut T {
        &mut self.slots[n].item
    }
}
