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
    /// Busy turns in a row. A turn in which few send makes half of it, and ends the burst.
    streak: u32,
    /// Who sends in this turn: a bit for each connection, which others may share.
    senders: u64,
    first: usize,
}

impl Burst {
    /// Of so many busy turns. With 0, every small send waits; with `u32::MAX`, none.
    pub fn new(patience: u32) -> Self {
        Burst { patience, streak: 0, senders: 0, first: 0 }
    }

    /// The connection with this number sends little. Returns whether that waits.
    #[inline]
    pub fn note(&mut self, n: usize) -> bool {
        if self.senders == 0 {
            self.first = n;
        }
        self.senders |= 1 << (n % 64);
        self.streak >= self.patience && (n != self.first || self.patience == 0)
    }

    /// The turn is over.
    #[inline]
    pub fn end_turn(&mut self) {
        if self.senders == 0 {
            return;
        }
        let most = self.patience.saturating_mul(2).saturating_sub(1);
        // With one sender, which is common, the bits need not be counted.
        let few = self.senders.is_power_of_two() || self.senders.count_ones() < MANY;
        self.streak = if few { self.streak / 2 } else { most.min(self.streak + 1) };
        self.senders = 0;
    }
}
