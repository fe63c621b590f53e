//! [`Table`]: all entries, by their ids and by their descriptors.

use std::ops::{Index, IndexMut};
use std::os::fd::RawFd;

use aioli_core::driver::prefetch;
use aioli_core::op::Resource;
use slab::Slab;

use crate::resource::Entry;

/// The entries of a driver.
///
/// The id of an entry is its place, and above that a number that no other entry had: an id or an event of an entry that was removed
/// is recognised although the place is used again.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Slab<Slot>,
    generation: u32,
    /// The place of the entry that has a descriptor, by the descriptor's number: the kernel gives out the lowest that is free.
    holders: Vec<Option<u32>>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    generation: u32,
    entry: Entry,
}

impl Table {
    pub(crate) fn insert(&mut self, entry: Entry) -> usize {
        let fd = number(entry.fd.raw());
        self.generation = self.generation.wrapping_add(1);
        let n = self.slots.insert(Slot { generation: self.generation, entry });
        if fd >= self.holders.len() {
            self.holders.resize(fd + 1, None);
        }
        self.holders[fd] = Some(n as u32);
        n
    }

    pub(crate) fn remove(&mut self, n: usize) -> Entry {
        let entry = self.slots.remove(n).entry;
        let holder = &mut self.holders[number(entry.fd.raw())];
        holder.take_if(|holder| *holder as usize == n);
        entry
    }

    pub(crate) fn id(&self, n: usize) -> Resource {
        Resource(u64::from(self.slots[n].generation) << 32 | n as u64)
    }

    /// The place of an entry, if it is still there.
    pub(crate) fn find(&self, id: Resource) -> Option<usize> {
        let n = id.0 as u32 as usize;
        let slot = self.slots.get(n)?;
        (u64::from(slot.generation) == id.0 >> 32).then_some(n)
    }

    /// The place of a resource, if it is not closed.
    pub(crate) fn resource(&self, id: Resource) -> Option<usize> {
        self.find(id).filter(|&n| !self[n].is_watched())
    }

    /// An entry and its place, if it is still there.
    #[inline]
    pub(crate) fn find_mut(&mut self, id: Resource) -> Option<(usize, &mut Entry)> {
        let n = id.0 as u32 as usize;
        let slot = self.slots.get_mut(n)?;
        (u64::from(slot.generation) == id.0 >> 32).then_some((n, &mut slot.entry))
    }

    /// Has the processor fetch an entry.
    #[inline]
    pub(crate) fn prefetch(&self, id: Resource) {
        if let Some(slot) = self.slots.get(id.0 as u32 as usize) {
            prefetch(slot);
        }
    }

    pub(crate) fn holder(&self, fd: RawFd) -> Option<usize> {
        let n = *self.holders.get(usize::try_from(fd).ok()?)?;
        n.map(|n| n as usize)
    }

    /// Gives an entry a new id, so that events of the old one are stale.
    pub(crate) fn renew(&mut self, n: usize) {
        self.generation = self.generation.wrapping_add(1);
        self.slots[n].generation = self.generation;
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().map(|(_, slot)| &mut slot.entry)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.holders.clear();
        self.slots.drain().map(|slot| slot.entry)
    }
}

impl Index<usize> for Table {
    type Output = Entry;
    fn index(&self, n: usize) -> &Entry {
        &self.slots[n].entry
    }
}

impl IndexMut<usize> for Table {
    fn index_mut(&mut self, n: usize) -> &mut Entry {
        &mut self.slots[n].entry
    }
}

/// Descriptors are not negative.
fn number(fd: RawFd) -> usize {
    usize::try_from(fd).expect("a descriptor is open")
}
