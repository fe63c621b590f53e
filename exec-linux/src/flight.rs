//! [`Flight`]: where the operations in flight are.

use aioli_core::driver::OpId;

/// Finds the place of an op by its id.
///
/// The low 32 bits of an id are its place in a table of the loop's, and small: they index a table here too, so that nothing is
/// hashed. The high bits tell ids of one place apart.
#[derive(Debug)]
pub struct Flight<P> {
    places: Vec<Option<(OpId, P)>>,
    count: usize,
}

impl<P> Default for Flight<P> {
    fn default() -> Self {
        Flight { places: Vec::new(), count: 0 }
    }
}

impl<P: Copy> Flight<P> {
    /// Whether no op is in flight.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes an op in.
    pub fn insert(&mut self, id: OpId, place: P) {
        let n = index(id);
        if n >= self.places.len() {
            self.places.resize(n + 1, None);
        }
        debug_assert!(self.places[n].is_none(), "two ops in flight share the low bits of {id:?}");
        self.places[n] = Some((id, place));
        self.count += 1;
    }

    /// Where an op is, if it is in flight.
    pub fn find(&self, id: OpId) -> Option<P> {
        let (known, place) = self.places.get(index(id))?.as_ref()?;
        (*known == id).then_some(*place)
    }

    /// Takes an op out. Returns where it was.
    pub fn remove(&mut self, id: OpId) -> Option<P> {
        let place = self.places.get_mut(index(id))?;
        let (_, found) = place.take_if(|(known, _)| *known == id)?;
        self.count -= 1;
        Some(found)
    }
}

fn index(id: OpId) -> usize {
    id.0 as u32 as usize
}
