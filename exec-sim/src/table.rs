//! [`Table`]: all sockets, by their ids.

use std::ops::{Index, IndexMut};

use aioli_core::op::Resource;
use slab::Slab;

use crate::errno::Errno;
use crate::socket::Socket;

/// The sockets of a machine. An id is a place, and above it a number that no other socket had.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Slab<(u32, Socket)>,
    generation: u32,
}

impl Table {
    pub(crate) fn insert(&mut self, socket: Socket) -> usize {
        self.generation = self.generation.wrapping_add(1);
        self.slots.insert((self.generation, socket))
    }

    pub(crate) fn remove(&mut self, n: usize) -> Socket {
        self.slots.remove(n).1
    }

    pub(crate) fn id(&self, n: usize) -> Resource {
        Resource(u64::from(self.slots[n].0) << 32 | n as u64)
    }

    pub(crate) fn find(&self, id: Resource) -> Result<usize, Errno> {
        let n = id.0 as u32 as usize;
        match self.slots.get(n) {
            Some((generation, _)) if u64::from(*generation) == id.0 >> 32 => Ok(n),
            _ => Err(Errno::BADF),
        }
    }

    pub(crate) fn get_mut(&mut self, n: usize) -> Option<&mut Socket> {
        self.slots.get_mut(n).map(|(_, socket)| socket)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The places of all sockets.
    pub(crate) fn places(&self) -> Vec<usize> {
        self.slots.iter().map(|(n, _)| n).collect()
    }
}

impl Index<usize> for Table {
    type Output = Socket;
    fn index(&self, n: usize) -> &Socket {
        &self.slots[n].1
    }
}

impl IndexMut<usize> for Table {
    fn index_mut(&mut self, n: usize) -> &mut Socket {
        &mut self.slots[n].1
    }
}
