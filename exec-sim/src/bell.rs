//! [`Bell`]: what other threads ring.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use aioli_core::driver::Kick;

/// The handle by which other threads interrupt a wait. It takes a lock, which a signal handler must not: this machine has no signals.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    waiting: Condvar,
}

impl Bell {
    /// Whether it has rung since this was last asked.
    pub(crate) fn take(&self) -> bool {
        std::mem::take(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it rings, for a time of the real clock. Returns whether it has rung.
    pub(crate) fn wait_for(&self, patience: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.waiting.wait_timeout_while(rung, patience, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut rung)
    }
}

impl Kick for Bell {
    fn kick(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.waiting.notify_one();
    }
}
