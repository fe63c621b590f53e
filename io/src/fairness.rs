//! [`Fairness`]: a stream that is always ready must not keep its task from ever suspending.

use std::cell::Cell;

use aioli_core::{Loop, Result, sleep};

/// How many operations in one turn may complete without suspending.
const INLINE: u64 = 64;

/// Counts the operations of one direction of a stream that completed without suspending.
#[derive(Default, Debug)]
pub(crate) struct Fairness {
    /// The turn's last digits, and how many in it: one word, which is written at once.
    counted: Cell<u64>,
}

impl Fairness {
    /// Counts one more. Returns whether it has to [`give_way`] first.
    #[inline(always)]
    pub(crate) fn is_spent(&self, event_loop: &Loop) -> bool {
        let turn = event_loop.turn() << 32;
        let count = match self.counted.get() ^ turn {
            count if count >> 32 == 0 => count,
            _ => 0,
        };
        self.counted.set(turn | (count + 1));
        count >= INLINE
    }
}

/// Has everything else that is ready run first.
#[cold]
pub(crate) async fn give_way() -> Result<()> {
    sleep(0.0).await
}
