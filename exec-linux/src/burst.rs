//! [`Burst`]: whether small sends wait for the end of the turn.

/// A turn in which fewer connections send is no busy one.
const MANY: u32 = 8;

/// Whether small sends wait for the end of the turn.
///
/// They do after some busy turns in a row, but for those of the connection that is the first in its turn. A program that sends and then
/// keeps its thread from going on, to wait for the answer in another way say, so has sent what it believes to have sent, unless many
/// other connections send at the same time all along.
#[derive(Debug)]
pub struct Burst {
    /// So many busy turns make one.
    patience: u32,
    /// Busy turns in a row. A turn that is not makes half of it.
    streak: u32,
    /// In this turn, and who was first and last.
    senders: u32,
    first: usize,
    last: usize,
}

impl Burst {
    /// Of so many busy turns. With 0, every small send waits; with `u32::MAX`, none.
    pub fn new(patience: u32) -> Self {
        Burst { patience, streak: 0, senders: 0, first: 0, last: usize::MAX }
    }

    /// The connection with this number sends little. Returns whether that waits.
    #[inline]
    pub fn note(&mut self, n: usize) -> bool {
        if self.senders == 0 {
            self.first = n;
        }
        self.senders += u32::from(n != self.last);
        self.last = n;
        self.streak >= self.patience && (n != self.first || self.patience == 0)
    }

    /// The turn is over.
    #[inline]
    pub fn end_turn(&mut self) {
        let most = self.patience.saturating_mul(2);
        self.streak = if self.senders < MANY { self.streak / 2 } else { most.min(self.streak + 1) };
        self.senders = 0;
        self.last = usize::MAX;
    }
}
