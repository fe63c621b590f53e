//! [`Flight`]: where the operations in flight are.

use aioli_core::driver::OpId;
use aioli_exec_linux::Direction;

/// Where in an entry an op waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Line(Direction),
    Polls,
    Watch,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    id: OpId,
    entry: u32,
    side: Side,
}

/// Finds the entry and the line of an op by its id.
///
/// The low 32 bits of an id are its place in a table of the loop's, and small: they index a table here too, so that nothing is
/// hashed. The high bits tell ids of one place apart.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    places: Vec<Option<Place>>,
    count: usize,
}

impl Flight {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn insert(&mut self, id: OpId, entry: usize, side: Side) {
        let n = index(id);
        if n >= self.places.len() {
            self.places.resize(n + 1, None);
        }
        debug_assert!(self.places[n].is_none(), "two ops in flight share the low bits of {id:?}");
        // Entries are fewer than descriptors.
        self.places[n] = Some(Place { id, entry: entry as u32, side });
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, id: OpId) -> Option<(usize, Side)> {
        let place = self.places.get_mut(index(id))?;
        let found = place.take_if(|place| place.id == id)?;
        self.count -= 1;
        Some((found.entry as usize, found.side))
    }
}

fn index(id: OpId) -> usize {
    id.0 as u32 as usize
}
