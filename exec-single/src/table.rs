//! [`Table`]: all entries, by their ids and by their descriptors.

use std::ops::{Index, IndexMut};
use std::os::fd::RawFd;

use aioli_core::op::Resource;
use aioli_exec_linux::Slots;

use crate::resource::Entry;

/// The entries of a driver.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Slots<Entry>,
    /// The place of the entry that has a descriptor, by the descriptor's number: the kernel gives out the lowest that is free.
    holders: Vec<Option<u32>>,
}

impl Table {
    pub(crate) fn insert(&mut self, entry: Entry) -> usize {
        let fd = number(entry.fd.raw());
        let n = Slots::<Entry>::place(self.slots.insert(entry));
        if fd >= self.holders.len() {
            self.holders.resize(fd + 1, None);
        }
        self.holders[fd] = Some(n as u32);
        n
    }

    pub(crate) fn remove(&mut self, n: usize) -> Entry {
        let entry = self.slots.remove(n);
        let holder = &mut self.holders[number(entry.fd.raw())];
        holder.take_if(|holder| *holder as usize == n);
        entry
    }

    pub(crate) fn id(&self, n: usize) -> Resource {
        Resource(self.slots.id(n))
    }

    /// The place of a resource, if it is not closed.
    pub(crate) fn resource(&self, id: Resource) -> Option<usize> {
        let (n, entry) = self.slots.find(id.0)?;
        (!entry.is_watched()).then_some(n)
    }

    /// An entry and its place, if it is still there.
    #[inline]
    pub(crate) fn find_mut(&mut self, id: Resource) -> Option<(usize, &mut Entry)> {
        self.slots.find_mut(id.0)
    }

    /// Has the processor fetch an entry.
    #[inline]
    pub(crate) fn prefetch(&self, id: Resource) {
        self.slots.prefetch(Slots::<Entry>::place(id.0));
    }

    pub(crate) fn holder(&self, fd: RawFd) -> Option<usize> {
        let n = *self.holders.get(usize::try_from(fd).ok()?)?;
        n.map(|n| n as usize)
    }

    /// Gives an entry a new id, so that events of the old one are stale.
    pub(crate) fn renew(&mut self, n: usize) {
        self.slots.renew(n);
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.holders.clear();
        self.slots.drain()
    }
}

impl Index<usize> for Table {
    type Output = Entry;
    fn index(&self, n: usize) -> &Entry {
        &self.slots[n]
    }
}

impl IndexMut<usize> for Table {
    fn index_mut(&mut self, n: usize) -> &mut Entry {
        &mut self.slots[n]
    }
}

/// Descriptors are not negative.
fn number(fd: RawFd) -> usize {
    usize::try_from(fd).expect("a descriptor is open")
}
