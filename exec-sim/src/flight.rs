//! [`Flight`]: where the operations in flight are.

use aioli_core::driver::OpId;

use crate::line::Direction;

/// Where an op waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Line(Direction),
    Polls,
    Watch,
}

/// Finds the socket and the line of an op by its id, whose low 32 bits are a small index.
#[derive(Debug, Default)]
pub(crate) struct Flight(Vec<Option<(OpId, usize, Side)>>);

impl Flight {
    pub(crate) fn insert(&mut self, id: OpId, socket: usize, side: Side) {
        let n = index(id);
        if n >= self.0.len() {
            self.0.resize(n + 1, None);
        }
        debug_assert!(self.0[n].is_none(), "two ops in flight share the low bits of {id:?}");
        self.0[n] = Some((id, socket, side));
    }

    pub(crate) fn remove(&mut self, id: OpId) -> Option<(usize, Side)> {
        let found = self.0.get_mut(index(id))?.take_if(|(known, ..)| *known == id)?;
        Some((found.1, found.2))
    }
}

fn index(id: OpId) -> usize {
    id.0 as u32 as usize
}
