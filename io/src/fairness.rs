//! [`Fairness`]: a stream that is always ready must not keep its task from ever suspending.

use std::cell::Cell;

use aioli_core::{Loop, Result, sleep};

/// How many operations in one turn may complete without suspending.
const INLINE: u32 = 64;

/// Counts the operations of one direction of a stream that completed without suspending.
#[derive(Default, Debug)]
pub(crate) struct Fairness {
    /// The turn's last digits: all of it would cost each connection another line of the caches.
    turn: Cell<u32>,
    count: Cell<u32>,
}

impl Fairness {
    /// Counts one more. Returns whether it has to [`give_way`] first.
    #[inline]
    pub(crate) fn is_spent(&self, event_loop: &Loop) -> bool {
        let turn = event_loop.turn() as u32;
        let count = if self.turn.replace(turn) == turn { self.count.get() } else { 0 };
        self.count.set(count + 1);
        count >= INLINE
    }
}

/// Has everything else that is ready run first.
#[cold]
pub(crate) async fn give_way() -> Result<()> {
    sleep(0.0).await
}
